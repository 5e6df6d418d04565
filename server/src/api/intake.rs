//! Requests that are being read: how many bytes all of them together may hold, and how long one
//! may take. A message is gathered whole before anything can be said about it, so without this
//! a peer could hold 2 MiB a call by never sending the last byte.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Status, codegen::StdError};

/// Bytes of requests that are not yet whole, of all connections together.
pub(crate) const READING_BYTES_MAX: usize = 256 << 20;
/// How long a request may take from its headers to its last byte.
const READING_TIME: Duration = Duration::from_secs(10);
/// What the status of a request says that met the bound; it never leaves the server.
pub(crate) const FULL: &str = "bytes of requests being read";

/// What all requests being read hold.
#[derive(Debug)]
pub(crate) struct Reading {
    bytes: AtomicUsize,
    maximum: usize,
}

/// The body of one request. Dropped once its message is whole.
pub(crate) struct Metered<B> {
    body: B,
    held: Held,
    /// Only what is half there is in a hurry: a stream may be silent for as long as it likes.
    is_stream: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

/// What one request holds; of a stream, since its last whole frame.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<Share>);

#[derive(Debug)]
struct Share {
    bytes: AtomicUsize,
    reading: Arc<Reading>,
}

// === impl Reading ===

impl Reading {
    pub(crate) fn new(maximum: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), maximum })
    }

    pub(crate) fn meter<B>(self: &Arc<Self>, body: B) -> Metered<B> {
        Metered { body, held: Held::new(self), is_stream: false, alarm: None }
    }
}

// === impl Held ===

impl Held {
    pub(crate) fn new(reading: &Arc<Reading>) -> Self {
        Self(Arc::new(Share { bytes: AtomicUsize::new(0), reading: Arc::clone(reading) }))
    }

    /// Meters the body of a stream.
    pub(crate) fn meter<B>(&self, body: B) -> Metered<B> {
        Metered { body, held: self.clone(), is_stream: true, alarm: None }
    }

    /// A frame has become whole: what it held is given back. What has come of the next one by
    /// then is given back too; a few KiB at most, as a body hands on what it has.
    pub(crate) fn release(&self) {
        let bytes = self.0.bytes.swap(0, Ordering::Relaxed);
        self.0.reading.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) == 0
    }

    /// Counts what has come; false: there is no room for it.
    fn add(&self, bytes: usize) -> bool {
        let Share { bytes: held, reading } = &*self.0;
        held.fetch_add(bytes, Ordering::Relaxed);
        reading.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= reading.maximum
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.reading.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

// === impl Metered ===

impl<B> Metered<B> {
    /// The first poll that finds nothing starts the clock: most requests are there at once.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_stream && self.held.is_empty() {
            self.alarm = None;
            return false;
        }
        self.alarm.get_or_insert_with(|| Box::pin(sleep(READING_TIME))).as_mut().poll(cx).is_ready()
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if self.held.add(bytes) {
                    Poll::Ready(Some(Ok(frame)))
                } else {
                    Poll::Ready(Some(Err(Status::resource_exhausted(FULL).into())))
                }
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.is_late(cx) => {
                let what = format!("it was not whole after {} s", READING_TIME.as_secs());
                Poll::Ready(Some(Err(Status::unavailable(what).into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    /// A body that never says anything.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = StdError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
            Poll::Pending
        }
    }

    fn status(error: StdError) -> Status {
        *error.downcast::<Status>().unwrap()
    }

    #[tokio::test]
    async fn what_all_requests_hold_is_bounded_and_given_back() {
        let reading = Reading::new(10);
        let full = |bytes: usize| Full::new(Bytes::from(vec![0; bytes]));
        let mut first = reading.meter(full(6));
        first.frame().await.unwrap().unwrap();
        let mut second = reading.meter(full(6));
        let refused = status(second.frame().await.unwrap().unwrap_err());
        assert_eq!((refused.code(), refused.message()), (tonic::Code::ResourceExhausted, FULL));
        drop((first, second));
        reading.meter(full(10)).frame().await.unwrap().unwrap();
        assert_eq!(reading.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_never_whole_is_given_up() {
        let mut body = Reading::new(10).meter(Silent);
        let refused = status(body.frame().await.unwrap().unwrap_err());
        assert_eq!(refused.code(), tonic::Code::Unavailable);
    }
}
