//! Asks Prometheus, or whatever speaks its HTTP API, for the values that gates wait for. What it hears is
//! handed to the writer; whether a gate opens is judged there (`rollout::gates`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use houston_common::error::{Code, Refusal, chain};
use houston_common::id::quoted;
use houston_common::policy::gate::{Metric, Number};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::engine::Engine;
use crate::rollout::gates;

#[cfg(test)]
mod tests;

/// How often a gate's query is asked while the gate is waited at.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// A query that takes longer is no answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// One number is small; an answer with thousands of series is a wrong query.
const BODY_BYTES_MAX: usize = 256 << 10;
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Where it listens: `http://HOST:PORT`, with a path before `/api/v1` if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    authority: String,
    path: String,
}

impl FromStr for Url {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refuse = |what: &str| {
            let next = "write it as in http://127.0.0.1:9090; put a proxy in front of one that needs https";
            Refusal::new(Code::ConfigValue, format!("prometheus is \"{}\": {what}", quoted(text)), next)
        };
        let uri: hyper::Uri = text.parse().map_err(|_| refuse("that is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(refuse("only http is spoken"));
        }
        if uri.query().is_some() {
            return Err(refuse("a query does not belong there"));
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| refuse("it names no host, or a user"))?;
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { authority, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Asks for as long as the coordinator serves. Without a URL nobody is asked, and gates say so.
pub async fn ask_for_gates(engine: Engine, url: Option<Url>) {
    let mut ticks = tokio::time::interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(wanted) = engine.read(|state, _| gates::queries(state)).await else { return };
        let mut asked = JoinSet::new();
        for (environment, gate, metric) in wanted {
            let url = url.clone();
            asked.spawn(async move { (environment, gate, ask(url.as_ref(), &metric).await) });
        }
        while let Some(answer) = asked.join_next().await {
            let Ok((environment, gate, value)) = answer else { continue };
            if engine.measured(environment, gate, value).await.is_err() {
                return;
            }
        }
    }
}

async fn ask(url: Option<&Url>, metric: &Metric) -> Result<Number, String> {
    let Some(url) = url else {
        return Err(
            "the coordinator is told of no Prometheus: set prometheus in its configuration".to_owned()
        );
    };
    let asked = tokio::time::timeout(ANSWER_WITHIN, query(url, metric)).await;
    asked.unwrap_or_else(|_| Err(format!("{url} did not answer within {} s", ANSWER_WITHIN.as_secs())))
}

async fn query(url: &Url, metric: &Metric) -> Result<Number, String> {
    let broken = |error: hyper::Error| format!("{url} does not speak HTTP: {}", chain(&error));
    let stream = TcpStream::connect(&url.authority)
        .await
        .map_err(|error| format!("{url} cannot be connected to: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEADER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with this function, however that ends.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    // A sample that is older than the gate allows is none.
    let path = format!(
        "{}/api/v1/query?query={}&lookback_delta={}ms&timeout={}s",
        url.path,
        escaped(&metric.query),
        metric.fresh.as_millis(),
        ANSWER_WITHIN.as_secs(),
    );
    let request = Request::get(path)
        .header(header::HOST, &url.authority)
        .header(header::USER_AGENT, concat!("houston-coordinator/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the query makes no request: {error}"))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("{url} answered too much or broke off: {error}"))?.to_bytes();
    // A refused query says why in the same format, under another status.
    read(&body).map_err(|why| if status.is_success() { why } else { format!("{} ({why})", status.as_u16()) })
}

/// Percent-encoding of a query's value (RFC 3986).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The answer to an instant query: <https://prometheus.io/docs/prometheus/latest/querying/api/>.
#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Sample>),
    Scalar((f64, String)),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Sample {
    value: (f64, String),
}

/// The one number in an answer, or what is wrong with it.
fn read(body: &[u8]) -> Result<Number, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| format!("that is no answer of Prometheus: {error}"))?;
    let text = match (answer.status.as_str(), answer.data) {
        ("success", Some(Data::Scalar((_, text)))) => text,
        ("success", Some(Data::Vector(samples))) => match <[Sample; 1]>::try_from(samples) {
            Ok([sample]) => sample.value.1,
            Err(samples) if samples.is_empty() => return Err("the query has no value now".to_owned()),
            Err(samples) => {
                return Err(format!("the query has {} values; write one that has one", samples.len()));
            }
        },
        ("success", Some(Data::Matrix(_) | Data::String(_)) | None) => {
            return Err("the query's result is no number".to_owned());
        }
        _ => {
            let error = answer.error.unwrap_or_else(|| "no reason given".to_owned());
            return Err(format!("the query was refused: {}", quoted(&error)));
        }
    };
    let number = text.parse().ok().and_then(Number::new);
    number.ok_or_else(|| format!("the query's value is {}", quoted(&text)))
}
