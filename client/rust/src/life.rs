//! What a holder may believe: held until a safe deadline, uncertain after it, lost by the server's
//! word alone.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::sync::Notify;

use crate::{Error, YieldRequest, clock::Moment};

/// Whether a lease may be believed to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// The server can't have given it to another yet.
    Held,
    /// The safe deadline has passed: it must not be acted upon. It is held again if the server
    /// says so.
    Uncertain,
    /// The server says that it is lost.
    Lost,
}

/// The life of a lease, or of a session.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// The safe deadline, on the clock that runs through suspend.
    until: AtomicU64,
    lost: OnceLock<Error>,
    changed: Notify,
    /// The session that it lives with.
    session: OnceLock<Arc<Life>>,
    /// Its longest hold: not to be believed beyond, whatever its session does.
    ends: OnceLock<Moment>,
    yields: Mutex<Yields>,
}

/// Who asks for it.
#[derive(Debug, Default)]
struct Yields {
    /// Requests that nobody was told of yet.
    untold: VecDeque<YieldRequest>,
    /// Those that came, newest last, by their number and when they were asked: each is told once.
    /// A server that was restarted counts anew.
    known: VecDeque<(u64, Moment)>,
}

/// Requests remembered: more than the server keeps of one lease.
const YIELDS_KNOWN: usize = 64;
/// Two of one number that were asked further apart are two. One too many is told twice, which is
/// harmless; one too few would not be told at all.
const YIELDS_APART: Duration = Duration::from_secs(2);

/// A safe deadline is looked at this often at least: the runtime's timers stand still while the
/// machine sleeps.
const LOOK: Duration = Duration::from_millis(500);

// === impl Life ===

impl Life {
    /// From now on it lives with a session.
    pub(crate) fn bind(&self, session: &Arc<Self>) {
        // A lease is bound once; a replay binds it to the same one.
        let _bound = self.session.set(Arc::clone(session));
    }

    /// It is not to be believed beyond this moment, whatever its session does.
    pub(crate) fn end_at(&self, end: Moment) {
        // A replay is told of the same grant: the first word is as good.
        let _first = self.ends.set(end);
    }

    /// Somebody asks for it. Each request is told once.
    pub(crate) fn ask_for(&self, request: YieldRequest) {
        let (number, asked) = (request.number, Moment::now().minus(request.asked));
        let is_same = |&(known, then): &(u64, Moment)| {
            known == number && asked <= then.plus(YIELDS_APART) && then <= asked.plus(YIELDS_APART)
        };
        let mut yields = self.yields.lock().unwrap_or_else(PoisonError::into_inner);
        if request.answer.is_some() || yields.known.iter().any(is_same) {
            return;
        }
        if yields.known.len() == YIELDS_KNOWN {
            yields.known.pop_front();
        }
        yields.known.push_back((number, asked));
        yields.untold.push_back(request);
        drop(yields);
        self.changed.notify_waiters();
    }

    /// Resolves with the next request for it that was not told yet; `None`: it is lost.
    pub(crate) async fn asked_for(&self) -> Option<YieldRequest> {
        loop {
            let mut changes = pin!(self.changes());
            let changed = poll_immediate(&mut changes).await;
            if self.lost().is_some() {
                return None;
            }
            if let Some(next) = self.next_untold() {
                return Some(next);
            }
            if !changed {
                let _or_sooner = tokio::time::timeout(LOOK, changes).await;
            }
        }
    }

    fn next_untold(&self) -> Option<YieldRequest> {
        self.yields.lock().unwrap_or_else(PoisonError::into_inner).untold.pop_front()
    }

    /// It is held until this moment at least.
    pub(crate) fn extend(&self, until: Moment) {
        self.until.fetch_max(until.micros(), Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// It is lost, by the server's word.
    pub(crate) fn lose(&self, error: Error) {
        // The first word says why.
        let _first = self.lost.set(error);
        self.changed.notify_waiters();
    }

    pub(crate) fn lost(&self) -> Option<&Error> {
        let session = self.session.get().and_then(|session| session.lost.get());
        self.lost.get().or(session)
    }

    /// The safe deadline: its own or its session's, whichever is later, within its longest hold.
    pub(crate) fn until(&self) -> Moment {
        let session = self.session.get().map_or(0, |life| life.until.load(Ordering::Acquire));
        let until = Moment::from_micros(self.until.load(Ordering::Acquire).max(session));
        self.ends.get().map_or(until, |ends| until.min(*ends))
    }

    pub(crate) fn state(&self) -> HoldState {
        if self.lost().is_some() {
            HoldState::Lost
        } else if self.until().left() > Duration::ZERO {
            HoldState::Held
        } else {
            HoldState::Uncertain
        }
    }

    /// Resolves when it is held no longer, as far as may be known here.
    pub(crate) async fn not_held(&self) -> HoldState {
        loop {
            // Listening begins before looking, so that no change falls between the two.
            let mut changes = pin!(self.changes());
            let changed = poll_immediate(&mut changes).await;
            match self.state() {
                HoldState::Held => {}
                other @ (HoldState::Uncertain | HoldState::Lost) => return other,
            }
            if !changed {
                let look = self.until().left().min(LOOK);
                let _or_sooner = tokio::time::timeout(look, changes).await;
            }
        }
    }

    /// Resolves when the server says that it is lost.
    pub(crate) async fn loss(&self) -> Error {
        loop {
            let mut changes = pin!(self.changes());
            let changed = poll_immediate(&mut changes).await;
            if let Some(error) = self.lost() {
                return error.clone();
            }
            if !changed {
                let _or_sooner = tokio::time::timeout(LOOK, changes).await;
            }
        }
    }

    /// Resolves with the next change after it was first polled.
    async fn changes(&self) {
        match self.session.get() {
            None => self.changed.notified().await,
            Some(session) => {
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = session.changed.notified() => {}
                }
            }
        }
    }
}

/// Polls once: true if that was enough.
async fn poll_immediate(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_ready())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_is_held_then_uncertain_and_held_again() {
        let life = Life::default();
        assert_eq!(life.state(), HoldState::Uncertain, "nothing is known yet");
        life.extend(Moment::now().plus(Duration::from_millis(80)));
        assert_eq!(life.state(), HoldState::Held);
        assert_eq!(life.not_held().await, HoldState::Uncertain);
        life.extend(Moment::now().plus(Duration::from_secs(60)));
        assert_eq!(life.state(), HoldState::Held, "the server said so");
    }

    #[tokio::test]
    async fn what_lives_with_a_session_is_lost_with_it() {
        let (session, lease) = (Arc::new(Life::default()), Life::default());
        lease.bind(&session);
        session.extend(Moment::now().plus(Duration::from_secs(60)));
        assert_eq!(lease.state(), HoldState::Held, "the session's keep-alive holds it");
        session.lose(Error::session_gone("gone"));
        assert_eq!(lease.not_held().await, HoldState::Lost);
        assert_eq!(lease.loss().await.message(), "gone");
        lease.extend(Moment::now().plus(Duration::from_secs(60)));
        assert_eq!(lease.state(), HoldState::Lost, "lost stays lost");
    }

    #[test]
    fn what_has_a_longest_hold_is_not_believed_beyond_it_though_its_session_lives() {
        let (session, lease) = (Arc::new(Life::default()), Life::default());
        lease.bind(&session);
        session.extend(Moment::now().plus(Duration::from_secs(60)));
        let end = Moment::now().plus(Duration::from_secs(5));
        lease.end_at(end);
        lease.extend(Moment::now().plus(Duration::from_secs(3)));
        assert_eq!(lease.until(), end);
        session.extend(Moment::now().plus(Duration::from_secs(600)));
        assert_eq!(lease.until(), end);
    }

    #[tokio::test]
    async fn each_request_to_yield_is_told_once_and_none_when_it_is_lost() {
        let life = Life::default();
        let asked = |number, asked_ms| {
            let info = singletrack_proto::v1::YieldInfo { number, asked_ms, ..Default::default() };
            YieldRequest::from_wire(info)
        };
        let request = |number| asked(number, 0);
        for number in [7, 7, 8, 7] {
            life.ask_for(request(number));
        }
        assert_eq!(life.asked_for().await.map(|it| it.number), Some(7));
        assert_eq!(life.asked_for().await.map(|it| it.number), Some(8));
        let (next, ()) = tokio::join!(life.asked_for(), async {
            tokio::task::yield_now().await;
            life.ask_for(request(9));
        });
        assert_eq!(next.map(|it| it.number), Some(9));
        // Of another server, which counts anew: the number is known, the request is not.
        life.ask_for(asked(11, 60_000));
        life.ask_for(asked(11, 60_001));
        life.ask_for(asked(11, 0));
        assert_eq!(life.asked_for().await.map(|it| it.asked), Some(Duration::from_secs(60)));
        assert_eq!(life.asked_for().await.map(|it| it.asked), Some(Duration::ZERO));
        life.ask_for(request(10));
        life.lose(Error::session_gone("gone"));
        assert_eq!(life.asked_for().await, None);
    }

    #[test]
    fn a_shorter_answer_takes_nothing_back() {
        let life = Life::default();
        let far = Moment::now().plus(Duration::from_secs(60));
        life.extend(far);
        life.extend(Moment::now());
        assert_eq!(life.until(), far);
    }
}
