//! Accepting connections without spinning: pauses that grow while the system has no
//! descriptors or memory left; and a look at the first bytes before HTTP/2 is begun.
//!
//! Owns the pauses, socket options and the greeting; how many connections there may be is the
//! server's.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::TcpIncoming;

/// First pause after a failed accept.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause after failed accepts.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Silence after which the kernel asks whether the other side is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// What a client of HTTP/2 says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a new connection may take to say it.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a preface is looked at that is not complete.
const PEEK_INTERVAL: Duration = Duration::from_millis(20);
/// How long telling a peer what this port is may take.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(1);

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

/// What a peer says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// The preface of HTTP/2, which is still there to be read.
    Http2,
    /// Something else: HTTP/1.1 or TLS, most likely.
    Other,
    /// Nothing, or not enough, within [`GREETING_TIMEOUT`].
    Nothing,
}

/// Waits for a peer's first bytes without reading them. hyper has no time limit of its own
/// for a preface.
pub(crate) async fn greeting(connection: &TcpStream) -> Greeting {
    timeout(GREETING_TIMEOUT, greeted(connection)).await.unwrap_or(Greeting::Nothing)
}

async fn greeted(connection: &TcpStream) -> Greeting {
    let mut bytes = [0; PREFACE.len()];
    loop {
        match connection.peek(&mut bytes).await {
            Ok(0) | Err(_) => return Greeting::Nothing,
            Ok(count) => match bytes.get(..count) {
                Some(begun) if !PREFACE.starts_with(begun) => return Greeting::Other,
                Some(begun) if begun.len() < PREFACE.len() => sleep(PEEK_INTERVAL).await,
                Some(_) | None => return Greeting::Http2,
            },
        }
    }
}

/// Tells a peer that doesn't speak HTTP/2 what this port is.
pub(crate) async fn explain(mut connection: TcpStream) {
    const BODY: &str = "this port speaks gRPC over HTTP/2 without TLS; try `grpcurl -plaintext`, or the admin port for /livez, /readyz and /metrics\n";
    let head = "HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{BODY}", BODY.len());
    let told = async {
        connection.write_all(answer.as_bytes()).await?;
        connection.shutdown().await?;
        // Closing with unread bytes would take the answer back.
        let mut rest = [0; 1_024];
        while connection.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // A courtesy: whatever goes wrong with it is the peer's affair.
    let _ = timeout(EXPLAIN_TIMEOUT, told).await;
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
