use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use houston_agent::enroll::{Request, enroll};
use houston_cli::console::Surroundings;
use houston_common::error::Code;
use houston_common::identity::PrivateKey;
use houston_common::identity::request::csr;
use houston_common::tls::Address;
use houston_coordinator::ca::Ca;
use houston_tests::coordinator::Running;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub code: u8,
    pub out: String,
    pub err: String,
}

/// A command of an operator whose home this is, in this process.
pub(super) fn houston(home: &Path, arguments: &[&str]) -> Ran {
    let surroundings = Surroundings {
        home: Some(home.to_owned()),
        config_home: None,
        plain_terminal: true,
        terminal: || None,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("houston").chain(arguments.iter().copied()).map(OsString::from);
    let code = houston_cli::run(arguments, &surroundings, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ran { code, out: text(out), err: text(err) }
}

/// An operator's machine that knows a coordinator as `here`.
struct Desk {
    home: TempDir,
}

impl Desk {
    async fn at(coordinator: &Running) -> Self {
        let desk = Self { home: tempfile::tempdir().expect("a directory") };
        let ada = coordinator.directory.path().join("operators/ada");
        desk.context("here", &ada, &coordinator.agents().to_string()).await;
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    }

    async fn context(&self, name: &str, credential: &Path, address: &str) {
        let credential = credential.to_string_lossy().into_owned();
        let added =
            self.run(&["context", "add", name, "--credential", &credential, "--address", address]).await;
        assert_eq!(added.code, 0, "{added:?}");
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let home = self.home.path().to_owned();
        let owned: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let run = move || {
            let arguments: Vec<&str> = owned.iter().map(String::as_str).collect();
            houston(&home, &arguments)
        };
        tokio::task::spawn_blocking(run).await.expect("no panic")
    }

    async fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}: {ran:?}");
        ran
    }

    /// Each command is refused with this code and exit code, and says all of this.
    async fn refused(&self, rows: &[Row<'_>]) {
        for (arguments, code, exit, parts) in rows {
            let ran = self.run(arguments).await;
            assert!(ran.err.starts_with(&format!("{code}: ")), "{arguments:?}: {ran:?}");
            assert_eq!(ran.code, *exit, "{arguments:?}: {ran:?}");
            for part in *parts {
                assert!(ran.err.contains(part), "{arguments:?} lacks {part:?}: {}", ran.err);
            }
            assert_eq!((ran.out.as_str(), ran.err.lines().count()), ("", 1), "{arguments:?}: {ran:?}");
        }
    }
}

/// What is typed, the code and the exit code, and what the line says besides.
type Row<'a> = (&'a [&'a str], &'a str, u8, &'a [&'a str]);

const POLICY: &str = "[policy]\nfleet_floor = 0\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named_with_what_is() {
    let coordinator = Running::start(|_| {}).await;
    let desk = Desk::at(&coordinator).await;
    let web = coordinator.host("web").await;
    let prod = desk.file("prod.toml", &format!("name = \"prod\"\n[selector]\nrole = \"web\"\n{POLICY}"));
    let empty = desk.file("empty.toml", "name = \"staging\"\n[selector]\nrole = \"none\"\n");
    desk.ok(&["environment", "apply", &prod]).await;
    assert_eq!(desk.run(&["environment", "apply", &empty]).await.code, 0);
    let tree = |number: usize| {
        desk.file(
            &format!("web-{number}/houston.toml"),
            &format!("name = \"web\"\nversion = \"{number}\"\n"),
        );
        desk.path(&format!("web-{number}")).to_string_lossy().into_owned()
    };
    for number in 1..=7 {
        desk.ok(&["package", "push", &tree(number)]).await;
        desk.ok(&["version-set", "create", &format!("v{number}"), &format!("web@{number}")]).await;
    }
    desk.file("web-7/houston.toml", "name = \"web\"\nversion = \"7\"\n# Other contents.\n");
    let zone = desk
        .file("zone.toml", "name = \"prod\"\n[selector]\nrole = \"web\"\n[policy]\nzone_order = [\"b\"]\n");
    let all = desk.file("all.toml", "name = \"all\"\n[selector]\n");
    let leave = desk.file("leave.toml", &format!("name = \"prod\"\n[selector]\nrole = \"db\"\n{POLICY}"));
    let bob = desk.path("bob").to_string_lossy().into_owned();
    desk.refused(&[
        // B5
        (
            &["environment", "show", "prdo"],
            "E-ENV-UNKNOWN",
            2,
            &["\"prdo\"", "did you mean \"prod\"?", "staging"],
        ),
        (&["environment", "show", "zebra"], "E-ENV-UNKNOWN", 2, &["known: prod, staging"]),
        (&["rollout", "start", "prdo", "v1"], "E-ENV-UNKNOWN", 2, &["did you mean \"prod\"?"]),
        (&["explain", "prdo"], "E-ENV-UNKNOWN", 2, &["did you mean \"prod\"?"]),
        // B7
        (&["rollout", "start", "prod", "w9"], "E-VER-UNKNOWN", 2, &["\"w9\"", "v7, v6, v5, v4, v3"]),
        (&["version-set", "show", "w9"], "E-VER-UNKNOWN", 2, &["v7"]),
        (&["version-set", "create", "w", "web@9"], "E-PACKAGE-UNKNOWN", 2, &["web"]),
        (&["package", "remove", "web@9"], "E-PACKAGE-UNKNOWN", 2, &["web"]),
        // B14
        (&["environment", "apply", &zone], "E-ZONE-UNKNOWN", 2, &["\"b\""]),
        // B24
        (&["rollout", "start", "staging", "v1"], "E-SELECT-NONE", 3, &["staging", "houston host list"]),
        (&["environment", "apply", &all], "E-CLI-MISSING", 2, &["every host", "--yes"]),
        (&["environment", "apply", &leave], "E-CLI-MISSING", 2, &["1 host would leave prod", "--yes"]),
        // What is named, and is not there or is there already.
        (&["host", "show", "zz"], "E-HOST-UNKNOWN", 2, &["houston host list"]),
        (&["host", "drain", "wbe"], "E-HOST-UNKNOWN", 2, &["did you mean \"web\"?"]),
        (&["rollout", "status", "99"], "E-ROLLOUT-UNKNOWN", 2, &["99"]),
        (&["rollout", "pause", "prod"], "E-ROLLOUT-UNKNOWN", 2, &["prod"]),
        (&["token", "revoke", "none"], "E-TOKEN-UNKNOWN", 2, &["none"]),
        (&["operator", "revoke", "nobody", "--yes"], "E-OPERATOR-UNKNOWN", 2, &["nobody"]),
        (&["operator", "revoke", "ada", "--yes"], "E-LAST-ADMIN", 3, &["ada"]),
        (
            &["operator", "add", "ada", "--role", "viewer", "--directory", &bob],
            "E-OPERATOR-EXISTS",
            4,
            &["ada"],
        ),
        (&["package", "push", &desk.path("web-7").to_string_lossy()], "E-PACKAGE-EXISTS", 4, &["web"]),
        (&["package", "remove", "web@1"], "E-PACKAGE-IN-USE", 4, &["v1"]),
        (&["version-set", "create", "v1", "web@2"], "E-VER-EXISTS", 4, &["v1"]),
    ])
    .await;
    assert!(!desk.path("bob").exists(), "no credential is left of an operator who was not entered");
    let view = coordinator.admin().await.get_host(&web.id).await.expect("known");
    assert!(!view.drained && view.environments.len() == 1, "{view:?}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_second_is_told_of_the_first() {
    let coordinator = Running::start(|_| {}).await;
    let desk = Desk::at(&coordinator).await;
    coordinator.host("web").await;
    let prod = desk.file("prod.toml", &format!("name = \"prod\"\n[selector]\nrole = \"web\"\n{POLICY}"));
    desk.ok(&["environment", "apply", &prod]).await;
    for version in ["1", "2"] {
        desk.file(&format!("{version}/houston.toml"), &format!("name = \"web\"\nversion = \"{version}\"\n"));
        desk.ok(&["package", "push", &desk.path(version).to_string_lossy()]).await;
        desk.ok(&["version-set", "create", &format!("v{version}"), &format!("web@{version}")]).await;
    }
    let begin = ["rollout", "start", "prod", "v1", "--idempotency-key", "k-1", "--reason", "first"];
    let first = desk.ok(&begin).await;
    // The same request again is the same rollout.
    assert_eq!(desk.ok(&begin).await.out.lines().next(), first.out.lines().next());
    let narrow = desk.file("narrow.toml", &format!("name = \"prod\"\n[selector]\nrole = \"db\"\n{POLICY}"));
    desk.refused(&[
        // B15
        (
            &["rollout", "start", "prod", "v2"],
            "E-CONFLICT",
            4,
            &["rollout 1 by ada (first)", " since ", "houston rollout wait prod", "--supersede"],
        ),
        // B58
        (
            &["rollout", "start", "prod", "v2", "--idempotency-key", "k-1"],
            "E-IDEMPOTENCY",
            4,
            &["\"k-1\"", "rollout 1", "another key"],
        ),
        (&["environment", "apply", &narrow, "--yes"], "E-CONFLICT", 4, &["rollout 1"]),
    ])
    .await;
    desk.ok(&["rollout", "abort", "prod"]).await;
    desk.refused(&[
        (&["rollout", "pause", "prod"], "E-ROLLOUT-STATE", 4, &["aborted"]),
        // B9: nothing is baked, so there is nothing to uninstall.
        (&["rollout", "start", "prod", "empty"], "E-NOOP", 0, &["prod", "--force"]),
    ])
    .await;
    // A program gets an object also where there is nothing to do.
    for extra in [&["--output", "json"][..], &["--output", "json", "--watch"]] {
        let ran = desk.run(&[&["rollout", "start", "prod", "empty"], extra].concat()).await;
        assert!(ran.code == 0 && ran.err.starts_with("E-NOOP: "), "{ran:?}");
        let json: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!((&json["id"], &json["state"]), (&1.into(), &"aborted".into()));
    }
    desk.ok(&[
        "environment",
        "apply",
        &desk.file("new.toml", &format!("name = \"new\"\n[selector]\nrole = \"web\"\n{POLICY}")),
    ])
    .await;
    let ran = desk.run(&["rollout", "start", "new", "empty", "--output", "json"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "{\n  \"id\": null\n}\n"), "{ran:?}");
    // The newest rollout is still the first.
    let status = desk.ok(&["rollout", "list", "--output", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&status.out).expect("JSON");
    assert_eq!(json["rollouts"].as_array().map(Vec::len), Some(1), "{json}");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_went_into_a_file_enrolls_a_host_and_the_wrong_door_is_named() {
    let coordinator = Running::start(|_| {}).await;
    let desk = Desk::at(&coordinator).await;
    let created = desk.run(&["token", "create", "--zone", "a"]).await;
    assert_eq!((created.code, created.out.lines().count()), (0, 1), "{created:?}");
    assert!(created.err.starts_with("for 1 host in zone a, labels -, within "), "{created:?}");
    let asked = |door: Address| Request {
        coordinator: door,
        token: created.out.parse().expect("the token alone"),
        suggested_host: None,
        force: false,
    };
    let directory = desk.path("host");
    let refusal = enroll(&directory, asked(coordinator.agents())).await.expect_err("not a stranger's door");
    assert_eq!(refusal.code, Code::Unauthenticated);
    assert!(refusal.what.ends_with(" is the listener for hosts and operators"), "{refusal}");
    assert!(refusal.next.contains("enrollment listener, port 7401"), "{refusal}");
    enroll(&directory, asked(coordinator.enrollment())).await.expect("enrolled");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn context_files_in_one_directory_do_not_replace_each_others_credentials() {
    let coordinator = Running::start(|_| {}).await;
    let desk = Desk::at(&coordinator).await;
    let ada = coordinator.directory.path().join("operators/ada").to_string_lossy().into_owned();
    let (a, b) = (desk.file("a.toml", ""), desk.path("b.toml").to_string_lossy().into_owned());
    std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let address = coordinator.agents().to_string();
    let add = |file| ["context", "add", "own", "--credential", &ada, "--address", &address, "--config", file];
    let key = || std::fs::metadata(desk.path("credentials/own/key.pem")).expect("a key").ino();
    desk.ok(&add(&a)).await;
    let first = key();
    let forced = [&add(&b)[..], &["--replace"]].concat();
    desk.refused(&[
        (&add(&b), "E-CONTEXT", 2, &["credentials/own is there already", "a directory of its own"]),
        (&forced, "E-CONTEXT", 2, &["b.toml"]),
        (&add(&a), "E-CONTEXT", 2, &["exists already", "--replace"]),
    ])
    .await;
    assert_eq!(key(), first);
    desk.ok(&[&add(&a)[..], &["--replace"]].concat()).await;
    assert_ne!(key(), first);
    desk.ok(&["context", "remove", "own", "--yes", "--config", &a]).await;
    desk.ok(&add(&b)).await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_coordinator_is_named_by_what_is_wrong_with_it() {
    let coordinator = Running::start(|_| {}).await;
    let desk = Desk::at(&coordinator).await;
    let ada = coordinator.directory.path().join("operators/ada");
    // B19: nobody there, something else there, the other of our own doors.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = closed.local_addr().expect("an address");
    drop(closed);
    desk.context("nobody", &ada, &nobody.to_string()).await;
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    desk.context("web", &ada, &web.local_addr().expect("an address").to_string()).await;
    let served = tokio::spawn(async move {
        loop {
            let (mut stream, _) = web.accept().await.expect("a client");
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    desk.context("enrollment", &ada, &coordinator.enrollment().to_string()).await;
    // B20: a certificate that ended; one of another authority; one without its authority.
    let key =
        PrivateKey::read(&coordinator.directory.path().join("ca-key.pem")).expect("the authority's key");
    let ca = Ca::load(&coordinator.ca, &key, SystemTime::now()).expect("the authority");
    let (other, _) = Ca::create(SystemTime::now()).expect("an authority");
    let own = PrivateKey::read(&ada.join("key.pem")).expect("a key");
    let day = Duration::from_secs(24 * 3600);
    for (name, authority, at) in
        [("ended", &ca, SystemTime::now() - 2 * day), ("stranger", &other, SystemTime::now())]
    {
        let request = csr(&own).expect("a request");
        let issued =
            authority.issue_operator(&request, &"ada".parse().expect("a name"), day, at).expect("issued");
        let directory = desk.path(name);
        std::fs::create_dir(&directory).expect("made");
        std::fs::copy(ada.join("key.pem"), directory.join("key.pem")).expect("copied");
        std::fs::write(directory.join("certificate.pem"), &issued.chain_pem).expect("written");
        std::fs::write(directory.join("ca.pem"), &coordinator.ca).expect("written");
        desk.context(name, &directory, &coordinator.agents().to_string()).await;
    }
    let ended = desk.run(&["whoami", "--context", "ended"]).await;
    desk.refused(&[
        (&["whoami", "--context", "nobody"], "E-UNREACHABLE", 5, &[&nobody.to_string()]),
        (&["whoami", "--context", "web"], "E-TLS", 5, &["does not speak TLS", "check the port"]),
        (&["whoami", "--context", "enrollment"], "E-PROTO", 1, &["check the address and port"]),
        (&["whoami", "--context", "ended"], "E-CERT-EXPIRED", 3, &["operator/ada", " to 20"]),
        (&["whoami", "--context", "stranger"], "E-CERT-CA", 3, &["operator/ada"]),
        (&["whoami", "--context", "hree"], "E-CONTEXT", 2, &["did you mean \"here\"?"]),
    ])
    .await;
    assert!(!ended.err.contains("transport error"), "{ended:?}");
    served.abort();
    // What a command needs on disk can be lost after the context was made.
    let kept = desk.path(".config/houston/credentials/here");
    std::fs::write(kept.join("key.pem"), "").expect("written");
    let emptied = desk.run(&["whoami"]).await;
    assert!(emptied.code == 2 && emptied.err.starts_with("E-CREDENTIAL: "), "{emptied:?}");
    std::fs::remove_file(kept.join("key.pem")).expect("removed");
    let lost = desk.run(&["whoami"]).await;
    assert!(
        lost.code == 2 && lost.err.starts_with("E-CREDENTIAL: ") && lost.err.contains("key.pem"),
        "{lost:?}"
    );
    coordinator.stop().await;
}
