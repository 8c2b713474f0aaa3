//! What every request passes before its handler: the table, the caller, the time limit. And what every
//! refusal passes on its way out: the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use houston_common::api::status::{from_status, unreadable_request};
use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;
use houston_common::log_limit::LogLimit;
use houston_common::tls::{ClockFloor, ConnectInfo};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::access::{self, Row, Who};
use super::peer::{self, Admitted};
use super::refused;
use crate::engine::Engine;

/// Which listener a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Without client certificates.
    Enrollment,
    /// With.
    Mutual,
}

#[derive(Debug, Clone)]
pub struct Gate {
    pub door: Door,
    pub engine: Engine,
    pub clock: ClockFloor,
    pub hold: Duration,
}

impl Gate {
    /// The row of a call that exists on this listener.
    fn row(&self, method: &str) -> Result<&'static Row, Status> {
        access::row_of(method)
            .filter(|row| (row.who == Who::Stranger) == (self.door == Door::Enrollment))
            .ok_or_else(|| Status::unimplemented(format!("there is no call {} here", quoted(method))))
    }

    async fn admit(&self, row: &'static Row, info: Option<&ConnectInfo>) -> Result<Admitted, Refusal> {
        if row.who == Who::Stranger {
            // Strangers do not reach the writer before they have passed their own limits.
            return Ok(Admitted::stranger());
        }
        let certificate = info.and_then(|info| info.peer.clone());
        let now = self.clock.now();
        self.engine.read(move |state, _| peer::judge(state, certificate.as_deref(), row, now)).await?
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: Arc::new(self.clone()), inner }
    }
}

#[derive(Debug, Clone)]
pub struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

type Response = http::Response<Body>;

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        // The one that was found ready is called; its clone waits for the next request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move {
            if !is_grpc(&request) {
                return Ok(no_call());
            }
            let method = request.uri().path().to_owned();
            let info = request.extensions().get::<ConnectInfo>().cloned();
            let response = match gate.row(&method) {
                Err(status) => status.into_http(),
                Ok(_) if is_too_late(&request) => refused(&too_late()).into_http(),
                Ok(row) => {
                    let limit = row.pace.limit(gate.hold);
                    let answer = async {
                        match gate.admit(row, info.as_ref()).await {
                            Err(refusal) => Ok(refused(&refusal).into_http()),
                            Ok(admitted) => {
                                request.extensions_mut().insert(admitted);
                                inner.call(request).await.map(in_our_words)
                            }
                        }
                    };
                    match tokio::time::timeout(limit, answer).await {
                        Ok(response) => response?,
                        Err(_) => refused(&too_slow(limit)).into_http(),
                    }
                }
            };
            log_refusal(&method, info.as_ref(), &response);
            Ok(response)
        })
    }
}

/// Whether the request says that it is a call: pages that a browser shows can send other kinds, with
/// the certificate that its user has chosen.
fn is_grpc<B>(request: &http::Request<B>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        matches!(kind.strip_prefix(b"application/grpc"), Some([]) | Some([b'+' | b';', ..]))
    })
}

fn no_call() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// Whether nobody waits for the answer any more: the time that the caller gave is none.
fn is_too_late<B>(request: &http::Request<B>) -> bool {
    let timeout = request.headers().get("grpc-timeout").map(http::HeaderValue::as_bytes);
    timeout
        .and_then(<[u8]>::split_last)
        .is_some_and(|(_unit, amount)| !amount.is_empty() && amount.iter().all(|digit| *digit == b'0'))
}

fn too_late() -> Refusal {
    Refusal::new(
        Code::Timeout,
        "the caller's deadline has passed; nothing was done",
        "give the call more time",
    )
}

/// The response, or the refusal of a request that the library could not read.
fn in_our_words(response: Response) -> Response {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(unreadable_request) {
        Some(refusal) => refused(&refusal).into_http(),
        None => response,
    }
}

fn too_slow(limit: Duration) -> Refusal {
    let what = format!("the call took longer than {} s", limit.as_secs());
    Refusal::new(Code::Timeout, what, "try again; if it happens again, look at the coordinator's load")
}

static STRANGERS: LogLimit = LogLimit::new();

/// One line for each call that was refused before its answer began; fewer where strangers call.
fn log_refusal(method: &str, info: Option<&ConnectInfo>, response: &Response) {
    let Some(status) = Status::from_header_map(response.headers()) else { return };
    if status.code() == tonic::Code::Ok {
        return;
    }
    let refusal = from_status(&status).refusal;
    let peer = info.and_then(|info| info.peer.as_ref()).map(|certificate| certificate.peer.to_string());
    let admitted = if peer.is_none() { STRANGERS.admit() } else { Some(0) };
    let Some(left_out) = admitted else { return };
    let peer = peer.or_else(|| info.map(|info| info.remote.to_string())).unwrap_or_default();
    let method = quoted(method);
    match refusal.code {
        Code::Internal | Code::Store => {
            tracing::error!(method, peer, code = %refusal.code, what = refusal.what, "refused a call")
        }
        _ => {
            tracing::info!(method, peer, code = %refusal.code, what = refusal.what, left_out, "refused a call")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> http::Request<()> {
        http::Request::builder().header(name, value).body(()).expect("a request")
    }

    #[test]
    fn a_deadline_of_nothing_has_passed() {
        for (timeout, passed) in [
            ("0n", true),
            ("00000000S", true),
            ("0m", true),
            ("1n", false),
            ("10S", false),
            ("n", false),
            ("", false),
        ] {
            assert_eq!(is_too_late(&with("grpc-timeout", timeout)), passed, "{timeout:?}");
        }
        assert!(!is_too_late(&http::Request::new(())), "who gives none has time");
    }

    #[test]
    fn a_call_says_that_it_is_one() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(&with("content-type", kind)), call, "{kind}");
        }
        assert!(!is_grpc(&http::Request::new(())));
    }
}
