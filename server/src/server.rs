//! The life of a server: bind, serve, drain, stop.
//!
//! Owns sockets, connections and their limits, health, and the order of a shutdown. What is
//! answered on a connection is `api`'s.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    admin::{self, Pages, Probe},
    api::{
        Ask,
        accept::{self, Backoff, Greeting},
        guests::{self, SERVICES},
        layer::{Calls, Edge},
    },
    config::Config,
    files,
    store::StoreError,
    telemetry::Metrics,
    track::Handle,
};

/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 1_024;
/// Streams the peer may reset before they were looked at (rapid reset).
const PENDING_RESETS_MAX: usize = 20;
/// Streams that may be reset by us for the peer's errors; unset would mean: any number.
const ERROR_RESETS_MAX: usize = 1_024;
/// Bytes of the headers of one call.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Bytes under way on one stream.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes under way on one connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Silence after which a peer is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers may take on their way out once the last call is answered.
const FLUSH_TIME: Duration = Duration::from_millis(250);
/// How long calls may take to learn that the store has failed.
const FATAL_TIME: Duration = Duration::from_millis(500);
/// How long closing the store may take at least, however short the grace.
const CLOSE_TIME_MIN: Duration = Duration::from_secs(5);
/// How often the log says that everybody may connect.
const INSECURE_REMINDER: Duration = Duration::from_secs(60 * 60);

/// A started track, as the edge needs it.
pub struct Running<A> {
    /// Answers questions.
    pub track: A,
    /// Resolves when the track or its store can't go on. Dropping the sender counts as well.
    pub fatal: oneshot::Receiver<StoreError>,
    /// The track's heart beats.
    pub alive: Probe,
    /// Makes the track accept no more and answer parked waits with SHUTTING_DOWN. Must not
    /// block.
    pub drain: Box<dyn FnOnce() + Send>,
    /// Ends the track and closes the store. May block.
    pub close: Box<dyn FnOnce() + Send>,
}

/// A server that is bound and has not begun to serve.
#[derive(Debug)]
pub struct Server<A = Handle> {
    config: Config,
    listener: TcpListener,
    local: SocketAddr,
    admin: Admin,
    running: Running<A>,
    metrics: Arc<Metrics>,
}

/// The admin pages. They are served from before the store is opened, as that may take a while.
#[derive(Default)]
struct Admin {
    address: Option<SocketAddr>,
    /// Serves them until dropped.
    tasks: JoinSet<()>,
    /// Set once there is a track.
    alive: Arc<OnceLock<Probe>>,
    ready: Arc<AtomicBool>,
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be had.
    #[error(
        "can't listen on {address}: {source}; stop whatever uses it or choose another with --listen"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The store can't be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A panic while the store was opened or the machine recovered.
    #[error("the start panicked; this is a bug: report it with the log")]
    Bug,
}

/// Why a server ended other than by its shutdown.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store can't go on; what was being written may or may not be durable.
    #[error("the store failed: {0}; restart the server, it reads the truth from the disk")]
    Store(StoreError),
    /// The store was not closed in time. Everything acknowledged is durable.
    #[error(
        "the store was not closed within {0:?}; everything acknowledged is durable, the next start reads it"
    )]
    Stuck(Duration),
    /// The track ended without a word: a bug.
    #[error("the track ended unexpectedly; report this with the log, and restart the server")]
    Track,
}

// === impl Server ===

impl Server {
    /// Opens the store, starts the track and binds the addresses. An admin address that is
    /// taken is a warning.
    ///
    /// # Errors
    /// When the store can't be opened or the address can't be had.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::new();
        // The address first: it is quickly tried, and a second server on one machine most
        // often fails there.
        let listener = listen(&config).await?;
        let admin = Admin::start(&config, &metrics).await;
        // Blocks for as long as recovery takes.
        let (settings, meters) = (config.clone(), metrics.clone());
        let starting = move || crate::start::start_track(&settings, &meters);
        let started = tokio::task::spawn_blocking(starting).await;
        let running = started.map_err(|_| StartError::Bug)??;
        Self::with_listener(config, listener, admin, running, metrics)
    }
}

impl<A: Ask> Server<A> {
    /// As [`Server::bind`], with a track that somebody else has started.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn bind_to(
        config: Config,
        running: Running<A>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let listener = listen(&config).await?;
        let admin = Admin::start(&config, &metrics).await;
        Self::with_listener(config, listener, admin, running, metrics)
    }

    fn with_listener(
        config: Config,
        listener: TcpListener,
        admin: Admin,
        running: Running<A>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let local = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        Ok(Self { config, listener, local, admin, running, metrics })
    }

    /// Where gRPC is served.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Where the admin pages are served; `None`: they are off, or the address was taken.
    #[must_use]
    pub const fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.address
    }

    /// Serves until `shutdown` resolves, then drains: at most the configured grace.
    ///
    /// # Errors
    /// When the store or the track fails, within a second.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let Self { config, listener, local, admin, running, metrics } = self;
        let Running { track, mut fatal, alive, drain, close } = running;
        let calls = Arc::new(Calls::default());
        // It is set once, here.
        let _first = admin.alive.set(alive);
        admin.ready.store(true, Ordering::Release);
        let (health, others) = guests::all(config.reflection);
        let edge = Edge::new(track, others, metrics.clone(), calls.clone());
        set_health(&health, ServingStatus::Serving).await;
        let mut background = JoinSet::new();
        background.spawn(admin::fold(metrics.clone()));
        background.spawn(remind(config.clone(), local));
        let connections_max = files::connections_within_limit(config.max_connections);
        let mut port = Port::new(listener, edge, connections_max, metrics);
        tracing::info!(address = %local, "serving");

        let failed = tokio::select! {
            () = shutdown => None,
            failed = &mut fatal => Some(failed),
            () = port.serve() => None,
        };
        admin.ready.store(false, Ordering::Release);
        set_health(&health, ServingStatus::NotServing).await;
        calls.close();
        port.stop_accepting();
        drain();
        let failed = match failed {
            Some(failed) => {
                port.drain(&calls, FATAL_TIME).await;
                Some(failed)
            }
            None => {
                tracing::info!(grace = ?config.shutdown_grace, "draining");
                tokio::select! {
                    () = port.drain(&calls, config.shutdown_grace) => None,
                    failed = &mut fatal => Some(failed),
                }
            }
        };
        // Drops every connection that is left, and with them whatever is still waiting.
        drop(port);
        drop((background, admin));
        finish(failed, close, config.shutdown_grace.max(CLOSE_TIME_MIN)).await
    }
}

async fn finish(
    failed: Option<Result<StoreError, oneshot::error::RecvError>>,
    close: Box<dyn FnOnce() + Send>,
    close_time: Duration,
) -> Result<(), ServeError> {
    let Some(failed) = failed else {
        return match timeout(close_time, tokio::task::spawn_blocking(close)).await {
            Ok(Ok(())) => {
                tracing::info!("stopped");
                Ok(())
            }
            Ok(Err(_)) => Err(ServeError::Track),
            Err(_) => Err(ServeError::Stuck(close_time)),
        };
    };
    // A failed store is not closed: it is left as it is, for the next start to read. Letting go
    // of the track joins its threads, and one may hang in the disk: nobody waits for that.
    drop(tokio::task::spawn_blocking(move || drop(close)));
    match failed {
        Ok(error) => {
            tracing::error!(%error, "the store failed");
            Err(ServeError::Store(error))
        }
        Err(_) => {
            tracing::error!("the track ended unexpectedly");
            Err(ServeError::Track)
        }
    }
}

impl<A> fmt::Debug for Running<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

async fn listen(config: &Config) -> Result<TcpListener, StartError> {
    let address = config.listen;
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

async fn listen_admin(config: &Config) -> Option<(TcpListener, SocketAddr)> {
    let address = config.admin_listen?;
    let bound = match TcpListener::bind(address).await {
        Ok(listener) => listener.local_addr().map(|local| (listener, local)),
        Err(error) => Err(error),
    };
    match bound {
        Ok((listener, local)) => {
            tracing::info!(address = %local, "admin pages: /livez, /readyz, /metrics");
            Some((listener, local))
        }
        Err(error) => {
            tracing::warn!(%address, %error, "the admin address can't be had: going on without admin pages; choose another with --admin-listen, or `off`");
            None
        }
    }
}

// === impl Admin ===

impl Admin {
    /// Begins to serve the pages: alive, not ready.
    async fn start(config: &Config, metrics: &Arc<Metrics>) -> Self {
        let mut admin = Self::default();
        if let Some((listener, address)) = listen_admin(config).await {
            admin.address = Some(address);
            admin.tasks.spawn(admin::serve(listener, admin.pages(metrics.clone())));
        }
        admin
    }

    fn pages(&self, metrics: Arc<Metrics>) -> Pages {
        let alive = self.alive.clone();
        let live: Probe = Arc::new(move || alive.get().is_none_or(|alive| alive()));
        let (is_live, is_ready) = (live.clone(), self.ready.clone());
        let ready: Probe = Arc::new(move || is_ready.load(Ordering::Acquire) && is_live());
        Pages { live, ready, metrics }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}

/// Says at start and each hour that anybody may do anything, if that is so.
async fn remind(config: Config, local: SocketAddr) {
    if !config.is_exposed() {
        return;
    }
    let mut hours = interval(INSECURE_REMINDER);
    loop {
        hours.tick().await;
        tracing::warn!(address = %local, "--insecure-bind: everybody who reaches this address may do everything, unencrypted and unauthenticated");
    }
}

// === impl Port ===

/// The gRPC port: a listener and the connections it gave.
struct Port<A: Ask> {
    incoming: Option<tonic::transport::server::TcpIncoming>,
    backoff: Backoff,
    edge: Edge<A>,
    permits: Arc<Semaphore>,
    connections: JoinSet<()>,
    goodbye: tokio::sync::watch::Sender<bool>,
    metrics: Arc<Metrics>,
    full: bool,
}

impl<A: Ask> Port<A> {
    fn new(
        listener: TcpListener,
        edge: Edge<A>,
        connections_max: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            incoming: Some(accept::incoming(listener)),
            backoff: Backoff::new(),
            edge,
            permits: Arc::new(Semaphore::new(connections_max)),
            connections: JoinSet::new(),
            goodbye: tokio::sync::watch::Sender::new(false),
            metrics,
            full: false,
        }
    }

    /// Accepts and serves connections; ends only if the listener does.
    async fn serve(&mut self) {
        loop {
            let Some(incoming) = &mut self.incoming else { return };
            tokio::select! {
                connection = accept::next(incoming, &mut self.backoff) => {
                    let Some(connection) = connection else { return };
                    self.admit(connection);
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn admit(&mut self, connection: TcpStream) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.metrics.connections_refused.increment(1);
            // Once per flood, not once per connection.
            if !std::mem::replace(&mut self.full, true) {
                let peer = accept::peer(&connection);
                tracing::warn!(
                    peer,
                    "too many connections: closing new ones; see --max-connections"
                );
            }
            return;
        };
        self.full = false;
        let edge = self.edge.clone();
        let goodbye = self.goodbye.subscribe();
        let open = Open::new(self.metrics.clone());
        self.connections.spawn(async move {
            let _held = (permit, open);
            converse(connection, edge, goodbye).await;
        });
    }

    /// Closes the listening socket: new connections are refused by the system.
    fn stop_accepting(&mut self) {
        self.incoming = None;
    }

    /// Says goodbye on every connection and waits until they are closed, or until no call is
    /// left (a connection that never began, or a health watch, is not waited for); at most
    /// `grace`.
    async fn drain(&mut self, calls: &Calls, grace: Duration) {
        self.goodbye.send_replace(true);
        let connections = &mut self.connections;
        let all_closed = async { while connections.join_next().await.is_some() {} };
        let all_answered = async {
            calls.none_left().await;
            sleep(FLUSH_TIME).await;
        };
        let done = async {
            tokio::select! {
                () = all_closed => {}
                () = all_answered => {}
            }
        };
        if timeout(grace, done).await.is_err() {
            tracing::warn!(
                ?grace,
                "calls were still under way when the grace ended; dropping them"
            );
        }
    }
}

/// Counts an open connection.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections.increment(1.0);
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.decrement(1.0);
    }
}

/// Serves one connection until it is closed.
async fn converse<A: Ask>(
    connection: TcpStream,
    edge: Edge<A>,
    mut goodbye: tokio::sync::watch::Receiver<bool>,
) {
    let peer = accept::peer(&connection);
    match accept::greeting(&connection).await {
        Greeting::Http2 => {}
        Greeting::Other => {
            tracing::debug!(peer, "a peer spoke something else than HTTP/2");
            return accept::explain(connection).await;
        }
        Greeting::Nothing => {
            tracing::debug!(peer, "a connection stayed silent; closing it");
            return;
        }
    }
    let mut connection =
        std::pin::pin!(protocol().serve_connection(TokioIo::new(connection), edge));
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = said(&mut goodbye) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer, %error, "a connection ended with an error");
    }
}

/// Resolves when it is time to say goodbye, or when nobody is left to say so.
async fn said(goodbye: &mut tokio::sync::watch::Receiver<bool>) {
    drop(goodbye.wait_for(|said| *said).await);
}

/// HTTP/2 with every limit set: some that are left unset mean "any number".
fn protocol() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .adaptive_window(false)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(false);
    builder
}
