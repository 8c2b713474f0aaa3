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

struct Case {
    what: &'static str,
    call: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
    grpc: Grpc,
    code: Code,
}

const GZIP: &[(&str, &str)] = &[("grpc-encoding", "gzip")];
const GRPC: &[(&str, &str)] = &[];

fn cases() -> Vec<Case> {
    let case = |what, call, headers, body, grpc, code| Case { what, call, headers, body, grpc, code };
    let whole = frame(&wire::CreateTokenRequest { zone: "a".into(), uses: 1, valid_for_ms: 1, ..Default::default() });
    let cut = whole[..whole.len() - 2].to_vec();
    let mut claims_4_gib = whole.clone();
    claims_4_gib[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    vec![
        // B48
        case("4 MiB and a byte", CREATE_TOKEN, GRPC, prefixed(0, &vec![0; (4 << 20) + 1]), Grpc::ResourceExhausted, Code::Limit),
        case("a claim of 4 GiB", CREATE_TOKEN, GRPC, claims_4_gib, Grpc::ResourceExhausted, Code::Limit),
        case("a piece that is too long", UPLOAD, GRPC, prefixed(0, &vec![0; 1 << 20]), Grpc::ResourceExhausted, Code::Limit),
        case("200,000 labels", CREATE_TOKEN, GRPC, prefixed(0, &empty_labels(200_000)), Grpc::InvalidArgument, Code::Field),
        case("101 levels", CREATE_TOKEN, GRPC, prefixed(0, &nested(101)), Grpc::InvalidArgument, Code::Field),
        // B49
        case("a gzip bomb", CREATE_TOKEN, GZIP, prefixed(1, &[0x1f, 0x8b, 8, 0]), Grpc::Unimplemented, Code::Protocol),
        case("a gzip bomb in a stream", UPLOAD, GZIP, prefixed(1, &[0x1f, 0x8b]), Grpc::Unimplemented, Code::Protocol),
        // B50
        case("a flag without an encoding", CREATE_TOKEN, GRPC, prefixed(1, b"x"), Grpc::InvalidArgument, Code::Field),
        case("a flag that does not exist", CREATE_TOKEN, GRPC, prefixed(2, b"x"), Grpc::InvalidArgument, Code::Field),
        case("no protobuf", CREATE_TOKEN, GRPC, prefixed(0, &[0xff; 100]), Grpc::InvalidArgument, Code::Field),
        case("no protobuf in a stream", UPLOAD, GRPC, prefixed(0, &[0xff; 100]), Grpc::InvalidArgument, Code::Field),
        case("a text that is not UTF-8", CREATE_TOKEN, GRPC, prefixed(0, &[0x0a, 1, 0xff]), Grpc::InvalidArgument, Code::Field),
        case("half a frame", CREATE_TOKEN, GRPC, cut, Grpc::InvalidArgument, Code::Field),
        case("half a prefix", CREATE_TOKEN, GRPC, vec![0, 0], Grpc::InvalidArgument, Code::Field),
        case("no message", CREATE_TOKEN, GRPC, Vec::new(), Grpc::InvalidArgument, Code::Field),
        case("no call", "/houston.v1.Operator/Destroy", GRPC, frame(&()), Grpc::Unimplemented, Code::Protocol),
        case("no service", "/", GRPC, frame(&()), Grpc::Unimplemented, Code::Protocol),
        case("an odd path", "/houston.v1.Operator/%00%1b[2J", GRPC, frame(&()), Grpc::Unimplemented, Code::Protocol),
        case("a web page's form", CREATE_TOKEN, &[("content-type", "text/plain")], whole.clone(), Grpc::InvalidArgument, Code::Field),
        // B62
        case("a deadline that has passed", CREATE_TOKEN, &[("grpc-timeout", "0n")], whole, Grpc::DeadlineExceeded, Code::Timeout),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_and_harms_nobody() {
    let coordinator = Running::start(|_| {}).await;
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    let mut wrong = Vec::new();
    for Case { what, call, headers, body, grpc, code } in cases() {
        let status = send(&channel, call, headers, body).await;
        let refusal = from_status(&status).refusal;
        if (status.code(), refusal.code) != (grpc, code) {
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

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_headers_are_too_many() {
    let coordinator = Running::start(|_| {}).await;
    let names: Vec<&'static str> = (0..10_000).map(|i| &*format!("x-{i}").leak()).collect();
    let headers: Vec<(&'static str, &str)> = names.iter().map(|name| (*name, "v")).collect();
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    let status = send(&channel, WHO_AM_I, &headers, frame(&())).await;
    assert_ne!(status.code(), Grpc::Ok, "{status:?}");
    let few = send(&channel, WHO_AM_I, &headers[..100], frame(&())).await;
    assert_eq!(few.code(), Grpc::Ok, "a hundred are not: {few:?}");
    serves(&coordinator, "too many headers").await;
    coordinator.stop().await;
}
