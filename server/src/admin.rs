//! The admin port: `/livez`, `/readyz` and `/metrics` over HTTP/1.1, apart from the gRPC port.
//!
//! Owns those three pages. Shows nothing else and changes nothing.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{interval, timeout},
};

use crate::{
    api::accept::{self, Backoff},
    telemetry::Metrics,
};

/// Connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How often observed values are folded into their buckets.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Asked whether something holds right now; must not block.
pub type Probe = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// The track's heart beats.
    pub live: Probe,
    /// Calls are accepted and can be answered.
    pub ready: Probe,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
}

/// Serves the pages until dropped.
pub async fn serve(listener: TcpListener, pages: Pages) {
    let mut incoming = accept::incoming(listener);
    let mut backoff = Backoff::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            connection = accept::next(&mut incoming, &mut backoff) => {
                let Some(connection) = connection else { return };
                let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
                let pages = pages.clone();
                connections.spawn(async move {
                    let answer = service_fn(move |request: Request<Incoming>| {
                        let page = pages.page(request.method(), request.uri().path());
                        async move { Ok::<_, Infallible>(page) }
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(connection), answer);
                    // Whatever goes wrong here is the peer's affair.
                    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
                    drop(permit);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Folds metrics until dropped.
pub async fn fold(metrics: Arc<Metrics>) {
    let mut ticks = interval(FOLD_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.fold();
    }
}

// === impl Pages ===

impl Pages {
    fn page(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are known here\n".into(),
            );
        }
        match path {
            "/livez" => said(&self.live, "live", "not live: the track's heart has stopped"),
            "/readyz" => said(&self.ready, "ready", "not ready: starting, stopping or failed"),
            "/metrics" => text(StatusCode::OK, self.metrics.render()),
            _ => text(
                StatusCode::NOT_FOUND,
                "no such page; there are /livez, /readyz and /metrics\n".into(),
            ),
        }
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

fn said(probe: &Probe, yes: &str, no: &str) -> Response<Full<Bytes>> {
    if probe() {
        text(StatusCode::OK, format!("{yes}\n"))
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{no}\n"))
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
