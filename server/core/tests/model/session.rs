//! Sessions: what lives with one ends with it, at once.

use singletrack_core::{
    command::OpenSession,
    refusal::{LeaseEnd, SessionEnd},
    types::{LeaseId, SessionId},
};

use super::{Life, Met, Model, Session, Told, Waiter, life_of};

impl Model {
    pub(super) fn session(&self, id: SessionId) -> &Session {
        self.sessions.iter().find(|it| it.id == id).expect("it is there while anything lives")
    }

    pub(super) fn open(&mut self, namespace: &str, open: &OpenSession) -> Told {
        self.sessions.push(Session {
            namespace: namespace.into(),
            id: open.session_id,
            ttl: open.ttl.ms(),
            renewed: self.now,
            end: None,
        });
        Told::SessionOpened
    }

    pub(super) fn keep_alive(&mut self, namespace: &str, id: SessionId) -> Told {
        let now = self.now;
        let known = self.sessions.iter_mut().find(|it| it.namespace == namespace && it.id == id);
        match known.filter(|it| it.end.is_none()) {
            None => Told::SessionLost,
            Some(session) => {
                session.renewed = now;
                Told::SessionKept(session.ttl)
            }
        }
    }

    pub(super) fn close(&mut self, namespace: &str, id: SessionId) -> Told {
        let known = self.sessions.iter().find(|it| it.namespace == namespace && it.id == id);
        match known.map(|it| it.end) {
            None | Some(Some((SessionEnd::Expired, _))) => Told::SessionLost,
            Some(Some((SessionEnd::Closed, _))) => Told::SessionClosed { replayed: true },
            Some(None) => {
                self.end_session(id, SessionEnd::Closed);
                Told::SessionClosed { replayed: false }
            }
        }
    }

    pub(super) fn end_session(&mut self, id: SessionId, end: SessionEnd) {
        let now = self.now;
        let session = self.sessions.iter_mut().find(|it| it.id == id).unwrap();
        session.end = Some((end, now));
        let of = Life::Session(id);
        let leases: Vec<LeaseId> =
            self.leases.iter().filter(|it| it.life == of).map(|it| it.id).collect();
        if !leases.is_empty() {
            self.met.push(Met::SessionEndedLeases);
        }
        for lease in leases {
            let end = match end {
                SessionEnd::Closed => LeaseEnd::Released,
                SessionEnd::Expired => LeaseEnd::Expired,
            };
            self.end(lease, end);
        }
        let (lost, kept): (Vec<Waiter>, Vec<Waiter>) =
            self.waiters.drain(..).partition(|it| life_of(&it.acquire) == of);
        self.waiters = kept;
        for waiter in lost {
            // With a fence lost in the same moment, it may be told of that.
            if self.stale(&waiter.namespace, &waiter.fences).is_some() {
                self.or_stale.extend(waiter.calls.iter().map(|it| it.0));
            }
            self.told.extend(waiter.calls.iter().map(|it| (it.0, Told::SessionLost)));
        }
    }
}
