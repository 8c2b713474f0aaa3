use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::digest::Digest;
use houston_common::exchange::Encoding;
use houston_common::id::SettingKey;
use houston_common::manifest::{Entry, FileMode, Node};
use houston_common::package::HookPhase;
use houston_common::release::{PackageVersion, VersionSet};
use houston_common::tls::{ClientSettings, ClockFloor, Trust};

use super::*;
use crate::apply::deployment::Deployment;
use crate::host::exec::tests::{program, wait_until};
use crate::host::{Fetch, HookStep, Host as _, Record, ServiceStep};

pub(crate) struct Bench {
    pub(crate) temp: tempfile::TempDir,
    /// The link leads nowhere: whatever is needed must be here.
    pub(crate) linux: Arc<Linux>,
    /// Its end lets the runtime end.
    _running: tokio::sync::oneshot::Sender<()>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().expect("directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let handle = runtime.handle().clone();
        let (running, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || drop(runtime.block_on(ended)));
        let trust = Trust::Fingerprint(Digest::of(b"nobody"));
        let settings = ClientSettings::new(trust, None, &ClockFloor::new()).expect("settings");
        let site = Site {
            host: "h-1".parse().expect("host"),
            zone: "a".parse().expect("zone"),
            address: [127, 0, 0, 1].into(),
            platforms: vec![Platform::any()],
        };
        let link = Arc::new(Link::new("127.0.0.1:1".parse().expect("address"), settings));
        let linux = Linux::open(temp.path(), site, program(), link, handle).expect("linux");
        Self { temp, linux: Arc::new(linux), _running: running }
    }

    pub(crate) fn environment(&self, name: &str) -> LinuxEnvironment {
        LinuxEnvironment::open(Arc::clone(&self.linux), name.parse().expect("name")).expect("environment")
    }

    /// Puts a package's contents where a fetch would, and returns a release of it alone.
    fn release(
        &self,
        houston_toml: &str,
        files: &[(&str, &str)],
        settings: &[(&str, &str)],
    ) -> ReleaseContent {
        let files = files.iter().map(|(path, text)| (*path, FileMode::Executable, *text));
        let files = files.chain([("houston.toml", FileMode::Plain, houston_toml)]);
        let entries = files.map(|(path, mode, text)| {
            let digest = FileDigest(Digest::of(text.as_bytes()));
            let length = text.len() as u64;
            self.linux.blobs.put(&digest, length, Encoding::Identity, text.as_bytes()).expect("blob");
            Entry { path: path.to_owned(), node: Node::File { mode, length, digest } }
        });
        let manifest = Manifest::from_entries(entries.collect()).expect("manifest");
        self.linux.blobs.put_manifest(&manifest).expect("manifest");
        let file = PackageFile::parse(houston_toml.as_bytes()).expect("houston.toml");
        let package = PackageVersion {
            name: file.name,
            version: file.version,
            trees: BTreeMap::from([(Platform::any(), manifest.digest())]),
        };
        let key = |text: &str| text.parse::<SettingKey>().expect("key");
        ReleaseContent {
            version_set: Arc::new(VersionSet { packages: vec![package] }),
            settings: Arc::new(Settings(settings.iter().map(|(k, v)| (key(k), (*v).to_owned())).collect())),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for key in self.linux.services.known().expect("services") {
            let _ = self.linux.services.stop(&key, Duration::ZERO);
        }
        self.linux.runner.cgroups.remove();
    }
}

const WEB: &str = r#"
name = "web"
version = "1"

[hooks.start]
command = ["begin"]

[[services]]
name = "http"
command = ["serve"]
ports = [18080]
health = "process-only"

[settings]
COLOUR = { required = true }
"#;

const BEGIN: &str =
    "#!/bin/sh\necho \"$COLOUR at $HOUSTON_ADDRESS\"\ntouch \"$HOUSTON_DATA/begun\"\nexit 3\n";
const SERVE: &str = "#!/bin/sh\nexec sleep 7777.3\n";

fn web(bench: &Bench, colour: &str) -> ReleaseContent {
    bench.release(WEB, &[("serve", SERVE), ("begin", BEGIN)], &[("COLOUR", colour)])
}

fn empty() -> ReleaseContent {
    ReleaseContent::empty()
}

#[test]
fn a_release_is_laid_out_switched_to_measured_and_collected() {
    let bench = Bench::new();
    let mut host = bench.environment("prod");
    let release = web(&bench, "red");
    assert_eq!(host.fetch(&release, Duration::from_secs(1)), Ok(Fetch::Complete), "everything is here");
    bench
        .linux
        .needs(&"prod".parse().expect("name"), Keep { contents: vec![release.clone()], ..Keep::default() });
    let deployment = host.lay_out(&release).expect("laid out");
    assert_eq!(host.lay_out(&release), Ok(deployment.clone()), "twice");
    assert_eq!(deployment.packages[0].settings.values().collect::<Vec<_>>(), ["red"]);
    assert_eq!(bench.linux.blobs.dir().names().expect("names").len(), 0, "what is laid out needs no blobs");
    assert_eq!(
        host.fetch(&release, Duration::from_secs(1)),
        Ok(Fetch::Complete),
        "it is taken from the tree"
    );
    assert_eq!(host.measure(), Ok(Deployment::nothing()));
    host.switch(Some(deployment.release)).expect("switched");
    assert_eq!(host.measure(), Ok(deployment.clone()));
    // Another release of the same tree needs nothing but its own settings.
    let other = ReleaseContent { settings: web(&bench, "blue").settings, ..release.clone() };
    let other = host.lay_out(&other).expect("laid out");
    assert_eq!(other.packages[0].tree, deployment.packages[0].tree);
    host.collect(&Keep { releases: vec![deployment.release], contents: vec![empty()] }).expect("collected");
    assert!(host.switch(Some(other.release)).is_err(), "it was collected");
    assert_eq!(host.measure(), Ok(deployment.clone()));
    host.switch(None).expect("switched to nothing");
    host.collect(&Keep::default()).expect("collected");
    assert!(bench.linux.laid_out().expect("trees").is_empty());
    assert_eq!(bench.linux.claims.owner(&super::super::claims::Claim::Port(18080)), Ok(None));
}

#[test]
fn a_damaged_tree_is_found_out_and_laid_out_anew() {
    let bench = Bench::new();
    let mut host = bench.environment("prod");
    let release = web(&bench, "red");
    let deployment = host.lay_out(&release).expect("laid out");
    let tree = bench.linux.state.tree_path(&deployment.packages[0].tree);
    std::fs::write(tree.join("serve"), SERVE.replace("7777", "6666")).expect("damage");
    assert_eq!(host.lay_out(&release).expect_err("damaged").code, Code::FileMissing);
    // Now it looks at every byte, and would fetch the file: the coordinator is not there.
    let error = host.fetch(&release, Duration::from_secs(1)).expect_err("fetches");
    assert_eq!(error.refusal.code, Code::Unreachable, "{error}");
    web(&bench, "red");
    assert_eq!(host.fetch(&release, Duration::from_secs(1)), Ok(Fetch::Complete));
    assert_eq!(host.lay_out(&release), Ok(deployment.clone()));
    host.switch(Some(deployment.release)).expect("switched");
    assert_eq!(host.measure(), Ok(deployment));
}

#[test]
fn a_damaged_way_back_is_mended_beside_a_new_release() {
    let bench = Bench::new();
    let mut host = bench.environment("prod");
    let old = web(&bench, "red");
    let deployment = host.lay_out(&old).expect("laid out");
    let files = [("serve", "#!/bin/sh\nexec sleep 7777.4\n"), ("begin", "#!/bin/sh\n")];
    let new = bench.release(&WEB.replace("\"1\"", "\"2\""), &files, &[("COLOUR", "red")]);
    let keep = Keep { contents: vec![new.clone(), old.clone()], ..Keep::default() };
    bench.linux.needs(&"prod".parse().expect("name"), keep);
    let tree = bench.linux.state.tree_path(&deployment.packages[0].tree);
    std::fs::write(tree.join("serve"), SERVE.replace("7777", "6666")).expect("damage");
    host.lay_out(&new).expect("it shares nothing with the damaged one");
    assert_eq!(host.lay_out(&old).expect_err("damaged").code, Code::FileMissing);
    assert_eq!(host.fetch(&new, Duration::from_secs(1)), Ok(Fetch::Complete));
    let error = host.fetch(&old, Duration::from_secs(1)).expect_err("fetches");
    assert_eq!(error.refusal.code, Code::Unreachable, "{error}");
    // What was fetched for the one must outlast the layout of the other.
    web(&bench, "red");
    assert_eq!(host.fetch(&old, Duration::from_secs(1)), Ok(Fetch::Complete));
    host.lay_out(&new).expect("laid out");
    assert_eq!(host.lay_out(&old), Ok(deployment));
    assert_eq!(bench.linux.blobs.dir().names().expect("names").len(), 0, "what is laid out needs no blobs");
}

#[test]
fn hooks_and_services_run_with_their_settings_and_leave_their_output() {
    let bench = Bench::new();
    let mut host = bench.environment("prod");
    let deployment = host.lay_out(&web(&bench, "red")).expect("laid out");
    let package = &*deployment.packages[0];
    let hook = &package.file.hooks[&HookPhase::Start];
    let timeout = Duration::from_secs(20);
    let step = HookStep { release: deployment.release, package, phase: HookPhase::Start, hook, timeout };
    let error = host.run_hook(step).expect_err("it exits with 3");
    assert_eq!((error.code, &*error.log_tail), (Code::HookExit, "red at 127.0.0.1"), "{error}");
    let own = bench.temp.path().join("environments/prod");
    assert!(own.join("data/web/begun").is_file());
    assert!(
        std::fs::read_to_string(own.join("logs/web.hook.start.log"))
            .expect("log")
            .contains("red at 127.0.0.1")
    );
    let service = &package.file.services[0];
    let (release, grace) = (deployment.release, service.stop_grace);
    let step = ServiceStep { release, package, service, grace };
    let key = key(&"prod".parse().expect("name"), &package.file.name, &service.name);
    assert!(bench.linux.process_runs(&key).is_err());
    host.start_service(step).expect("started");
    bench.linux.process_runs(&key).expect("runs");
    host.start_service(step).expect("started twice is started once");
    host.stop_service(step).expect("stopped");
    wait_until("it is gone", || bench.linux.process_runs(&key).is_err());
}

#[test]
fn what_cannot_run_here_is_refused_before_anything_is_disturbed() {
    let bench = Bench::new();
    let (mut host, mut other) = (bench.environment("prod"), bench.environment("test"));
    let code = |host: &mut LinuxEnvironment, release: &ReleaseContent| {
        host.lay_out(release).expect_err("refused").code
    };
    let without = ReleaseContent { settings: Arc::default(), ..web(&bench, "red") };
    assert_eq!(code(&mut host, &without), Code::SettingMissing);
    host.lay_out(&web(&bench, "red")).expect("laid out");
    assert_eq!(code(&mut other, &web(&bench, "blue")), Code::ServiceOwned);
    let nobody = WEB.replace("command = [\"serve\"]", "command = [\"serve\"]\nuser = \"no-such-user\"");
    let release = bench.release(&nobody, &[("serve", SERVE), ("begin", BEGIN)], &[("COLOUR", "red")]);
    assert_eq!(code(&mut host, &release), Code::HookUser);
    let mut lies = web(&bench, "red");
    let mut package = lies.version_set.packages[0].clone();
    package.version = "2".parse().expect("version");
    lies.version_set = Arc::new(VersionSet { packages: vec![package.clone()] });
    assert_eq!(code(&mut host, &lies), Code::PackageValue);
    package.trees =
        BTreeMap::from([("linux-riscv64".parse().expect("platform"), package.trees[&Platform::any()])]);
    lies.version_set = Arc::new(VersionSet { packages: vec![package] });
    assert_eq!(code(&mut host, &lies), Code::PlatformMissing);
    assert_eq!(host.fetch(&lies, Duration::ZERO).expect_err("refused").refusal.code, Code::PlatformMissing);
}

#[test]
fn nothing_is_collected_while_an_environment_is_not_understood() {
    let bench = Bench::new();
    let mut host = bench.environment("prod");
    let deployment = host.lay_out(&web(&bench, "red")).expect("laid out");
    let other = bench.environment("test");
    assert_eq!(host.collect(&Keep::default()).expect_err("unknown").code, Code::State);
    host.switch(Some(deployment.release)).expect("still there");
    host.switch(None).expect("switched");
    bench.linux.needs(&"test".parse().expect("name"), Keep::default());
    host.collect(&Keep::default()).expect("collected");
    drop(other);
}

#[test]
fn a_forgotten_environment_leaves_only_data_that_was_written() {
    let bench = Bench::new();
    for (name, writes) in [("prod", true), ("test", false)] {
        let mut host = bench.environment(name);
        host.write_record(Record::Journal, b"x").expect("record");
        let data = host_data(&bench, name);
        std::fs::create_dir_all(&data).expect("data");
        if writes {
            std::fs::write(data.join("precious"), "p").expect("data");
        }
        drop(host);
        bench.linux.forget(&name.parse().expect("name")).expect("forgotten");
        let own = bench.temp.path().join("environments").join(name);
        assert_eq!(own.exists(), writes);
        assert_eq!(data.join("precious").exists(), writes);
        assert!(!own.join("journal").exists());
    }
    bench.environment("stage").collect(&Keep::default()).expect("what is left hides nothing");
}

fn host_data(bench: &Bench, environment: &str) -> std::path::PathBuf {
    bench.temp.path().join("environments").join(environment).join("data/web")
}
