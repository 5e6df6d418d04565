//! The session: one task that owns the stream, keeps the session alive, and carries every call
//! through broken streams.
//!
//! - `task`: the loop, and how it connects
//! - `calls`: what is under way, what was answered, what is given up
//! - `acks`: what the server need not remember any more
//! - `wire`: frames in bytes

mod acks;
mod calls;
mod task;
mod wire;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use singletrack_proto::v1::operation::Operation;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub(crate) use self::calls::safe_until;
use crate::{Client, Error, life::Life, retry::Answered};

/// Orders that wait for the task; more wait for room.
const ORDERS: usize = 4_096;

/// The way to a session's task. The task ends, and closes the session, when this is dropped.
pub(crate) struct Session {
    orders: mpsc::Sender<Order>,
    id: Arc<Mutex<Option<String>>>,
}

/// What the task is asked for.
enum Order {
    /// To carry a call to its answer.
    Ask(Box<Ask>),
    /// To close the session, and tell when that is done.
    Close(oneshot::Sender<Result<(), Error>>),
}

/// A call to be carried.
struct Ask {
    op: Operation,
    /// When its caller stops waiting.
    ends: Instant,
    /// Until when it goes on waiting for a lease; `None`: one wait is all.
    patience: Option<Instant>,
    /// The life of the lease that it may get: told from the moment of the grant.
    life: Option<Weak<Life>>,
    /// Its caller; `None`: nobody waits for the answer.
    reply: Option<oneshot::Sender<Result<Answered, Error>>>,
}

// === impl Session ===

impl Session {
    /// Starts the task. Nothing is sent before it is asked for something.
    pub(crate) fn start(client: &Client) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| {
            Error::usage("expected a tokio runtime, found none", "call from within a runtime")
        })?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let id = Arc::new(Mutex::new(None));
        runtime.spawn(task::Task::new(client, inbox, Arc::clone(&id)).run());
        Ok(Self { orders, id })
    }

    /// The session's id, while there is one.
    pub(crate) fn id(&self) -> Option<String> {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a call carried to its answer.
    pub(crate) async fn ask(&self, op: Operation, ends: Instant) -> Result<Answered, Error> {
        self.carry(op, ends, None, None).await
    }

    /// Has an acquire carried to its answer, waiting as long as that takes; `life` is told of
    /// the grant before anything that may end it.
    pub(crate) async fn acquire(
        &self,
        op: Operation,
        ends: Instant,
        patience: Instant,
        life: &Arc<Life>,
    ) -> Result<Answered, Error> {
        self.carry(op, ends, Some(patience), Some(Arc::downgrade(life))).await
    }

    async fn carry(
        &self,
        op: Operation,
        ends: Instant,
        patience: Option<Instant>,
        life: Option<Weak<Life>>,
    ) -> Result<Answered, Error> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { op, ends, patience, life, reply: Some(reply) };
        self.orders.send(Order::Ask(Box::new(ask))).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Has a call carried that nobody waits for. False: there is no room for it now.
    pub(crate) fn ask_quietly(&self, op: Operation, ends: Instant) -> bool {
        let ask = Ask { op, ends, patience: None, life: None, reply: None };
        self.orders.try_send(Order::Ask(Box::new(ask))).is_ok()
    }

    /// Closes the session, if one is open.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        self.orders.send(Order::Close(done)).await.map_err(|_| gone())?;
        closed.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The task ends only with the runtime.
fn gone() -> Error {
    Error::session_gone("expected the session's task to answer, found that it has ended")
}
