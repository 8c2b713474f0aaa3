use houston_common::api::status::from_status;
use houston_common::api::wire;
use houston_common::error::Code;
use houston_tests::coordinator::Running;
use tonic::Code as Grpc;

use super::{frame, prefixed, send, serves};

const WHO_AM_I: &str = "/houston.v1.Operator/WhoAmI";
const CREATE_TOKEN: &str = "/houston.v1.Operator/CreateToken";
const UPLOAD: &str = "/houston.v1.Operator/UploadFiles";

/// A message that nests an unknown group as deep as this.
fn nested(depth: usize) -> Vec<u8> {
    // Field 100, wire types 3 and 4: a group's start and end.
    let (start, end) = ([0xa3, 0x06], [0xa4, 0x06]);
    [start.repeat(depth), end.repeat(depth)].concat()
}

/// Labels without anything in them.
fn empty_labels(count: usize) -> Vec<u8> {
    // Field 2, of no bytes.
    [0x12, 0].repeat(count)
}

/// What a call comes to, in gRPC's words and in ours.
type Ends = (Grpc, Code);
const TOO_LARGE: Ends = (Grpc::ResourceExhausted, Code::Limit);
const NOT_UNDERSTOOD: Ends = (Grpc::InvalidArgument, Code::Field);
const UNKNOWN: Ends = (Grpc::Unimplemented, Code::Protocol);

type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], Vec<u8>, Ends);

fn token() -> wire::CreateTokenRequest {
    wire::CreateTokenRequest { zone: "a".into(), uses: 1, valid_for_ms: 60_000, ..Default::default() }
}

/// B48
fn too_much() -> Vec<Case> {
    let mut claims_4_gib = frame(&token());
    claims_4_gib[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    let zeros = |length| prefixed(0, &vec![0; length]);
    vec![
        ("4 MiB and a byte", CREATE_TOKEN, &[], zeros((4 << 20) + 1), TOO_LARGE),
        ("a claim of 4 GiB", CREATE_TOKEN, &[], claims_4_gib, TOO_LARGE),
        ("a piece that is too long", UPLOAD, &[], zeros(1 << 20), TOO_LARGE),
        ("200,000 labels", CREATE_TOKEN, &[], prefixed(0, &empty_labels(200_000)), NOT_UNDERSTOOD),
        ("101 levels", CREATE_TOKEN, &[], prefixed(0, &nested(101)), NOT_UNDERSTOOD),
    ]
}

/// B49, B50
fn no_messages() -> Vec<Case> {
    const GZIP: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
    let whole = frame(&token());
    let cut = whole[..whole.len() - 2].to_vec();
    let (bomb, nonsense) = (prefixed(1, &[0x1f, 0x8b, 8, 0]), prefixed(0, &[0xff; 100]));
    vec![
        ("a gzip bomb", CREATE_TOKEN, GZIP, bomb.clone(), UNKNOWN),
        ("a gzip bomb in a stream", UPLOAD, GZIP, bomb.clone(), UNKNOWN),
        ("a bomb that says nothing of it", CREATE_TOKEN, &[], bomb, NOT_UNDERSTOOD),
        ("a flag that does not exist", CREATE_TOKEN, &[], prefixed(2, b"x"), NOT_UNDERSTOOD),
        ("no protobuf", CREATE_TOKEN, &[], nonsense.clone(), NOT_UNDERSTOOD),
        ("no protobuf in a stream", UPLOAD, &[], nonsense, NOT_UNDERSTOOD),
        ("a text that is not UTF-8", CREATE_TOKEN, &[], prefixed(0, &[0x0a, 1, 0xff]), NOT_UNDERSTOOD),
        ("half a frame", CREATE_TOKEN, &[], cut, NOT_UNDERSTOOD),
        ("half a prefix", CREATE_TOKEN, &[], vec![0, 0], NOT_UNDERSTOOD),
        ("no message", CREATE_TOKEN, &[], Vec::new(), NOT_UNDERSTOOD),
        ("no call", "/houston.v1.Operator/Destroy", &[], frame(&()), UNKNOWN),
        ("no service", "/", &[], frame(&()), UNKNOWN),
        ("an odd path", "/houston.v1.Operator/%00%1b[2J", &[], frame(&()), UNKNOWN),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_and_harms_nobody() {
    let coordinator = Running::start(|_| {}).await;
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    let mut wrong = Vec::new();
    for (what, call, headers, body, ends) in too_much().into_iter().chain(no_messages()) {
        let status = send(&channel, call, headers, body).await;
        let refusal = from_status(&status).refusal;
        if (status.code(), refusal.code) != ends {
            wrong.push(format!("{what}: {:?} {refusal}", status.code()));
        }
        assert!(refusal.to_string().chars().all(houston_common::id::is_plain), "{what}: {refusal:?}");
        // The connection is as good as before.
        let status = send(&channel, WHO_AM_I, &[], frame(&())).await;
        assert_eq!(status.code(), Grpc::Ok, "after {what}: {status:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(coordinator.admin().await.list_tokens().await.expect("listed").len(), 0);
    coordinator.stop().await;
}

/// B62: the answer is nobody's, so the work is not done. Whether the caller's own side gives up first is
/// a matter of luck.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_leaves_everything_as_it_is() {
    let coordinator = Running::start(|_| {}).await;
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    for _ in 0..20 {
        let status = send(&channel, CREATE_TOKEN, &[("grpc-timeout", "0n")], frame(&token())).await;
        assert!(matches!(status.code(), Grpc::DeadlineExceeded | Grpc::Cancelled), "{status:?}");
    }
    assert_eq!(coordinator.admin().await.list_tokens().await.expect("listed").len(), 0);
    let status = send(&channel, CREATE_TOKEN, &[("grpc-timeout", "30S")], frame(&token())).await;
    assert_eq!(status.code(), Grpc::Ok, "{status:?}");
    coordinator.stop().await;
}

/// B50: what no gRPC program has sent is answered as HTTP does.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_pages_form_is_no_call() {
    let coordinator = Running::start(|_| {}).await;
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    for odd in ["text/plain", "application/x-www-form-urlencoded", "application/json", "application/grp"] {
        let status = send(&channel, WHO_AM_I, &[("content-type", odd)], frame(&())).await;
        assert!(status.code() == Grpc::Unknown && status.message().contains("415"), "{odd}: {status:?}");
    }
    let status = send(&channel, WHO_AM_I, &[("content-type", "application/grpc+proto")], frame(&())).await;
    assert_eq!(status.code(), Grpc::Ok, "{status:?}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_headers_are_too_many() {
    let coordinator = Running::start(|_| {}).await;
    let names: Vec<&'static str> = (0..10_000).map(|i| &*format!("x-{i}").leak()).collect();
    let headers: Vec<(&'static str, &str)> = names.iter().map(|name| (*name, "v")).collect();
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    let few = send(&channel, WHO_AM_I, &headers[..100], frame(&())).await;
    assert_eq!(few.code(), Grpc::Ok, "a hundred are not: {few:?}");
    // The connection may end with it.
    let status = send(&channel, WHO_AM_I, &headers, frame(&())).await;
    assert_ne!(status.code(), Grpc::Ok, "{status:?}");
    serves(&coordinator, "too many headers").await;
    coordinator.stop().await;
}
