//! The connection: where the server is, the namespace, deadlines, and how one call is sent.
//!
//! Owns every setting of the transport. Refuses to retry: a call is sent once.

use std::{future::Future, time::Duration};

use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

use crate::Error;

/// Where a server listens unless it is told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7420";

/// How long a call may take, apart from the time it asked to wait.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait of one call; a longer one is the same call again.
pub const MAX_WAIT: Duration = Duration::from_secs(50);

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

/// A handle on one server and one namespace. Clones share the connection and cost little.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    namespace: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

/// What [`Client::builder`] gathers.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder {
    url: String,
    namespace: Option<String>,
    timeout: Duration,
    connect_timeout: Duration,
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
            url: url.into(),
            namespace: None,
            timeout: DEFAULT_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// The same connection, in another namespace.
    ///
    /// # Errors
    /// When `namespace` is not 1..128 characters of `[A-Za-z0-9._-]`.
    pub fn with_namespace(&self, namespace: &str) -> Result<Self, Error> {
        Ok(Self { namespace: Some(parse_namespace(namespace)?), ..self.clone() })
    }

    /// The same connection with another time limit for each call.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Puts the namespace and the deadline on a message.
    pub(crate) fn request<Q>(&self, message: Q, deadline: Duration) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(namespace) = &self.namespace {
            request.metadata_mut().insert(NAMESPACE_KEY, namespace.clone());
        }
        // Anything longer makes the transport panic.
        request.set_timeout(deadline.min(DEADLINE_MAX));
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

// === impl Builder ===

impl Builder {
    /// The namespace of every call: 1..128 characters of `[A-Za-z0-9._-]`; `default` if absent.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How long a call may take, apart from the time it asked to wait.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long making a connection may take.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The client. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the URL or the namespace is not legal.
    pub fn build(self) -> Result<Client, Error> {
        let namespace = self.namespace.as_deref().map(parse_namespace).transpose()?;
        let channel = Endpoint::from(parse_url(&self.url)?)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .connect_lazy();
        Ok(Client { channel, namespace, timeout: self.timeout })
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
            let client = Client::builder("http://127.0.0.1:1").timeout(timeout).build().unwrap();
            assert!(client.ping().await.unwrap_err().was_never_sent());
            let wish = crate::Acquire::new("r", "ada").wait(Duration::MAX);
            assert!(client.acquire(wish).await.unwrap_err().was_never_sent());
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_was_never_asked() {
        // Port 1 is reserved and nobody listens there.
        let client = Client::connect("http://127.0.0.1:1").unwrap();
        let error = client.ping().await.unwrap_err();
        assert!(error.was_never_sent() && error.is_retryable() && !error.may_have_happened());
        assert!(!error.is_from_server() && error.reason().is_none());
    }
}
