//! What people, files and peers get wrong, and what they must see. docs/bad-input.md says which row is
//! shown where; what has a test of its own beside the code is not shown here again.

use bytes::Bytes;
use houston_common::api::status::from_status;
use houston_common::error::Refusal;
use houston_tests::coordinator::Running;
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code as Grpc, Status};
use tower::Service as _;

/// What a host says of where it is in time, and of what it was told.
mod claims;
/// What is typed, with a coordinator that answers.
mod command_line;
/// Files that programs read when they start.
mod configuration;
/// What comes instead of a connection, and too many of them.
mod connections;
/// Messages with a field that is wrong.
mod fields;
/// More than anybody needs of what is allowed.
mod floods;
/// Bytes that are no message, and calls that are no call.
mod frames;
/// houston.toml and manifests.
mod packages;
/// The page is true.
mod page;

/// A message as the body of a unary call.
fn frame(message: &impl Message) -> Vec<u8> {
    prefixed(0, &message.encode_to_vec())
}

/// Bytes as a message of this compression flag.
fn prefixed(flag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a length");
    [&[flag], &length.to_be_bytes()[..], bytes].concat()
}

/// Sends a body as it is, with these headers beside the usual ones or instead of them. OK is a status
/// too; what is no gRPC at all is `UNKNOWN`.
async fn send(channel: &Channel, call: &str, headers: &[(&'static str, &str)], body: Vec<u8>) -> Status {
    let mut request = http::Request::post(call).body(tonic::body::Body::new(Full::new(Bytes::from(body))));
    let request_headers = request.as_mut().expect("a request").headers_mut();
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
        request_headers.insert(*name, value.parse().expect("a header"));
    }
    let mut channel = channel.clone();
    if let Err(error) = std::future::poll_fn(|context| channel.poll_ready(context)).await {
        return Status::from_error(Box::new(error));
    }
    let response = match channel.call(request.expect("a request")).await {
        Ok(response) => response,
        Err(error) => return Status::from_error(Box::new(error)),
    };
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers) {
        return status;
    }
    let trailers = match body.collect().await {
        Ok(body) => body.trailers().cloned(),
        Err(status) => return status,
    };
    let status = trailers.as_ref().and_then(Status::from_header_map);
    status.unwrap_or_else(|| Status::unknown(format!("HTTP status {}", head.status)))
}

/// What a refused call was refused with.
#[track_caller]
fn refusal_of(what: &str, status: &Status, expected: Grpc) -> Refusal {
    assert_eq!(status.code(), expected, "{what}: {status:?}");
    let refusal = from_status(status).refusal;
    assert!(refusal.to_string().chars().all(houston_common::id::is_plain), "{what}: {refusal:?}");
    refusal
}

/// That the coordinator still serves whoever does nothing wrong.
async fn serves(coordinator: &Running, after: &str) {
    let answer = coordinator.admin().await.who_am_i().await;
    assert_eq!(answer.unwrap_or_else(|refusal| panic!("after {after}: {refusal}")).operator.as_str(), "ada");
}
