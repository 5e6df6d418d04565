//! The connection: where the server is, the namespace, deadlines, and how one call is sent.
//!
//! Owns every setting of the transport, and what clones share. How often a call is sent is
//! `retry`'s, what goes on a stream is `session`'s.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use crate::{Error, session::Session};

/// Where a server listens unless it is told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7420";

/// How long a call may take, apart from the time it asked to wait.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait of one call; a longer one is the same call again.
pub const MAX_WAIT: Duration = Duration::from_secs(50);

/// How long a session lasts without being kept alive, unless the builder says otherwise.
pub const DEFAULT_SESSION_TTL: Duration = Duration::from_secs(15);

const NAMESPACE_KEY: &str = "singletrack-namespace";
const NAMESPACE_LENGTH_MAX: usize = 128;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The transport watches the deadline too. This bounds what it doesn't: a body that never ends.
const LOCAL_GRACE: Duration = Duration::from_millis(500);

/// What `grpc-timeout` can say is eight digits and a unit; this is so many seconds, three years.
const DEADLINE_MAX: Duration = Duration::from_secs(99_999_999);

/// How calls travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// On the stream of a session, which is many times faster; over unary calls when no stream
    /// can be had.
    #[default]
    Auto,
    /// Over unary calls alone.
    Unary,
    /// On the stream of a session alone.
    Session,
}

/// A handle on a server and one namespace. Clones share connections and session, and cost little.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

/// What clones share.
struct Shared {
    endpoints: Vec<Endpoint>,
    channels: Vec<Channel>,
    /// Which of them calls go to.
    place: AtomicUsize,
    namespace: Option<MetadataValue<Ascii>>,
    holder: Option<String>,
    session_ttl: Duration,
    transport: Transport,
    retries: bool,
    session: OnceLock<Result<Session, Error>>,
}

/// What [`Client::builder`] gathers.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    urls: Vec<String>,
    namespace: Option<String>,
    timeout: Duration,
    connect_timeout: Duration,
    holder: Option<String>,
    session_ttl: Duration,
    transport: Transport,
    retries: bool,
}

// === impl Client ===

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:7420`, in namespace `default`.
    ///
    /// Nothing is sent yet: the connection is made by the first call and, when it is lost, by
    /// the next one.
    ///
    /// # Errors
    /// When `url` is not of the form `http://host:port`.
    pub fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// As [`Client::connect`], with more to say.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            urls: vec![url.into()],
            namespace: None,
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            holder: None,
            session_ttl: DEFAULT_SESSION_TTL,
            transport: Transport::Auto,
            retries: true,
        }
    }

    /// The same connections, in another namespace, with a session of its own.
    ///
    /// # Errors
    /// When `namespace` is not 1..128 characters of `[A-Za-z0-9._-]`.
    pub fn with_namespace(&self, namespace: &str) -> Result<Self, Error> {
        let shared = &self.shared;
        let shared = Shared {
            endpoints: shared.endpoints.clone(),
            channels: shared.channels.clone(),
            place: AtomicUsize::new(shared.place.load(Ordering::Relaxed)),
            namespace: Some(parse_namespace(namespace)?),
            holder: shared.holder.clone(),
            session_ttl: shared.session_ttl,
            transport: shared.transport,
            retries: shared.retries,
            session: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared), timeout: self.timeout })
    }

    /// The same client with another time limit for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The id of the session, while there is one. Whoever knows it can end the session.
    #[must_use]
    pub fn session_id(&self) -> Option<String> {
        self.shared.session.get()?.as_ref().ok()?.id()
    }

    /// Closes the session, if there is one: whatever lives with it is released. The next call
    /// that needs a session opens a new one.
    ///
    /// # Errors
    /// What every call may meet. A session that is lost already is no error.
    pub async fn close(&self) -> Result<(), Error> {
        match self.shared.session.get() {
            Some(Ok(session)) => session.close().await,
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// The session, begun by the first call that needs it.
    pub(crate) fn session(&self) -> Result<&Session, Error> {
        let begin = || Session::start(self);
        self.shared.session.get_or_init(begin).as_ref().map_err(Clone::clone)
    }

    /// A client with the same connections and no session: for the session's own task, which must
    /// not keep itself alive, and calls nothing but unary calls by it.
    pub(crate) fn without_session(&self) -> Self {
        let shared = &self.shared;
        let shared = Shared {
            endpoints: shared.endpoints.clone(),
            channels: shared.channels.clone(),
            place: AtomicUsize::new(shared.place.load(Ordering::Relaxed)),
            namespace: shared.namespace.clone(),
            holder: shared.holder.clone(),
            session_ttl: shared.session_ttl,
            transport: shared.transport,
            retries: shared.retries,
            session: OnceLock::new(),
        };
        Self { shared: Arc::new(shared), timeout: self.timeout }
    }

    /// The channel that calls go to at present.
    pub(crate) fn channel(&self) -> Channel {
        self.channel_and_place().1
    }

    pub(crate) fn channel_and_place(&self) -> (usize, Channel) {
        let at = self.shared.place.load(Ordering::Relaxed) % self.shared.channels.len();
        let channel = self.shared.channels.get(at).expect("there is at least one endpoint");
        (at, channel.clone())
    }

    /// Calls go to the next endpoint from now on, unless another call has turned already.
    pub(crate) fn turn_from(&self, at: usize) {
        let next = (at + 1) % self.shared.channels.len();
        let place = &self.shared.place;
        let _turned = place.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The endpoint that attempt `number` of a stream goes to.
    pub(crate) fn endpoint(&self, number: usize) -> Endpoint {
        let at = number % self.shared.endpoints.len();
        self.shared.endpoints.get(at).expect("there is at least one endpoint").clone()
    }

    pub(crate) fn transport(&self) -> Transport {
        self.shared.transport
    }

    pub(crate) fn retries(&self) -> bool {
        self.shared.retries
    }

    pub(crate) fn session_ttl(&self) -> Duration {
        self.shared.session_ttl
    }

    /// Who acts, unless a call says otherwise.
    pub(crate) fn holder(&self) -> String {
        self.shared.holder.clone().unwrap_or_else(|| format!("process-{}", std::process::id()))
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Puts the namespace and the deadline on a message.
    pub(crate) fn request<Q>(&self, message: Q, deadline: Duration) -> Request<Q> {
        let mut request = self.endless_request(message);
        // Anything longer makes the transport panic.
        request.set_timeout(deadline.min(DEADLINE_MAX));
        request
    }

    /// Puts the namespace on a message.
    pub(crate) fn endless_request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(namespace) = &self.shared.namespace {
            request.metadata_mut().insert(NAMESPACE_KEY, namespace.clone());
        }
        request
    }

    /// Awaits the answer of one call, for a bounded time.
    pub(crate) async fn finish<A>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Error> {
        let limit = deadline.saturating_add(LOCAL_GRACE);
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(Error::from_status(status)),
            Err(_elapsed) => Err(Error::deadline_passed()),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.shared;
        let uris: Vec<_> = shared.endpoints.iter().map(Endpoint::uri).collect();
        f.debug_struct("Client")
            .field("endpoints", &uris)
            .field("transport", &shared.transport)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

// === impl Builder ===

impl Builder {
    /// A further server of the same store, for when the first can't be reached.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The namespace of every call: 1..128 characters of `[A-Za-z0-9._-]`; `default` if absent.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How long a call may take with all its retries, apart from the time it asked to wait.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long making a connection may take.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Who acts: a stable name of 1..256 characters, shown to others. `process-PID` if absent.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = Some(holder.into());
        self
    }

    /// How long the session lasts without being kept alive: 1 s to 24 h, 15 s if absent. It is
    /// kept alive every third of that.
    pub const fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = ttl;
        self
    }

    /// How calls travel.
    pub const fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Whether a call is sent again that may be: yes, if this is not said. See [`Error::retry`].
    pub const fn retries(mut self, retries: bool) -> Self {
        self.retries = retries;
        self
    }

    /// The client. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a URL or the namespace is not legal.
    pub fn build(self) -> Result<Client, Error> {
        let namespace = self.namespace.as_deref().map(parse_namespace).transpose()?;
        let mut endpoints = Vec::with_capacity(self.urls.len());
        for url in &self.urls {
            endpoints.push(
                Endpoint::from(parse_url(url)?)
                    .connect_timeout(self.connect_timeout)
                    .tcp_nodelay(true)
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
                    .keep_alive_timeout(KEEP_ALIVE_TIMEOUT),
            );
        }
        let shared = Shared {
            channels: endpoints.iter().map(Endpoint::connect_lazy).collect(),
            endpoints,
            place: AtomicUsize::new(0),
            namespace,
            holder: self.holder,
            session_ttl: self.session_ttl,
            transport: self.transport,
            retries: self.retries,
            session: OnceLock::new(),
        };
        Ok(Client { shared: Arc::new(shared), timeout: self.timeout })
    }
}

fn parse_url(url: &str) -> Result<Uri, Error> {
    let refuse = |what: &str| {
        Error::usage(
            format!("expected a server URL of the form http://host:port, found {url:?}: {what}"),
            format!("give a URL such as {DEFAULT_URL}"),
        )
    };
    let uri: Uri = url.parse().map_err(|_| refuse("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(refuse("TLS is not supported yet")),
        Some(_) | None => return Err(refuse("it does not begin with http://")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(refuse("it has no host"));
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return Err(refuse("it has no port"));
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
        return Err(refuse("it goes on after the port"));
    }
    Ok(uri)
}

fn parse_namespace(namespace: &str) -> Result<MetadataValue<Ascii>, Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=NAMESPACE_LENGTH_MAX).contains(&namespace.len());
    if !fits || !namespace.chars().all(legal) {
        return Err(Error::usage(
            format!(
                "expected a namespace of 1 to {NAMESPACE_LENGTH_MAX} characters of [A-Za-z0-9._-], \
                 found {namespace:?}"
            ),
            "give another namespace, or none for \"default\"",
        ));
    }
    Ok(namespace.parse().expect("letters, digits and ._- are legal in metadata"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Client, parse_namespace, parse_url};

    #[test]
    fn a_url_with_host_and_port_is_accepted() {
        for url in ["http://127.0.0.1:7420", "http://localhost:1/", "http://[::1]:7420"] {
            parse_url(url).unwrap();
        }
    }

    #[test]
    fn any_other_url_is_refused_with_its_fault() {
        for (url, fault) in [
            ("", "not a URL"),
            ("localhost:7420", "does not begin with http://"),
            ("127.0.0.1", "does not begin with http://"),
            ("https://localhost:7420", "TLS"),
            ("ftp://localhost:7420", "does not begin with http://"),
            ("http://localhost", "no port"),
            ("http://localhost:0", "no port"),
            ("http://localhost:7420/v1", "goes on after the port"),
            ("http://local host:7420", "not a URL"),
        ] {
            let error = parse_url(url).unwrap_err();
            assert!(error.message().contains(fault), "{url:?}: {error}");
            assert!(!error.may_have_happened() && !error.is_retryable() && !error.is_from_server());
        }
    }

    #[test]
    fn a_namespace_with_other_characters_is_refused_before_it_is_sent() {
        parse_namespace("a.b_C-9").unwrap();
        for namespace in ["", "a b", "a/b", "ä", "x\n", &"n".repeat(129)] {
            parse_namespace(namespace).unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_timeout_without_end_is_no_panic() {
        for timeout in [Duration::MAX, Duration::from_secs(100_000_000)] {
            let client = Client::builder("http://127.0.0.1:1")
                .timeout(timeout)
                .transport(super::Transport::Unary)
                .retries(false)
                .build()
                .unwrap();
            assert!(client.ping().await.unwrap_err().was_never_sent());
            let wish = crate::Acquire::new("r", "ada").wait(Duration::MAX);
            assert!(client.acquire(wish).await.unwrap_err().was_never_sent());
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_was_never_asked() {
        // Port 1 is reserved and nobody listens there.
        let client =
            Client::builder("http://127.0.0.1:1").retries(false).transport(super::Transport::Unary);
        let client = client.build().unwrap();
        let error = client.ping().await.unwrap_err();
        assert!(error.was_never_sent() && error.is_retryable() && !error.may_have_happened());
        assert!(!error.is_from_server() && error.reason().is_none());
    }
}
