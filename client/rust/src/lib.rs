//! Rust client of the Singletrack coordination server.
//!
//! Owns connections, the session and its stream, retries, and the leases that are kept in the
//! background; one method for each call, and one [`Error`] that says what a refusal means. It refuses to
//! match the text of messages.
//!
//! # Keeping a lease
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use singletrack::Client;
//!
//! # async fn tour() -> Result<(), singletrack::Error> {
//! let client = Client::builder("http://127.0.0.1:7420").holder("agent-7").build()?;
//! let lease = client.lease("repository/main").wait(Duration::from_secs(10)).acquire().await?;
//! tokio::select! {
//!     () = work(lease.token()) => {}
//!     // The safe deadline has passed, or the server says that it is lost: stop.
//!     state = lease.not_held() => eprintln!("no longer held: {state:?}"),
//! }
//! lease.release().await?;
//! # Ok(())
//! # }
//! # async fn work(_token: u64) {}
//! ```
//!
//! Without a ttl of its own a lease lives with the client's session, whose one keep-alive holds any
//! number of them. Calls travel on the session's stream ([`Transport`]); a stream that breaks is
//! resumed, and what was not answered is sent again under the same number, so nothing is done twice.
//! With [`Transport::Auto`] calls go over unary ones while no stream can be had.
//!
//! # The whole menu
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use singletrack::{Client, YieldAnswer};
//!
//! # async fn tour(client: Client) -> Result<(), singletrack::Error> {
//! // All three or none: a folder and all below it, a file to read, and 2 of 5 permits.
//! let lease = client
//!     .lease("src/auth")
//!     .subtree()
//!     .and("docs/plan.md")
//!     .shared()
//!     .and("machines")
//!     .permits(2, 5)
//!     .actor("agent-7/tests") // deadlocks are refused, and named
//!     .max_hold(Duration::from_secs(3_600))
//!     .wait(Duration::from_secs(60))
//!     .acquire()
//!     .await?;
//! // Somebody else needs it: say when it will be free, and give it back, or away.
//! if let Some(request) = lease.yield_requested().await {
//!     lease.answer_yield(&request, YieldAnswer::within(Duration::from_secs(30))).await?;
//!     let given = lease.transfer(request.holder).await?;
//!     // The other one goes on with `client.adopt(given.lease_id, given.token)`.
//!     # let _ = given;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Records and transactions
//!
//! A record is a value with a version that is never used twice. A write may say which version it
//! expects, carry the token of a lease, or both; a stale one is refused, and the refusal says what
//! is there instead.
//!
//! ```no_run
//! use singletrack::Client;
//!
//! # async fn tour(client: Client) -> Result<(), singletrack::Error> {
//! let order = client.record("orders/7/state");
//! let new = order.put("new").expect_absent().await?;
//! match order.put("packed").expect_version(new.version).await {
//!     Ok(_) => {}
//!     Err(error) => {
//!         if let Some(found) = error.version_mismatch() {
//!             eprintln!("somebody else wrote {:?}", found.value);
//!         }
//!         return Err(error);
//!     }
//! }
//! // Read, compute, write, and again if others were faster.
//! order.modify(|current| Some(format!("{}, labelled", current?.text()?))).await?;
//! // A counter knows its bounds, so that nobody sells what is not there.
//! let left = client.record("stock/screws").increment(-3).min(0).await?.value;
//! # let _ = left;
//!
//! // All of it at one moment, or nothing; the lease is held until then.
//! let lease = client.lease("orders/7").acquire().await?;
//! let shipped = client
//!     .transact()
//!     .holding(&lease)
//!     .put("orders/7/state", "shipped")
//!     .increment("orders/shipped", 1)
//!     .release(&lease)
//!     .await?;
//! println!("{:?} orders so far", shipped.incremented(1).map(|it| it.value));
//! # Ok(())
//! # }
//! ```
//!
//! # Call by call
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use singletrack::{Acquire, Client, Release};
//!
//! # async fn tour() -> Result<(), singletrack::Error> {
//! let client = Client::builder("http://127.0.0.1:7420").namespace("build-farm").build()?;
//!
//! // Ask for a lease, and wait for it for up to ten seconds.
//! let wish = Acquire::new("repository/main", "agent-7")
//!     .ttl(Duration::from_secs(30))
//!     .wait(Duration::from_secs(10));
//! let lease = match client.acquire(wish).await {
//!     Ok(lease) => lease,
//!     Err(error) => {
//!         // Who holds it, how long still, and what to do next.
//!         eprintln!("{error}");
//!         return Err(error);
//!     }
//! };
//!
//! // Hand `lease.token` to whatever you write to: a stale writer is told by its lower token.
//! client.renew_one(&lease.lease_id, lease.token).await?;
//! client.release(Release::of(&lease)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! Every method answers with the one [`Error`]. Ask it [`Error::reason`] for the server's word,
//! [`Error::may_have_happened`] before you do anything a second time, and
//! [`Error::is_retryable`] before you send again. A call that may have happened is repeated
//! with the [`Error::request_id`] it was sent under: the server then answers with the first
//! effect instead of a second one.

mod acquire;
mod client;
mod clock;
mod error;
mod facts;
mod handle;
mod health;
mod held;
mod lease;
mod life;
mod op;
mod record;
mod request;
mod request_id;
mod retry;
mod session;
mod show;
mod target;
mod transact;
mod wish;
mod yields;

pub use acquire::Acquire;
pub use bytes::Bytes;
pub use client::{
    Builder, Client, DEFAULT_SESSION_TTL, DEFAULT_TIMEOUT, DEFAULT_URL, MAX_WAIT, Transport,
};
pub use error::Error;
pub use facts::{Facts, FieldViolation, LeaseEnd, SessionEnd};
pub use handle::{LeaseHandle, NotTransferred};
pub use health::Health;
pub use held::{Deadlock, DeadlockRelation, DeadlockStep, Held, HeldBy, HeldWaiter, LimitMismatch};
pub use lease::{Abandoned, ForceReleased, Lease, Released, Renewed, Transferred};
pub use life::HoldState;
pub use record::{
    BoundLease, Delete, Deleted, FenceRequired, Increment, Incremented, ListProtections,
    ListRecords, MODIFY_ATTEMPTS, Modified, OutOfBounds, Protect, Protected, Protection,
    ProtectionPage, Put, Record, RecordHandle, RecordPage, Records, Snapshot, Unprotect,
    Unprotected, Value, VersionMismatch, Written,
};
pub use request::{Fence, ForceRelease, List, ListWaiters, Release, Renewal, Transfer};
pub use request_id::new_request_id;
pub use show::{Check, Holders, LeaseInfo, Page, Stats, WaiterInfo, WaiterPage};
pub use singletrack_proto::{Reason, Retry};
pub use target::{Mode, Reach, Target};
pub use transact::{Transact, TransactOperation, TransactReply, Transacted, When};
pub use wish::LeaseWish;
pub use yields::{AnswerYield, RequestYield, YieldAnswer, YieldRequest, YieldStatus};
