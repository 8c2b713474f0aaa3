use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use houston_agent::host::blobs::Blobs;
use houston_agent::host::dir::Dir;
use houston_agent::host::fetch::{Fetcher, Places};
use houston_agent::link::Link;
use houston_common::api::wire;
use houston_common::digest::{Digest, TreeDigest};
use houston_common::error::Code;
use houston_common::identity::request::new_key_and_csr;
use houston_common::manifest::MANIFEST_BYTES_MAX;
use houston_common::tls::{ClientSettings, ClockFloor, Credential, Incoming, ServerSettings, Trust};
use houston_coordinator::ca::Ca;
use houston_coordinator::files::{Files, Reserve};
use tonic::{Request, Response, Status};

use super::command_line::houston;

const NAMED: &str = "name = \"web\"\nversion = \"1\"\n";

/// What is beside the name and version in houston.toml, and what the build says.
type Row = (&'static str, &'static str, &'static str);

const PACKAGE_FILES: &[Row] = &[
    // B26, B27
    ("hooks = ", "E-PKG-SYNTAX", "houston.toml:3:"),
    ("helth = 1\n", "E-PKG-KEY", "at houston.toml:3:1"),
    ("[hooks.strat]\ncommand = [\"sh\"]\n", "E-PKG-KEY", "did you mean \"start\"?"),
    // B35
    ("[secrets]\nPASSWORD = \"hunter2\"\n", "E-PKG-VALUE", "houston.toml:4:12"),
    ("[secrets]\nPASSWORD = { file = \"hunter2\" }\n", "E-PKG-VALUE", "houston.toml:4:21"),
    ("[secrets]\nPASSWORD = { value = \"hunter2\" }\n", "E-PKG-KEY", "houston.toml:4:14"),
    // B90
    ("[hooks.start]\ncommand = [\"bin/none\"]\n", "E-HOOK-MISSING", "bin/none"),
    ("[hooks.start]\ncommand = [\"bin\"]\n", "E-HOOK-MISSING", "bin"),
    ("[hooks.start]\ncommand = [\"bin/plain\"]\n", "E-HOOK-MISSING", "bin/plain"),
    // B93
    ("[hooks.start]\ncommand = [\"sh\"]\ntimeout = \"0s\"\n", "E-HOOK-TIMEOUT-VALUE", "1ms to 1h"),
    ("[hooks.start]\ncommand = [\"sh\"]\ntimeout = \"-1s\"\n", "E-HOOK-TIMEOUT-VALUE", "houston.toml:5:11"),
    ("[hooks.start]\ncommand = [\"sh\"]\ntimeout = \"2h\"\n", "E-HOOK-TIMEOUT-VALUE", "1ms to 1h"),
    // B96
    ("[hooks.start]\ncommand = [\"sh\"]\nuser = \"0\"\n", "E-PKG-VALUE", "[a-z_][a-z0-9_-]{0,31}"),
    // B98
    ("[settings]\nLD_PRELOAD = { default = \"x\" }\n", "E-HOOK-ENV", "LD_PRELOAD"),
    ("[settings]\nPATH = { default = \"x\" }\n", "E-HOOK-ENV", "PATH"),
    ("[settings]\n\"A=B\" = { default = \"x\" }\n", "E-HOOK-ENV", "houston.toml:4:1"),
    // B100
    (
        "[hooks.start]\ncommand = [\"sh\"]\n[hooks.start]\ncommand = [\"sh\"]\n",
        "E-PKG-SYNTAX",
        "houston.toml:5:",
    ),
    // B101
    ("[hooks.start]\ncommand = [\"sh\"]\nrerun = false\n", "E-HOOK-TIMEOUT-VALUE", "timeout"),
    // B102
    ("[[services]]\nname = \"s\"\ncommand = [\"sh\"]\n", "E-HEALTH-NONE", "process-only"),
    // B103
    (
        "[[services]]\nname = \"s\"\ncommand = [\"sh\"]\nhealth = [{ tcp = { port = 0 } }]\n",
        "E-HEALTH-VALUE",
        "1 to 65535",
    ),
    (
        "[[services]]\nname = \"s\"\ncommand = [\"sh\"]\nhealth = [{ tcp = { port = 1 }, healthy_after = 0 }]\n",
        "E-HEALTH-VALUE",
        "houston.toml:6:",
    ),
    (
        "[[services]]\nname = \"s\"\ncommand = [\"sh\"]\nhealth = [{ http = { port = 1, path = \"http://elsewhere/\" } }]\n",
        "E-HEALTH-VALUE",
        "houston.toml:6:",
    ),
    // B105
    (
        "[[services]]\nname = \"a/b\"\ncommand = [\"sh\"]\nhealth = \"process-only\"\n",
        "E-PKG-VALUE",
        "houston.toml:4:8",
    ),
    (
        "[[services]]\nname = \"a@\"\ncommand = [\"sh\"]\nhealth = \"process-only\"\n",
        "E-PKG-VALUE",
        "[a-z0-9-]{1,63}",
    ),
];

#[test]
fn a_package_that_no_host_would_take_is_not_built() {
    let home = tempfile::tempdir().expect("a directory");
    let tree = home.path().join("web");
    std::fs::create_dir_all(tree.join("bin")).expect("made");
    std::fs::write(tree.join("bin/plain"), "").expect("written");
    let path = tree.to_string_lossy().into_owned();
    for (text, code, part) in PACKAGE_FILES {
        std::fs::write(tree.join("houston.toml"), format!("{NAMED}{text}")).expect("written");
        let ran = houston(home.path(), &["package", "build", &path]);
        assert!(ran.err.starts_with(&format!("{code}: ")) && ran.err.contains(part), "{text}: {ran:?}");
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{text}: {ran:?}");
        assert!(!ran.err.contains("hunter2"), "a secret is not told: {ran:?}");
    }
    std::fs::write(tree.join("houston.toml"), NAMED).expect("written");
    assert_eq!(houston(home.path(), &["package", "build", &path]).code, 0, "nothing else is wrong");
}

fn manifest(lines: &[&str]) -> Vec<u8> {
    lines.iter().fold("houston-tree 1\n".to_owned(), |text, line| text + line + "\n").into_bytes()
}

/// What archives are feared for, in the form in which it can reach us.
fn hostile_manifests() -> Vec<(&'static str, Vec<u8>, Code)> {
    let digest = Digest::of(b"x").to_string();
    let file = |path: &str| format!("f\t0644\t1\t{digest}\t{path}");
    let odd = |fields: &str| format!("f\t{fields}\t{digest}\ta");
    vec![
        ("B70 an absolute path", manifest(&[&file("/etc/cron.d/x")]), Code::TreePath),
        ("B71 a way out", manifest(&[&file("../x")]), Code::TreePath),
        ("B71 a way out in the middle", manifest(&["d\ta", &file("a/../../x")]), Code::TreePath),
        ("B72 a link out", manifest(&["l\t../../etc/passwd\tx"]), Code::TreeLink),
        ("B72 an absolute link", manifest(&["l\t/etc/passwd\tx"]), Code::TreeLink),
        ("B72 a loop", manifest(&["l\tb\ta", "l\ta\tb"]), Code::TreeLink),
        ("B72 a file below a link", manifest(&["d\ta", "l\ta\tb", &file("b/x")]), Code::TreePath),
        ("B75 a device", manifest(&["c\t1\t3\tnull"]), Code::TreeSyntax),
        ("B76 setuid", manifest(&[&odd("4755\t1")]), Code::TreeSyntax),
        ("B76 world-writable", manifest(&[&odd("0666\t1")]), Code::TreeSyntax),
        ("B78 twice", manifest(&[&file("a"), &file("a")]), Code::TreeDuplicate),
        ("B78 in two cases", manifest(&[&file("A"), &file("a")]), Code::TreeDuplicate),
        ("B78 a file, then a directory", manifest(&["d\ta", &file("a")]), Code::TreeDuplicate),
        (
            "B80 more than a tree holds",
            manifest(&[&odd(&format!("0644\t{}", 65_u64 << 30))]),
            Code::TreeLimit,
        ),
        ("B81 8 EiB", manifest(&[&odd("0644\t9223372036854775808")]), Code::TreeLimit),
        ("B81 a negative length", manifest(&[&odd("0644\t-1")]), Code::TreeSyntax),
        ("B81 a length of 2^64", manifest(&[&odd("0644\t18446744073709551616")]), Code::TreeSyntax),
        ("B83 no end", b"houston-tree 1\nd\ta".to_vec(), Code::TreeSyntax),
        ("B83 more after it", manifest(&["d\ta", ""]), Code::TreeSyntax),
        ("B83 garbage", vec![0xff; 1000], Code::TreeSyntax),
        ("B83 an archive", b"\x1f\x8b\x08\x00".to_vec(), Code::TreeSyntax),
        ("B65 MD5", manifest(&["f\t0644\t1\td41d8cd98f00b204e9800998ecf8427e\ta"]), Code::TreeSyntax),
        ("B87 our own name", manifest(&[&file(".houston-x")]), Code::TreePath),
        ("a control character", manifest(&[&file("a\u{1b}[31m")]), Code::TreePath),
        ("a direction character", manifest(&[&file("a\u{202e}b")]), Code::TreePath),
        ("out of order", manifest(&[&file("b"), &file("a")]), Code::TreeSyntax),
        ("without its directory", manifest(&[&file("a/b")]), Code::TreePath),
    ]
}

/// A coordinator that gives out whatever it is told to.
struct Hostile(Arc<Mutex<HashMap<TreeDigest, Vec<u8>>>>);

type Pieces<M> = tokio_stream::Iter<std::vec::IntoIter<Result<M, Status>>>;

#[tonic::async_trait]
impl wire::agent_server::Agent for Hostile {
    type FetchManifestStream = Pieces<wire::ManifestChunk>;
    type FetchFilesStream = Pieces<wire::FileChunk>;

    async fn renew(&self, _: Request<wire::RenewRequest>) -> Result<Response<wire::RenewResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn check_in(
        &self,
        _: Request<wire::CheckInRequest>,
    ) -> Result<Response<wire::CheckInResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn fetch_manifest(
        &self,
        request: Request<wire::FetchManifestRequest>,
    ) -> Result<Response<Self::FetchManifestStream>, Status> {
        let tree = Digest::try_from_slice(&request.into_inner().tree).expect("a digest");
        let text = self.0.lock().expect("the lock").get(&TreeDigest(tree)).cloned().expect("it was told of");
        let chunks: Vec<_> = text
            .chunks(60_000)
            .map(|data| Ok(wire::ManifestChunk { data: Bytes::copy_from_slice(data) }))
            .collect();
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn fetch_files(
        &self,
        _: Request<wire::FetchFilesRequest>,
    ) -> Result<Response<Self::FetchFilesStream>, Status> {
        panic!("no file of a refused manifest is asked for")
    }
}

/// Serves it over the TLS that an agent demands, until the runtime ends.
async fn serve(texts: Arc<Mutex<HashMap<TreeDigest, Vec<u8>>>>) -> Link {
    let (now, day, clock) = (SystemTime::now(), Duration::from_secs(24 * 3600), ClockFloor::new());
    let (ca, _) = Ca::create(now).expect("an authority");
    let (issued, key) =
        ca.issue_coordinator(&["127.0.0.1".parse().expect("a name")], day, now).expect("issued");
    let own = Credential::from_pem(&issued.chain_pem, &key).expect("a credential");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").into();
    let (publish, settings) =
        tokio::sync::watch::channel(ServerSettings::mutual(&own, ca.pem(), &clock).expect("settings"));
    let service = wire::agent_server::AgentServer::new(Hostile(texts));
    tokio::spawn(async move {
        let _publish = publish;
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(Incoming::new(listener, settings))
            .await
    });
    let (key, csr) = new_key_and_csr().expect("a key");
    let issued = ca.issue_host(&csr, &"web-1".parse().expect("a name"), day, now).expect("issued");
    let host = Credential::from_pem(&issued.chain_pem, &key).expect("a credential");
    let settings = ClientSettings::new(Trust::Authorities(ca.pem()), Some(&host), &clock).expect("settings");
    Link::new(address, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_refused_by_the_push_is_refused_by_the_host_alike() {
    let texts = Arc::new(Mutex::new(HashMap::new()));
    let link = Arc::new(serve(texts.clone()).await);
    let runtime = tokio::runtime::Handle::current();
    let check = move || {
        let (coordinator, host) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let files =
            Files::open(&coordinator.path().join("files"), Reserve::Bytes(0)).expect("an empty store");
        let blobs = Blobs::open(host.path()).expect("an empty host");
        std::fs::create_dir(host.path().join("trees")).expect("made");
        let trees = Dir::open(&host.path().join("trees")).expect("opened");
        let places = Places { blobs: &blobs, trees: &trees, kept: &[] };
        let mut fetcher = Fetcher::new(runtime);
        let mut fetch = |tree| fetcher.fetch(&link, places, &[tree], Duration::from_secs(30));
        let mut wrong = Vec::new();
        for (what, text, code) in hostile_manifests() {
            let refusal = files.put_manifest(&text).expect_err(what);
            if refusal.code != code {
                wrong.push(format!("{what}: {refusal}"));
            }
            assert!(refusal.to_string().chars().all(houston_common::id::is_plain), "{what}: {refusal:?}");
            let tree = TreeDigest(Digest::of(&text));
            texts.lock().expect("the lock").insert(tree, text);
            let error = fetch(tree).expect_err(what);
            assert_eq!(error.refusal, refusal, "{what}: the same words on both sides");
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        // B64, B80: not the one that was named, and one that does not end.
        let tree = TreeDigest(Digest::of(b"named"));
        texts.lock().expect("the lock").insert(tree, manifest(&["d\ta"]));
        assert_eq!(fetch(tree).expect_err("another").refusal.code, Code::FileDigest);
        let flood = vec![b'x'; MANIFEST_BYTES_MAX + 1];
        let tree = TreeDigest(Digest::of(&flood));
        assert_eq!(files.put_manifest(&flood).expect_err("too long").code, Code::TreeLimit);
        texts.lock().expect("the lock").insert(tree, flood);
        assert_eq!(fetch(tree).expect_err("too long").refusal.code, Code::TreeLimit);
        for directory in ["blobs", "trees"] {
            let left = std::fs::read_dir(host.path().join(directory)).expect("listed").count();
            assert_eq!(left, 0, "nothing of it is left in {directory}");
        }
        // One with which nothing is wrong is taken.
        let text = manifest(&["d\ta"]);
        let tree = files.put_manifest(&text).expect("a good one");
        texts.lock().expect("the lock").insert(tree, text);
        fetch(tree).expect("a good one");
    };
    tokio::task::spawn_blocking(check).await.expect("no panic");
}

/// The page says which names a package may not set; the build and the hosts ask the same question.
#[test]
fn the_reserved_variables_are_those_of_the_page() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = std::fs::read_to_string(root.join("docs/package.md")).expect("the page");
    let line = page.lines().find(|line| line.contains("Refused with `E-HOOK-ENV`")).expect("the line");
    let (_, names) = line.split_once("E-HOOK-ENV`").expect("the names");
    let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(houston_common::package::is_reserved(&name.replace('…', "ANY")), "{name} may be set");
    }
}
