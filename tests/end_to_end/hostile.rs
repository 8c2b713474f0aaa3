//! What no build would make, sent by hand: refused with its code, and nothing of it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use houston_common::api::client::OperatorClient;
use houston_common::command::{FileUpload, PackageFinish};
use houston_common::digest::{Digest, FileDigest, TreeDigest};
use houston_common::error::Code;
use houston_common::exchange::Encoding;
use houston_common::id::Platform;
use houston_common::release::PackageVersion;
use houston_common::tls::{ClientSettings, ClockFloor, Trust};
use houston_tests::coordinator::read_credential;
use houston_tests::fleet::{Fleet, QUICK};
use tokio::sync::mpsc;

async fn ada(fleet: &Fleet) -> OperatorClient {
    let directory = fleet.coordinator_dir().join("operators/ada");
    let ca = std::fs::read_to_string(directory.join("ca.pem")).expect("the authority");
    let credential = read_credential(&directory);
    let settings = ClientSettings::new(Trust::Authorities(&ca), Some(&credential), &ClockFloor::new());
    let address = fleet.agents_address().parse().expect("an address");
    OperatorClient::new(settings.expect("settings").connect(&address).await.expect("ada connects"))
}

fn package(tree: TreeDigest) -> PackageVersion {
    PackageVersion {
        name: "web".parse().expect("a name"),
        version: "1".parse().expect("a version"),
        trees: BTreeMap::from([(Platform::any(), tree)]),
    }
}

/// Every file that the coordinator has stored.
fn stored(fleet: &Fleet) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("listed").flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&fleet.coordinator_dir().join("files"), &mut found);
    found
}

fn manifest(lines: &[&str]) -> String {
    let mut text = "houston-tree 1\n".to_owned();
    for line in lines {
        text += line;
        text.push('\n');
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_no_build_makes_are_refused() {
    let fleet = Fleet::with_coordinator(QUICK);
    let client = ada(&fleet).await;
    let digest = Digest::of(b"x").to_string();
    let file = |path: &str| format!("f\t0644\t1\t{digest}\t{path}");
    let setuid = format!("f\t4755\t1\t{digest}\tbin/su");
    let huge = format!("f\t0644\t{}\t{digest}\ta", 65_u64 << 30);
    let long = file(&"x".repeat(1025));
    let deep = file(&format!("{}/x", vec!["d"; 400].join("/")));
    let cases: [(&str, String, &[Code]); 17] = [
        ("an absolute path", manifest(&[&file("/etc/cron.d/x")]), &[Code::TreePath]),
        ("a way out", manifest(&[&file("../x")]), &[Code::TreePath]),
        ("a way out in the middle", manifest(&["d\ta", &file("a/../../x")]), &[Code::TreePath]),
        ("a dot", manifest(&[&file("./x")]), &[Code::TreePath]),
        ("a control character", manifest(&[&file("a\u{1b}[31m")]), &[Code::TreePath]),
        ("a direction character", manifest(&[&file("a\u{202e}b")]), &[Code::TreePath]),
        ("our own name", manifest(&[&file(".houston-x")]), &[Code::TreePath]),
        ("too long a path", manifest(&[&long]), &[Code::TreePath]),
        ("a path without its directories", manifest(&[&deep]), &[Code::TreePath, Code::TreeSyntax]),
        ("a link out", manifest(&["l\t../../etc/passwd\tx"]), &[Code::TreeLink]),
        ("an absolute link", manifest(&["l\t/etc/passwd\tx"]), &[Code::TreeLink]),
        ("a loop of links", manifest(&["l\tb\ta", "l\ta\tb"]), &[Code::TreeLink]),
        ("setuid", manifest(&["d\tbin", &setuid]), &[Code::TreeMode, Code::TreeSyntax]),
        ("a path twice", manifest(&[&file("a"), &file("a")]), &[Code::TreeDuplicate, Code::TreeSyntax]),
        ("a path in two cases", manifest(&[&file("A"), &file("a")]), &[Code::TreeDuplicate]),
        ("more than a disk", manifest(&[&huge]), &[Code::TreeLimit]),
        ("another kind", manifest(&["p\tpipe"]), &[Code::TreeType, Code::TreeSyntax]),
    ];
    for (what, text, codes) in cases {
        let tree = TreeDigest(Digest::of(text.as_bytes()));
        let manifests = BTreeMap::from([(tree, Bytes::from(text))]);
        let refusal = client.package_start(&package(tree), manifests).await.expect_err(what);
        assert!(codes.contains(&refusal.code), "{what}: {refusal}");
        assert!(refusal.to_string().chars().all(houston_common::id::is_plain), "{what}: {refusal:?}");
        let finish = PackageFinish { package: package(tree), reason: String::new() };
        assert_eq!(client.package_finish(&finish).await.expect_err(what).code, Code::FileMissing, "{what}");
    }
    let nonsense = [
        b"".to_vec(),
        b"houston-tree 2\n".to_vec(),
        b"houston-tree 1".to_vec(),
        b"houston-tree 1\r\n".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![0; 100_000],
    ];
    for text in nonsense.into_iter().filter(|text| !text.is_empty()) {
        let tree = TreeDigest(Digest::of(&text));
        let manifests = BTreeMap::from([(tree, Bytes::from(text.clone()))]);
        let refusal = client.package_start(&package(tree), manifests).await.expect_err("nonsense");
        assert_eq!(refusal.code, Code::TreeSyntax, "{text:?}: {refusal}");
    }
    // Longer than any manifest may be: cut off while it comes.
    let flood = Bytes::from(vec![b'x'; (32 << 20) + 1]);
    let tree = TreeDigest(Digest::of(&flood));
    let refusal = client.package_start(&package(tree), BTreeMap::from([(tree, flood)])).await;
    assert_eq!(refusal.expect_err("too long").code, Code::TreeLimit);
    // A good one under another name.
    let tree = TreeDigest(Digest::of(b"another"));
    let manifests = BTreeMap::from([(tree, Bytes::from(manifest(&[&file("a")])))]);
    let refusal = client.package_start(&package(tree), manifests).await.expect_err("another's name");
    assert_eq!(refusal.code, Code::FileDigest, "{refusal}");
    assert_eq!(stored(&fleet), Vec::<PathBuf>::new());
    let packages = fleet.json(&["package", "list"]);
    assert_eq!(packages["packages"].as_array().map(Vec::len), Some(0));
}

async fn upload(client: &OperatorClient, pieces: Vec<FileUpload>) -> Code {
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).expect("room");
    }
    drop(sender);
    client.upload_files(receiver).await.expect_err("refused").code
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_what_they_are_called_are_refused() {
    const CONTENTS: &[u8] = b"what was built";
    let fleet = Fleet::with_coordinator(QUICK);
    let client = ada(&fleet).await;
    let digest = FileDigest(Digest::of(CONTENTS));
    let length = CONTENTS.len() as u64;
    let piece = |data: &[u8], length: u64, encoding: Encoding, last: bool| FileUpload {
        digest,
        length,
        encoding,
        data: Bytes::copy_from_slice(data),
        last,
    };
    let packed = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("compress");
    let bomb = packed(&vec![0; 64 << 20]);
    let cases: [(&str, Vec<FileUpload>, &[Code]); 8] = [
        (
            "other bytes",
            vec![piece(b"what was buILT", length, Encoding::Identity, true)],
            &[Code::FileDigest],
        ),
        ("too short", vec![piece(&CONTENTS[1..], length, Encoding::Identity, true)], &[Code::FileLength]),
        ("too long", vec![piece(b"what was built!", length, Encoding::Identity, true)], &[Code::FileLength]),
        ("another length", vec![piece(CONTENTS, length + 1, Encoding::Identity, true)], &[Code::FileLength]),
        ("no end", vec![piece(CONTENTS, length, Encoding::Identity, false)], &[Code::FileLength]),
        ("a bomb", vec![piece(&bomb, length, Encoding::Zstd, true)], &[Code::FileLength]),
        ("no frame", vec![piece(CONTENTS, length, Encoding::Zstd, true)], &[Code::FileDigest]),
        (
            "half a frame",
            vec![piece(&packed(CONTENTS)[..10], length, Encoding::Zstd, true)],
            &[Code::FileDigest, Code::FileLength],
        ),
    ];
    for (what, pieces, codes) in cases {
        let code = upload(&client, pieces).await;
        assert!(codes.contains(&code), "{what}: {code}");
        assert_eq!(stored(&fleet), Vec::<PathBuf>::new(), "{what}");
    }
}
