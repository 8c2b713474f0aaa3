//! Callers of the three services: domain values in and out, a deadline on every call.
//!
//! A client is cheap to clone. Its channel comes from [`crate::tls`]. Whatever goes wrong is a
//! [`CallError`]; where it has not been answered, nobody knows whether the coordinator acted.

use std::future::Future;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::convert::Wire;
use super::status::{CallError, from_status, timed_out};

mod agent;
mod enroll;
mod operator;

pub use agent::{AgentClient, FileChunks};
pub use enroll::EnrollClient;
pub use operator::OperatorClient;

/// For a call that is answered at once: a commit takes milliseconds, a coordinator that is taken over
/// or loads its store takes seconds.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Between two messages of a stream. Bytes for many hosts share one uplink.
pub const STREAM_IDLE_MAX: Duration = Duration::from_secs(60);
/// For the answer to an upload, from its first byte on: 64 GiB, the most that a tree holds, at 20 MB/s.
pub const UPLOAD_TIME_MAX: Duration = Duration::from_secs(3600);

/// One unary call, whole within `limit`, which the coordinator is told.
async fn call<T, M, F>(
    limit: Duration,
    message: T,
    send: impl FnOnce(Request<T>) -> F,
) -> Result<M, CallError>
where
    F: Future<Output = Result<Response<M>, Status>>,
{
    let mut request = Request::new(message);
    request.set_timeout(limit);
    match tokio::time::timeout(limit, send(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(timed_out(limit)),
    }
}

/// The same for an answer that is a domain value.
async fn ask<D, T, F>(limit: Duration, message: T, send: impl FnOnce(Request<T>) -> F) -> Result<D, CallError>
where
    D: Wire,
    F: Future<Output = Result<Response<D::Message>, Status>>,
{
    Ok(D::from_wire(call(limit, message, send).await?)?)
}

/// The next message of a stream.
async fn next<M>(stream: &mut tonic::Streaming<M>) -> Result<Option<M>, CallError> {
    match tokio::time::timeout(STREAM_IDLE_MAX, stream.message()).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(timed_out(STREAM_IDLE_MAX)),
    }
}

/// The head of a streamed answer. The stream itself may last: only its pauses are bounded.
async fn open<M, F>(limit: Duration, send: F) -> Result<M, CallError>
where
    F: Future<Output = Result<Response<M>, Status>>,
{
    match tokio::time::timeout(limit, send).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(from_status(&status)),
        Err(_) => Err(timed_out(limit)),
    }
}
