//! The driver with real threads, over a disk with faults.

use std::{
    sync::{Arc, mpsc},
    task::Poll,
};

use singletrack_core::{
    command::{AcquireLease, LeaseKey, LeaseRef, Lifetime},
    refusal::Refusal,
    reply::{Grant, Renewed, Reply},
    types::{
        CommandHash, Holder, LeaseId, Mode, Namespace, Priority, RequestHash, RequestMark,
        ResourceName, Target, Targets, Ttl,
    },
};

use super::{super::step::OUTSTANDING_MAX, *};
use crate::{
    store::{committer::Meters, memory::Disk},
    track::{LaneLimits, Question},
};

struct Rig {
    disk: Disk,
    track: Option<Track>,
    handle: Handle,
    fatal: mpsc::Receiver<Fatal>,
}

impl Rig {
    fn new() -> Self {
        Self::over(Disk::new(), TrackConfig::default())
    }

    fn over(disk: Disk, config: TrackConfig) -> Self {
        let clock = Clock::start();
        let opened = disk.open(1).unwrap();
        let (tell, fatal) = mpsc::sync_channel(1);
        let on_fatal = Box::new(move |fatal| tell.send(fatal).unwrap());
        let options = committer::Options::default();
        let meters = (TrackMeters::default(), Meters::default());
        let track = Track::start(&config, opened, options, clock, 1, meters, on_fatal).unwrap();
        Self { disk, handle: track.handle(), track: Some(track), fatal }
    }
}

impl Drop for Rig {
    /// A test that fails while the disk stands still must not wait for it for ever.
    fn drop(&mut self) {
        self.disk.resume();
    }
}

fn question(command: Command) -> Question {
    Question {
        namespace: Namespace::default(),
        mark: None,
        of: None,
        age_ms: 0,
        fences: Box::default(),
        command,
    }
}

/// One resource, exactly.
fn only(name: &str, mode: Mode) -> Targets {
    Targets::one(Target::exact(ResourceName::parse(name).unwrap(), mode))
}

/// What a renewal of one lease is answered that nobody wants.
fn renewed(remaining_ms: u64) -> Reply {
    Reply::Renewed([Ok(Renewed { remaining_ms, yield_requests: 0 })].into())
}

fn acquire(name: &str, id: u8, wait_ms: u64) -> Question {
    question(Command::AcquireLease(AcquireLease {
        lease_id: LeaseId([id; 16]),
        holder: Holder::parse("h").unwrap(),
        targets: only(name, Mode::Exclusive),
        lifetime: Lifetime::Ttl(Ttl::parse(60_000).unwrap()),
        wait_ms,
        keep_ms: 10_000,
        priority: Priority::default(),
        terms: None,
    }))
}

fn marked(mut question: Question, id: u8) -> Question {
    question.mark = Some(RequestMark { id: RequestHash([id; 16]), command: CommandHash([id; 16]) });
    question
}

fn holders(name: &str) -> Question {
    question(Command::GetLease(LeaseKey::Resource(ResourceName::parse(name).unwrap())))
}

fn grant(answer: Result<Reply, CallError>) -> Grant {
    match answer {
        Ok(Reply::Acquired(grant)) => grant,
        other => panic!("no grant: {other:?}"),
    }
}

/// Asks until what is asked for is so; every answer is an awaited event.
async fn until(handle: &Handle, name: &str, so: impl Fn(u32, u32) -> bool) {
    let asking = async {
        loop {
            let Ok(Reply::Found(found)) = handle.call(holders(name)).await else {
                panic!("the track is gone")
            };
            if so(found.holder_count, found.waiter_count) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.expect("it comes about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_taken_and_handed_over() {
    let rig = Rig::new();
    let first = grant(rig.handle.call(acquire("a", 1, 0)).await);
    let waiting = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(acquire("a", 2, 10_000)).await }
    });
    until(&rig.handle, "a", |_, waiters| waiters == 1).await;
    let lease = LeaseRef { lease_id: first.lease_id, token: first.token };
    rig.handle.call(question(Command::ReleaseLease(lease))).await.unwrap();
    assert!(grant(waiting.await.unwrap()).token > first.token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_ends_its_wait() {
    let rig = Rig::new();
    grant(rig.handle.call(acquire("a", 1, 0)).await);
    let waiting = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(acquire("a", 2, 50_000)).await }
    });
    until(&rig.handle, "a", |_, waiters| waiters == 1).await;
    waiting.abort();
    until(&rig.handle, "a", |_, waiters| waiters == 0).await;
    let forgotten = async {
        while rig.handle.caller_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("nothing is left of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_sent_and_never_looked_at_is_returned() {
    let rig = Rig::new();
    rig.disk.stall();
    let mut asking = Box::pin(rig.handle.call(acquire("a", 1, 0)));
    let begun = std::future::poll_fn(|context| Poll::Ready(asking.as_mut().poll(context)));
    assert!(begun.await.is_pending());
    rig.disk.resume();
    // Answers leave in order: this one after the grant.
    until(&rig.handle, "a", |holders, _| holders == 1).await;
    drop(asking);
    until(&rig.handle, "a", |holders, _| holders == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_for_what_is_being_written() {
    let rig = Rig::new();
    rig.disk.stall();
    let writing = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(acquire("a", 1, 0)).await }
    });
    rig.disk.await_stalled();
    rig.handle.close();
    // Long enough for the track to look at it many times.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!writing.is_finished(), "SHUTTING_DOWN would say that nothing happened");
    rig.disk.resume();
    grant(writing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_without_request_id_to_a_dropped_call_is_returned() {
    let rig = Rig::new();
    rig.disk.stall();
    let asking = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(acquire("a", 1, 0)).await }
    });
    rig.disk.await_stalled();
    // Decided, not durable, and the caller goes.
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    rig.disk.resume();
    until(&rig.handle, "a", |holders, _| holders == 0).await;
    // With a request id it stays, for the caller to ask again.
    rig.disk.stall();
    let asking = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(marked(acquire("b", 2, 0), 2)).await }
    });
    rig.disk.await_stalled();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    rig.disk.resume();
    let again = grant(rig.handle.call(marked(acquire("b", 3, 0), 2)).await);
    assert!(again.replayed && again.lease_id == LeaseId([2; 16]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_store_ends_the_track_and_leaves_the_outcome_open() {
    let rig = Rig::new();
    grant(rig.handle.call(acquire("a", 1, 0)).await);
    rig.disk.fail_append(0);
    let answer = rig.handle.call(acquire("b", 2, 0)).await;
    assert_eq!(answer, Err(CallError::OutcomeUnknown));
    let fatal = rig.fatal.recv_timeout(Duration::from_secs(1)).expect("told within a second");
    assert!(matches!(fatal, Fatal::Store(StoreError::OutcomeUnknown(_))), "{fatal}");
    let answer = rig.handle.call(acquire("c", 3, 0)).await;
    assert_eq!(answer, Err(CallError::ShuttingDown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_queued_calls_are_refused_by_name() {
    let lanes = LaneLimits { namespace: 3, total: 100 };
    let rig = Rig::over(Disk::new(), TrackConfig { lanes, ..TrackConfig::default() });
    rig.disk.stall();
    let (tell, mut told) = tokio::sync::mpsc::channel(200);
    for id in 0..200 {
        let (handle, tell) = (rig.handle.clone(), tell.clone());
        tokio::spawn(async move {
            let answer = handle.call(acquire(&format!("r{id}"), id, 0)).await;
            tell.send(answer).await.unwrap();
        });
    }
    drop(tell);
    // One call alone or three make an entry, so many entries are under way, three calls queue.
    for _ in 0..200 - 3 * (OUTSTANDING_MAX + 1) {
        let answer = told.recv().await.unwrap();
        assert!(
            matches!(answer, Err(CallError::Overloaded { maximum: 3, .. })),
            "only overload is answered while the disk stands still: {answer:?}"
        );
    }
    rig.disk.resume();
    let mut granted = 0;
    while let Some(answer) = told.recv().await {
        match answer {
            Ok(Reply::Acquired(_)) => granted += 1,
            Err(CallError::Overloaded { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(granted >= 3, "what had been queued is carried out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_answers_whoever_waits_and_keeps_what_was_granted() {
    let mut rig = Rig::new();
    grant(rig.handle.call(marked(acquire("a", 1, 0), 1)).await);
    let waiting = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(marked(acquire("a", 2, 50_000), 2)).await }
    });
    until(&rig.handle, "a", |_, waiters| waiters == 1).await;
    let track = rig.track.take().unwrap();
    tokio::task::spawn_blocking(move || track.stop()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Err(CallError::ShuttingDown));
    assert_eq!(rig.handle.call(holders("a")).await, Err(CallError::ShuttingDown));
    let again = Rig::over(rig.disk.clone(), TrackConfig::default());
    assert!(grant(again.handle.call(marked(acquire("a", 3, 0), 1)).await).replayed);
    let refused = again.handle.call(acquire("a", 4, 0)).await;
    assert!(matches!(refused, Err(CallError::Refused(Refusal::Held(_)))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_track_that_was_asked_to_end_is_no_failure() {
    let mut rig = Rig::new();
    grant(rig.handle.call(acquire("a", 1, 0)).await);
    rig.handle.close();
    // The thread ends by itself, while the server is still busy saying goodbye.
    let thread = rig.track.as_ref().unwrap().thread.as_ref().unwrap();
    while !thread.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.fatal.try_recv().unwrap_err(), mpsc::TryRecvError::Empty);
    rig.track.take().unwrap().stop();
    assert_eq!(rig.fatal.try_recv().unwrap_err(), mpsc::TryRecvError::Disconnected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_are_answered_while_the_disk_stands_still() {
    let rig = Rig::new();
    let held = grant(rig.handle.call(acquire("a", 1, 0)).await);
    rig.disk.stall();
    let writing = tokio::spawn({
        let handle = rig.handle.clone();
        async move { handle.call(acquire("b", 2, 0)).await }
    });
    rig.disk.await_stalled();
    let lease = LeaseRef { lease_id: held.lease_id, token: held.token };
    let answer = rig.handle.call(question(Command::RenewLeases([lease].into()))).await;
    assert_eq!(answer, Ok(renewed(60_000)));
    assert!(!writing.is_finished());
    rig.disk.resume();
    grant(writing.await.unwrap());
}

#[test]
fn handles_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    let rig = Rig::new();
    shared(&rig.handle);
    drop(Arc::new(rig.handle.clone()));
}

#[path = "line_tests.rs"]
mod lines;
