//! The protocol's own rules, and the clients against a real server on the loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::client::AgentClient;
use super::convert::{InvalidField, Wire as _};
use super::status::{invalid_field, to_status, to_status_with_retry};
use super::{FILE_DESCRIPTOR_SET, wire};
use crate::clock::WallTime;
use crate::digest::{Digest, FileDigest, TreeDigest};
use crate::error::{Code, Refusal};
use crate::exchange::{CheckIn, CheckInAnswer, Encoding, FileChunk, FileNeed};
use crate::id::Platform;
use crate::manifest::{Entry, FileMode, Manifest, Node};
use crate::report::{Facts, Position, Report};

fn descriptors() -> FileDescriptorSet {
    let commented = include_bytes!(concat!(env!("OUT_DIR"), "/houston.commented.bin"));
    FileDescriptorSet::decode(&commented[..]).expect("descriptors")
}

#[test]
fn the_descriptors_name_every_call() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let calls: BTreeMap<&str, usize> = set
        .file
        .iter()
        .flat_map(|file| &file.service)
        .map(|service| (service.name(), service.method.len()))
        .collect();
    assert_eq!(calls, BTreeMap::from([("Agent", 4), ("Enrollment", 1), ("Operator", 32)]));
    assert!(set.file.iter().all(|file| file.package() == "houston.v1" && file.syntax() == "proto3"));
}

#[test]
fn every_field_call_and_variant_says_what_it_means() {
    let mut silent = Vec::new();
    for file in descriptors().file {
        let info = file.source_code_info.as_ref().expect("source info");
        let commented: BTreeSet<&[i32]> = info
            .location
            .iter()
            .filter(|location| !location.leading_comments().trim().is_empty())
            .map(|location| &location.path[..])
            .collect();
        for (m, message) in file.message_type.iter().enumerate() {
            for (f, field) in message.field.iter().enumerate() {
                if !commented.contains(&[4, m as i32, 2, f as i32][..]) {
                    silent.push(format!("{}.{}", message.name(), field.name()));
                }
            }
        }
        for (e, enumeration) in file.enum_type.iter().enumerate() {
            for (v, value) in enumeration.value.iter().enumerate() {
                if !commented.contains(&[5, e as i32, 2, v as i32][..]) {
                    silent.push(value.name().to_owned());
                }
            }
        }
        for (s, service) in file.service.iter().enumerate() {
            for (c, call) in service.method.iter().enumerate() {
                if !commented.contains(&[6, s as i32, 2, c as i32][..]) {
                    silent.push(format!("{}.{}", service.name(), call.name()));
                }
            }
        }
    }
    assert!(silent.is_empty(), "without a comment: {silent:?}");
}

#[test]
fn zero_of_every_enum_is_unspecified() {
    let files = descriptors().file;
    let nested = |message: &DescriptorProto| !message.enum_type.is_empty() || !message.nested_type.is_empty();
    assert!(!files.iter().flat_map(|file| &file.message_type).any(nested), "messages are not nested");
    for enumeration in files.iter().flat_map(|file| &file.enum_type) {
        let EnumDescriptorProto { value, .. } = enumeration;
        let zero = value.iter().find(|value| value.number() == 0).expect("proto3 has a zero");
        assert!(zero.name().ends_with("_UNSPECIFIED"), "{}", zero.name());
    }
}

fn manifest() -> Manifest {
    let entry = |i: usize| Entry {
        path: format!("file-{i:0>6}-{}", "x".repeat(100)),
        node: Node::File { mode: FileMode::Plain, length: 1, digest: FileDigest(Digest::of(b"1")) },
    };
    Manifest::from_entries((0..1000).map(entry).collect()).expect("a manifest")
}

fn report() -> Report {
    Report {
        protocol: 1,
        features: Vec::new(),
        position: Position { start: 1, nonce: 2, sequence: 3 },
        agent_version: "0.1.0".into(),
        platforms: vec![Platform::any()],
        facts: Facts::default(),
        environments: Vec::new(),
        certificate_expires_ms: 1_800_000_000_000,
    }
}

/// An agent service that keeps to the protocol as far as its fields say.
struct Script {
    /// Sent for every manifest.
    manifest: Vec<Bytes>,
    /// Sent for every fetch; without any, the service is busy.
    chunks: Vec<FileChunk>,
    /// Told when a held check-in is dropped by its caller.
    dropped: Mutex<Option<oneshot::Sender<()>>>,
}

/// As long as a refusal may be, in characters that triple in the headers.
fn weak_key() -> Refusal {
    Refusal::new(Code::Csr, "the key is \"weak\": ".to_owned() + &"ä".repeat(980), "ö".repeat(1000))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl wire::agent_server::Agent for Script {
    type FetchManifestStream = Answers<wire::ManifestChunk>;
    type FetchFilesStream = Answers<wire::FileChunk>;

    async fn renew(&self, _: Request<wire::RenewRequest>) -> Result<Response<wire::RenewResponse>, Status> {
        Err(to_status(&weak_key()))
    }

    async fn check_in(
        &self,
        request: Request<wire::CheckInRequest>,
    ) -> Result<Response<wire::CheckInResponse>, Status> {
        let CheckIn { report, may_hold } = CheckIn::from_wire(request.into_inner()).map_err(invalid_field)?;
        if may_hold {
            let _held = self.dropped.lock().expect("lock").take();
            std::future::pending::<()>().await;
        }
        let answer = CheckInAnswer {
            protocol: report.protocol,
            features: Vec::new(),
            hold: Duration::from_secs(30),
            retry_after: Duration::from_millis(250),
            server_time: WallTime(1_800_000_000_000),
            assignments: Vec::new(),
            forget: Vec::new(),
            renew_now: false,
        };
        Ok(Response::new(answer.to_wire()))
    }

    async fn fetch_manifest(
        &self,
        _: Request<wire::FetchManifestRequest>,
    ) -> Result<Response<Self::FetchManifestStream>, Status> {
        let chunks = self.manifest.clone().into_iter().map(|data| Ok(wire::ManifestChunk { data }));
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn fetch_files(
        &self,
        request: Request<wire::FetchFilesRequest>,
    ) -> Result<Response<Self::FetchFilesStream>, Status> {
        Vec::<FileNeed>::from_wire(request.into_inner()).map_err(invalid_field)?;
        if self.chunks.is_empty() {
            let busy = Refusal::new(Code::Busy, "50 hosts fetch", "");
            return Err(to_status_with_retry(&busy, Duration::from_secs(3)));
        }
        let chunks: Vec<_> = self.chunks.iter().map(|chunk| Ok(chunk.to_wire())).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// A client of a served script. The server ends with the test's runtime.
async fn serve(script: Script) -> AgentClient {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = wire::agent_server::AgentServer::new(script);
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    AgentClient::new(channel(address))
}

fn channel(address: std::net::SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("a URI").connect_lazy()
}

fn script() -> Script {
    Script { manifest: Vec::new(), chunks: Vec::new(), dropped: Mutex::new(None) }
}

#[tokio::test]
async fn check_ins_and_refusals_cross() {
    let client = serve(script()).await;
    let check_in = CheckIn { report: report(), may_hold: false };
    let answer = client.check_in(&check_in, Duration::ZERO).await.expect("an answer");
    assert_eq!(answer.retry_after, Duration::from_millis(250));

    assert_eq!(client.renew(vec![1]).await.expect_err("a refusal").refusal, weak_key());

    let report = Report { position: Position { start: 0, nonce: 0, sequence: 0 }, ..report() };
    let error =
        client.check_in(&CheckIn { report, may_hold: false }, Duration::ZERO).await.expect_err("refused");
    assert_eq!(error.refusal.code, Code::Sequence);
    assert!(error.answered && error.refusal.what.contains("report.position.start"), "{error}");
}

#[tokio::test]
async fn a_dropped_check_in_is_withdrawn_from_the_server() {
    let (dropped, gone) = oneshot::channel();
    let client = serve(Script { dropped: Mutex::new(Some(dropped)), ..script() }).await;
    let check_in = CheckIn { report: report(), may_hold: true };
    let held = client.check_in(&check_in, Duration::from_secs(30));
    assert!(tokio::time::timeout(Duration::from_millis(200), held).await.is_err(), "it is held");
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("withdrawn in time")
        .expect_err("dropped");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_unanswered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let check_in = CheckIn { report: report(), may_hold: false };
    let error =
        AgentClient::new(channel(address)).check_in(&check_in, Duration::ZERO).await.expect_err("nobody");
    assert_eq!((error.refusal.code, error.answered), (Code::Unreachable, false), "{error}");
}

#[tokio::test]
async fn a_manifest_is_taken_only_whole_and_as_named() {
    let manifest = manifest();
    let text = Bytes::from(manifest.to_bytes());
    assert!(text.len() > 65_536, "more than one piece");
    let pieces: Vec<Bytes> = text.chunks(65_536).map(Bytes::copy_from_slice).collect();
    let client = serve(Script { manifest: pieces.clone(), ..script() }).await;
    assert_eq!(client.fetch_manifest(manifest.digest()).await, Ok(manifest.clone()));
    let other = TreeDigest(Digest::of(b"other"));
    assert_eq!(client.fetch_manifest(other).await.expect_err("other").refusal.code, Code::FileDigest);

    let client = serve(Script { manifest: pieces[..1].to_vec(), ..script() }).await;
    assert_eq!(
        client.fetch_manifest(manifest.digest()).await.expect_err("cut").refusal.code,
        Code::FileDigest
    );
}

fn chunk(index: u32, stored_offset: u64, data: &'static [u8], last: bool) -> FileChunk {
    let (encoding, stored_length, data) = (Encoding::Identity, 4, Bytes::from_static(data));
    FileChunk { index, stored_offset, encoding, stored_length, data, last }
}

#[tokio::test]
async fn files_come_in_order_or_not_at_all() {
    let need = |contents: &[u8], stored_offset| FileNeed {
        digest: FileDigest(Digest::of(contents)),
        length: 4,
        stored_offset,
    };
    let needs = vec![need(b"abcd", 0), need(b"efgh", 2)];
    let whole = vec![chunk(0, 0, b"ab", false), chunk(0, 2, b"cd", true), chunk(1, 2, b"cd", true)];
    let client = serve(Script { chunks: whole.clone(), ..script() }).await;
    let mut files = client.fetch_files(needs.clone()).await.expect("a stream");
    for expected in &whole {
        assert_eq!(files.next().await, Ok(Some(expected.clone())));
    }
    assert_eq!(files.next().await, Ok(None));

    let client = serve(Script { chunks: whole[..2].to_vec(), ..script() }).await;
    let mut files = client.fetch_files(needs.clone()).await.expect("a stream");
    while let Ok(Some(_)) = files.next().await {}
    assert_eq!(files.next().await.expect_err("too few").refusal.code, Code::Field);

    let busy = serve(script()).await.fetch_files(needs).await.expect_err("busy");
    assert_eq!((busy.refusal.code, busy.retry_after), (Code::Busy, Some(Duration::from_secs(3))));
    let none = serve(script()).await.fetch_files(Vec::new()).await.expect_err("nothing asked for");
    assert_eq!(none.refusal, InvalidField::new("files", "is empty").into());
}
