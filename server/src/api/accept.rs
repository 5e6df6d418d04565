//! Accepting connections without spinning: pauses that grow while the system has no
//! descriptors or memory left.
//!
//! Owns the pauses and socket options; how many connections there may be is the server's.

use std::{io, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;

/// First pause after a failed accept.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause after failed accepts.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Silence after which the kernel asks whether the other side is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long to pause after failed accepts: doubles, and begins anew after a success.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

/// Connections with our socket options.
pub(crate) fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE))
}

/// The next connection; pauses after failures and tries again. `None`: there will be no more.
///
/// May be dropped at any point without losing a connection.
pub(crate) async fn next<T>(
    incoming: &mut (impl Stream<Item = io::Result<T>> + Unpin),
    backoff: &mut Backoff,
) -> Option<T> {
    loop {
        match incoming.next().await? {
            Ok(connection) => {
                backoff.reset();
                return Some(connection);
            }
            // The peer gave up while it was in the queue: nothing is wrong here.
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                let pause = backoff.grow();
                tracing::warn!(%error, ?pause, "can't accept connections for now");
                sleep(pause).await;
            }
        }
    }
}

/// The peer's address, for logs.
pub(crate) fn peer(connection: &TcpStream) -> String {
    connection.peer_addr().map_or_else(|_| "unknown".into(), |peer| peer.to_string())
}

fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            // Socket options of a connection that is gone already.
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}

// === impl Backoff ===

impl Backoff {
    /// No failure so far.
    pub(crate) const fn new() -> Self {
        Self { pause: PAUSE_MIN }
    }

    fn reset(&mut self) {
        self.pause = PAUSE_MIN;
    }

    fn grow(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn no_descriptors() -> io::Error {
        // EMFILE has no kind of its own in the standard library.
        io::Error::from_raw_os_error(24)
    }

    #[tokio::test(start_paused = true)]
    async fn failed_accepts_are_followed_by_growing_pauses() {
        let results = (0..9).map(|_| Err(no_descriptors())).chain([Ok(7)]);
        let mut incoming = tokio_stream::iter(results);
        let mut backoff = Backoff::new();
        let before = Instant::now();
        assert_eq!(next(&mut incoming, &mut backoff).await, Some(7));
        // 10 + 20 + 40 + 80 + 160 + 320 + 640 + 1000 + 1000
        assert_eq!(before.elapsed().as_millis(), 3_270);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_makes_pauses_short_again() {
        let failure = || Err(no_descriptors());
        let mut incoming = tokio_stream::iter([failure(), failure(), Ok(1), failure(), Ok(2)]);
        let mut backoff = Backoff::new();
        assert_eq!(next(&mut incoming, &mut backoff).await, Some(1));
        let before = Instant::now();
        assert_eq!(next(&mut incoming, &mut backoff).await, Some(2));
        assert_eq!(before.elapsed().as_millis(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_gave_up_costs_no_pause() {
        let aborted = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        let mut incoming = tokio_stream::iter([aborted(), aborted(), Ok(1)]);
        let before = Instant::now();
        assert_eq!(next(&mut incoming, &mut Backoff::new()).await, Some(1));
        assert_eq!(before.elapsed().as_millis(), 0);
    }
}
