//! Agents that take and give back leases through the Rust client, and note what they sent and what
//! they were told. The client carries their calls as it does for its users: it sends them again,
//! resumes its session, falls back to unary calls. What is right is the oracle's to say.

use std::time::Duration;

use singletrack::{Acquire, Client, Error, Lease, Reason, Release};

use crate::{
    oracle::{Claim, Event, History},
    random::Random,
};

/// So long that no lease runs out during a test: the oracle counts on that.
pub(crate) const LONG: Duration = Duration::from_secs(600);
const HOT_RESOURCES: u64 = 3;

/// One of them. It holds at most one lease at a time.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) random: Random,
    pub(crate) history: History,
    /// Its leases live with the session.
    pub(crate) with_session: bool,
}

// === impl Agent ===

impl Agent {
    /// Goes round as long as `goes_on` says so, told how often it went.
    pub(crate) async fn work(mut self, mut goes_on: impl FnMut(usize) -> bool) {
        let mut cycle = 0;
        while goes_on(cycle) {
            let call = format!("{}/{cycle}", self.name);
            if let Some(lease) = self.acquire(&call).await {
                if self.random.percent(30) {
                    self.renew(&lease).await;
                }
                self.release(&lease).await;
            }
            cycle += 1;
        }
    }

    async fn acquire(&mut self, call: &str) -> Option<Lease> {
        let resource = if self.random.percent(60) {
            format!("hot/{}", self.random.within(0..HOT_RESOURCES))
        } else {
            format!("own/{}", self.name)
        };
        // A shared lease that was granted twice stays behind: nobody is refused because of it.
        let shared = self.random.percent(40);
        let wait = if self.random.percent(60) { self.random.within(1..300) } else { 0 };
        let mut wish = Acquire::new(&resource, &self.name).wait(Duration::from_millis(wait));
        wish = if self.with_session { wish.with_session() } else { wish.ttl(LONG) };
        if shared {
            wish = wish.shared();
        }
        let claim = if shared { Claim::shared(resource) } else { Claim::exclusive(resource) };
        self.history.push(Event::AcquireSent { call: call.to_owned(), claims: vec![claim] });
        match self.client.acquire(wish).await {
            Ok(lease) => {
                self.history.push(Event::Granted {
                    call: call.to_owned(),
                    lease_id: lease.lease_id.clone(),
                    token: lease.token,
                    replayed: lease.replayed,
                });
                return Some(lease);
            }
            Err(error) => match error.reason() {
                Some(Reason::Held | Reason::StillWaiting) => {
                    let reason = error.reason_name().to_owned();
                    self.history.push(Event::AcquireRefused { call: call.to_owned(), reason });
                }
                Some(_) | None => self.unexpected("acquire", &error),
            },
        }
        None
    }

    async fn renew(&self, lease: &Lease) {
        let answer = if self.with_session {
            self.client.get_by_id(lease.lease_id.clone()).await.map(drop)
        } else {
            self.client.renew_one(lease.lease_id.clone(), lease.token).await.map(drop)
        };
        let refused = answer.err().map(|error| error.reason_name().to_owned());
        self.history.push(Event::RenewAnswered { lease_id: lease.lease_id.clone(), refused });
    }

    async fn release(&self, lease: &Lease) {
        let lease_id = lease.lease_id.clone();
        self.history.push(Event::ReleaseSent { lease_id: lease_id.clone() });
        let answer = self.client.release(Release::of(lease)).await;
        let refused = answer.err().map(|error| error.reason_name().to_owned());
        self.history.push(Event::ReleaseAnswered { lease_id, refused });
    }

    fn unexpected(&self, call: &str, error: &Error) {
        let what = format!("{call} of {}: {error}", self.name);
        self.history.push(Event::Unexpected { what });
    }
}
