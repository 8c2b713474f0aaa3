//! A package from an operator to a host: what is pushed is what arrives, and only where it is told.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use houston_common::api::client::{AgentClient, OperatorClient};
use houston_common::assignment::Order;
use houston_common::command::{
    CreateVersionSet, FileUpload, FileWanted, PackageFinish, RemovePackage, StartRollout,
};
use houston_common::digest::{Digest, FileDigest, TreeDigest};
use houston_common::error::Code;
use houston_common::exchange::{CHUNK_BYTES_MAX, Encoding, FileNeed};
use houston_common::id::Platform;
use houston_common::manifest::{Entry, FileMode, Manifest, Node};
use houston_common::release::PackageVersion;
use houston_common::view::PackageId;
use houston_tests::coordinator::Running;
use tokio::sync::mpsc;

use super::environment;

struct Pushed {
    package: PackageVersion,
    tree: TreeDigest,
    files: Vec<Vec<u8>>,
}

fn contents(seed: u32, words: u32) -> Vec<u8> {
    (0..words).flat_map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed)).to_le_bytes()).collect()
}

async fn upload(
    client: &OperatorClient,
    files: &[(&FileWanted, &[u8])],
) -> houston_common::command::Uploaded {
    let (sender, receiver) = mpsc::channel(1024);
    for (i, (wanted, bytes)) in files.iter().enumerate() {
        let packed = zstd::encode_all(*bytes, 3).expect("compress");
        let (encoding, stream) =
            if i % 2 == 0 { (Encoding::Zstd, &packed[..]) } else { (Encoding::Identity, *bytes) };
        let chunks: Vec<&[u8]> = stream.chunks(CHUNK_BYTES_MAX).collect();
        for (n, data) in chunks.iter().enumerate() {
            let data = Bytes::copy_from_slice(data);
            let FileWanted { digest, length } = **wanted;
            let last = n + 1 == chunks.len();
            sender.try_send(FileUpload { digest, length, encoding, data, last }).expect("room");
        }
    }
    drop(sender);
    client.upload_files(receiver).await.expect("uploaded")
}

async fn push(client: &OperatorClient, name: &str, seed: u32) -> Pushed {
    push_with(client, name, seed, 100_000).await
}

/// With a first file of so many words of four bytes.
async fn push_with(client: &OperatorClient, name: &str, seed: u32, words: u32) -> Pushed {
    let files = vec![contents(seed, words), contents(seed + 1, 50_000), b"shared by all".to_vec()];
    let entries = files.iter().enumerate().map(|(i, bytes)| Entry {
        path: format!("file-{i}"),
        node: Node::File {
            mode: FileMode::Plain,
            length: bytes.len() as u64,
            digest: FileDigest(Digest::of(bytes)),
        },
    });
    let manifest = Manifest::from_entries(entries.collect()).expect("a manifest");
    let tree = manifest.digest();
    let package = PackageVersion {
        name: name.parse().expect("a name"),
        version: "1".parse().expect("a version"),
        trees: BTreeMap::from([(Platform::any(), tree)]),
    };
    let finish = PackageFinish { package: package.clone(), reason: String::new() };
    assert_eq!(client.package_finish(&finish).await.expect_err("not stored yet").code, Code::FileMissing);
    let manifests = || BTreeMap::from([(tree, Bytes::from(manifest.to_bytes()))]);
    let wanted = client.package_start(&package, manifests()).await.expect("taken");
    assert_eq!(client.package_finish(&finish).await.expect_err("files lack").code, Code::FileMissing);
    let by_digest: HashMap<FileDigest, &[u8]> =
        files.iter().map(|bytes| (FileDigest(Digest::of(bytes)), bytes.as_slice())).collect();
    let parts: Vec<_> = wanted.iter().map(|wanted| (wanted, by_digest[&wanted.digest])).collect();
    assert_eq!(upload(client, &parts).await.files as usize, wanted.len());
    assert!(
        client.package_start(&package, manifests()).await.expect("again").is_empty(),
        "nothing is sent twice"
    );
    let view = client.package_finish(&finish).await.expect("entered");
    assert_eq!(view.bytes, files.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
    Pushed { package, tree, files }
}

async fn roll_out(client: &OperatorClient, pushed: &Pushed) {
    let name = pushed.package.name.as_str();
    client.apply_environment(&environment("prod")).await.expect("an environment");
    let set = CreateVersionSet {
        name: name.parse().expect("a name"),
        packages: vec![PackageId {
            name: pushed.package.name.clone(),
            version: pushed.package.version.clone(),
        }],
        reason: String::new(),
    };
    client.create_version_set(&set).await.expect("a version set");
    let start = StartRollout {
        environment: "prod".parse().expect("a name"),
        version_set: name.parse().expect("a name"),
        reason: "first".to_owned(),
        supersede: false,
        force: false,
        allow_outage: true,
        idempotency_key: None,
        policy: None,
        plan_hash: None,
        exclude: Vec::new(),
    };
    client.start_rollout(&start).await.expect("started");
}

/// Fetches, and undoes the encoding.
async fn fetch(client: &AgentClient, needs: Vec<FileNeed>, have: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut stored: Vec<Vec<u8>> = have.to_vec();
    let mut chunks = client.fetch_files(needs.clone()).await.expect("admitted");
    while let Some(chunk) = chunks.next().await.expect("a piece") {
        let file = &mut stored[chunk.index as usize];
        assert_eq!(file.len() as u64, chunk.stored_offset);
        assert_eq!(chunk.encoding, Encoding::Zstd);
        file.extend_from_slice(&chunk.data);
    }
    stored
}

fn unpack(stored: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    zstd::Decoder::new(stored).expect("a frame").read_to_end(&mut out).expect("decodes");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_reaches_the_host_that_is_told_of_it() {
    let coordinator = Running::start(|config| config.fetches_max = 1).await;
    let admin = coordinator.admin().await;
    let pushed = push(&admin, "web", 1).await;
    let foreign = push(&admin, "secret", 1000).await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    let refusal = client.fetch_manifest(pushed.tree).await.expect_err("not told of it yet").refusal;
    assert_eq!(refusal.code, Code::FileMissing);

    client.check_in(&web.report(false, Vec::new()), Duration::ZERO).await.expect("answered");
    roll_out(&admin, &pushed).await;
    let answer = client.check_in(&web.report(true, Vec::new()), Duration::from_secs(30)).await.expect("news");
    assert_eq!(answer.assignments.len(), 1);
    assert_eq!(answer.assignments[0].order, Order::Prepare);
    assert_eq!(answer.assignments[0].release.version_set.packages, std::slice::from_ref(&pushed.package));

    let manifest = client.fetch_manifest(pushed.tree).await.expect("a manifest");
    let need = |file: &Vec<u8>, stored_offset| FileNeed {
        digest: FileDigest(Digest::of(file)),
        length: file.len() as u64,
        stored_offset,
    };
    assert_eq!(manifest.total_bytes(), pushed.files.iter().map(|file| file.len() as u64).sum::<u64>());
    let needs: Vec<FileNeed> = pushed.files.iter().map(|file| need(file, 0)).collect();
    let nothing = vec![Vec::new(); 3];
    let stored = fetch(&client, needs.clone(), &nothing).await;
    for (stored, file) in stored.iter().zip(&pushed.files) {
        assert_eq!(&unpack(stored), file);
    }

    // A broken fetch goes on where it broke; what is whole comes as an empty last piece.
    let cut = stored[0].len() / 3;
    let have = vec![stored[0][..cut].to_vec(), stored[1].clone()];
    let needs = vec![need(&pushed.files[0], cut as u64), need(&pushed.files[1], stored[1].len() as u64)];
    assert_eq!(fetch(&client, needs, &have).await, stored[..2]);

    let tree = foreign.tree;
    assert_eq!(client.fetch_manifest(tree).await.expect_err("another's").refusal.code, Code::FileMissing);
    let error = client.fetch_files(vec![need(&pushed.files[0], 0), need(&foreign.files[0], 0)]).await;
    assert_eq!(error.expect_err("another's").refusal.code, Code::FileMissing);
    let mut wrong = need(&pushed.files[0], 0);
    wrong.length += 1;
    let mut chunks = client.fetch_files(vec![wrong]).await.expect("admitted");
    assert_eq!(chunks.next().await.expect_err("another length").refusal.code, Code::FileLength);

    let remove = |pushed: &Pushed| {
        let (name, version) = (pushed.package.name.clone(), pushed.package.version.clone());
        RemovePackage { package: PackageId { name, version }, reason: String::new() }
    };
    assert_eq!(admin.remove_package(&remove(&pushed)).await.expect_err("in use").code, Code::PackageInUse);
    admin.remove_package(&remove(&foreign)).await.expect("removed");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_fetch_at_once() {
    let coordinator = Running::start(|config| config.fetches_max = 1).await;
    let admin = coordinator.admin().await;
    // More than the network buffers, so that it lasts until it is read.
    let pushed = push_with(&admin, "web", 1, 3_000_000).await;
    let mut web = coordinator.host("web").await;
    let client = web.client(&coordinator).await;
    client.check_in(&web.report(false, Vec::new()), Duration::ZERO).await.expect("answered");
    roll_out(&admin, &pushed).await;
    client.check_in(&web.report(true, Vec::new()), Duration::from_secs(30)).await.expect("news");
    let file = &pushed.files[0];
    let need = FileNeed { digest: FileDigest(Digest::of(file)), length: file.len() as u64, stored_offset: 0 };
    let mut slow = client.fetch_files(vec![need]).await.expect("admitted");
    slow.next().await.expect("a piece").expect("there is more");
    let error = client.fetch_files(vec![need]).await.expect_err("one too many");
    assert_eq!(error.refusal.code, Code::Busy);
    assert!(error.retry_after.is_some_and(|after| after > Duration::ZERO));
    // Bytes do not delay check-ins.
    client.check_in(&web.report(false, Vec::new()), Duration::ZERO).await.expect("answered");
    drop(slow);
    houston_tests::coordinator::until("its place is free again", || {
        let client = client.clone();
        async move { client.fetch_files(vec![need]).await.ok() }
    })
    .await;
    coordinator.stop().await;
}
