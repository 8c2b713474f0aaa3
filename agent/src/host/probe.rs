//! Runs one probe with a deadline. What a result means for the host's health, thresholds and windows
//! included, is judged elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use houston_common::clock::Exact;
use houston_common::id::quoted;
use houston_common::package::Probe;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::hook::{Call, HookOutcome, Runner};
use super::variables::Variables;

#[cfg(test)]
mod tests;

/// An answer to a health check is small; what is searched for must be in its beginning.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Of the answer's headers.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// A probed command has had its timeout already.
const COMMAND_GRACE: Duration = Duration::from_secs(1);

/// What one probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    Pass,
    /// Why not, in a sentence that is safe to show.
    Fail(String),
}

/// What the probe of a command needs beside its command.
#[derive(Debug, Clone)]
pub struct ProbeContext {
    pub runner: Runner,
    pub user: Option<String>,
    pub tree: PathBuf,
    pub variables: Variables,
    /// Where the host's services listen.
    pub address: IpAddr,
}

/// Probes once, at the host's own address. Ends within `timeout`, a command within two seconds more.
/// Whatever is not a pass is a failure.
pub async fn probe(probe: &Probe, timeout: Duration, context: &ProbeContext) -> Probed {
    let passed = match probe {
        Probe::Command(command) => return run_command(command, timeout, context).await,
        Probe::Tcp { port } => {
            tokio::time::timeout(timeout, async { connect(context.address, *port).await.map(drop) }).await
        }
        Probe::Http { port, path, expect_body } => {
            tokio::time::timeout(timeout, get((context.address, *port), path, expect_body.as_deref())).await
        }
    };
    match passed {
        Ok(Ok(())) => Probed::Pass,
        Ok(Err(why)) => Probed::Fail(why),
        Err(_) => Probed::Fail(format!("no answer within {}", Exact(timeout))),
    }
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((address, port))
        .await
        .map_err(|error| format!("port {port} cannot be connected to: {error}"))
}

async fn get((address, port): (IpAddr, u16), path: &str, expected: Option<&str>) -> Result<(), String> {
    let stream = connect(address, port).await?;
    let broken = |error: hyper::Error| {
        format!("port {port} does not speak HTTP: {}", houston_common::error::chain(&error))
    };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEADER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with this function, however that ends.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, SocketAddr::new(address, port).to_string())
        .header(header::USER_AGENT, concat!("houston-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("\"{}\" is no path: {error}", quoted(path)))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    // Redirects are not followed: they lead to what this check is not about.
    if !response.status().is_success() {
        return Err(format!("GET {} on port {port} answered {}", quoted(path), response.status().as_u16()));
    }
    match expected {
        Some(expected) => expect(response, expected).await,
        None => Ok(()),
    }
}

async fn expect(response: Response<Incoming>, expected: &str) -> Result<(), String> {
    let mut body = response.into_body();
    let mut seen = Vec::new();
    while seen.len() < BODY_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        let frame = frame
            .map_err(|error| format!("the answer broke off: {}", houston_common::error::chain(&error)))?;
        if let Some(data) = frame.data_ref() {
            seen.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - seen.len())]);
        }
    }
    let found =
        expected.is_empty() || seen.windows(expected.len()).any(|window| window == expected.as_bytes());
    if found {
        return Ok(());
    }
    let start = quoted(&String::from_utf8_lossy(&seen[..seen.len().min(200)]));
    Err(format!("the answer does not hold \"{}\"; it starts with \"{start}\"", quoted(expected)))
}

async fn run_command(
    command: &houston_common::package::Command,
    timeout: Duration,
    context: &ProbeContext,
) -> Probed {
    let (command, context) = (command.clone(), context.clone());
    let run = tokio::task::spawn_blocking(move || {
        let call = Call {
            command: &command,
            user: context.user.as_deref(),
            timeout,
            grace: COMMAND_GRACE,
            tree: &context.tree,
            variables: &context.variables,
        };
        context.runner.run(&call)
    });
    match run.await {
        Ok(Ok(run)) if run.outcome == HookOutcome::Ok => Probed::Pass,
        Ok(Ok(run)) => {
            let why = match run.check("the command", timeout) {
                Err(refusal) => refusal.what,
                Ok(()) => String::new(),
            };
            let last = run.output.last(1, 200);
            Probed::Fail(if last.is_empty() { why } else { format!("{why}: {last}") })
        }
        Ok(Err(refusal)) => Probed::Fail(refusal.what),
        Err(error) => Probed::Fail(format!("the probe ended early: {error}")),
    }
}
