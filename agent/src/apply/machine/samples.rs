//! Releases, assignments and states to test with. What a package has follows from its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::{Assignment, Order, Stamp, Terms};
use houston_common::digest::{Digest, TreeDigest};
use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, Generation, PackageName, Platform, StoreId};
use houston_common::package::{
    Command, Health as DeclaredHealth, HealthCheck, Hook, HookPhase, Limits, PackageFile, Probe, Restart,
    SecretNeed, Service, SettingNeed,
};
use houston_common::release::{PackageVersion, ReleaseContent, Settings, VersionSet};

use super::{Event, State, Task};
use crate::apply::boot_time::{BootId, BootTime};
use crate::apply::deployment::{DeployedPackage, Deployment};
use crate::apply::health::Health;
use crate::host::{FetchError, StepError};

pub const HOOKS: [HookPhase; 6] = [
    HookPhase::Check,
    HookPhase::Drain,
    HookPhase::Stop,
    HookPhase::Start,
    HookPhase::Resume,
    HookPhase::Cleanup,
];

pub const TERMS: Terms = Terms {
    start_within: Duration::from_secs(30),
    apply_deadline: Duration::from_secs(600),
    health_window: Duration::from_secs(30),
};

pub fn at(seconds: u64) -> BootTime {
    BootTime { boot: BootId(1), ms: seconds * 1_000 }
}

fn command(program: &str) -> Command {
    Command { program: program.to_owned(), arguments: vec!["--fast".to_owned()] }
}

fn service(name: &str, health: DeclaredHealth) -> Service {
    Service {
        name: name.parse().expect("service"),
        command: command("bin/serve"),
        user: Some("web".to_owned()),
        restart: Restart::OnFailure,
        ports: vec![8080],
        limits: Limits { open_files: Some(1024), ..Limits::default() },
        stop_grace: Duration::from_secs(10),
        health,
    }
}

pub fn check(port: u16) -> HealthCheck {
    HealthCheck {
        probe: Probe::Http { port, path: "/health".to_owned(), expect_body: None },
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy_after: 2,
        unhealthy_after: 3,
        start_grace: Duration::from_secs(10),
    }
}

/// `web`: two services, every hook. `db`: one service that says process-only, no hooks. `proxy`: like db,
/// restarts with web. `conf`: every hook, no services. `once`: every hook, none of which may run twice,
/// and a service. Anything else: nothing.
fn package_file(name: &str, version: &str) -> PackageFile {
    let checks = DeclaredHealth::Checks(vec![check(80)]);
    let services = match name {
        "web" => vec![service("front", checks), service("back", DeclaredHealth::ProcessOnly)],
        "db" | "proxy" | "once" => vec![service("main", DeclaredHealth::ProcessOnly)],
        _ => Vec::new(),
    };
    let hook = Hook {
        command: command("bin/hook"),
        timeout: Some(Duration::from_secs(60)),
        user: None,
        rerun: name != "once",
    };
    let has_hooks = matches!(name, "web" | "conf" | "once");
    PackageFile {
        name: name.parse().expect("package"),
        version: version.parse().expect("version"),
        hooks: HOOKS.into_iter().filter(|_| has_hooks).map(|phase| (phase, hook.clone())).collect(),
        services,
        settings: vec![SettingNeed { key: "LEVEL".parse().expect("key"), default: Some("info".to_owned()) }],
        secrets: vec![SecretNeed { variable: "KEY".parse().expect("key"), file: "/etc/key".to_owned() }],
        restart_with: if name == "proxy" { vec!["web".parse().expect("package")] } else { Vec::new() },
    }
}

/// A release from a text such as `db 1, web 2`; `level` is its one setting.
pub fn content_with(packages: &str, level: &str) -> ReleaseContent {
    let packages = packages.split(", ").filter(|text| !text.is_empty()).map(|text| {
        let (name, version) = text.split_once(' ').expect("name and version");
        PackageVersion {
            name: name.parse().expect("package"),
            version: version.parse().expect("version"),
            trees: BTreeMap::from([(Platform::any(), TreeDigest(Digest::of(text.as_bytes())))]),
        }
    });
    let settings = BTreeMap::from([("LEVEL".parse().expect("key"), level.to_owned())]);
    let version_set = VersionSet { packages: packages.collect() };
    ReleaseContent { version_set: Arc::new(version_set), settings: Arc::new(Settings(settings)) }
}

pub fn content(packages: &str) -> ReleaseContent {
    if packages.is_empty() { ReleaseContent::empty() } else { content_with(packages, "info") }
}

pub fn laid_out(content: &ReleaseContent) -> Deployment {
    let packages = content.version_set.packages.iter().map(|package| {
        Arc::new(DeployedPackage {
            tree: package.trees[&Platform::any()],
            file: package_file(package.name.as_str(), package.version.as_str()),
            settings: content.settings.0.clone(),
        })
    });
    Deployment { release: content.release().digest(), packages: packages.collect() }
}

pub fn deployment(packages: &str) -> Arc<Deployment> {
    Arc::new(laid_out(&content(packages)))
}

pub fn assignment(generation: u64, order: Order, release: &str, way_back: &str) -> Assignment {
    Assignment {
        environment: "prod".parse().expect("environment"),
        stamp: Stamp {
            store: StoreId([7; 16]),
            epoch: Epoch(1),
            generation: Generation(generation),
            mac: [generation.to_le_bytes()[0]; 32],
        },
        order,
        release: content(release),
        way_back: content(way_back),
    }
}

pub fn prepare(generation: u64, release: &str, sent: BootTime) -> Task {
    Task { assignment: assignment(generation, Order::Prepare, release, OLD), sent }
}

pub fn grant(generation: u64, release: &str, sent: BootTime) -> Task {
    Task { assignment: assignment(generation, Order::Activate(TERMS), release, OLD), sent }
}

/// What runs before, what is assigned, and what comes after that.
pub const OLD: &str = "db 1, web 1";
pub const NEW: &str = "db 1, web 2";
pub const NEWER: &str = "db 1, web 3";

pub fn refusal(code: Code) -> Refusal {
    Refusal::new(code, "it went wrong", "")
}

pub fn step_error() -> StepError {
    StepError { code: Code::HookExit, message: "it ended with 1".to_owned(), log_tail: "no\n".to_owned() }
}

pub fn package(name: &str) -> PackageName {
    name.parse().expect("package")
}

pub fn laid(target: &str, from: &str) -> Event {
    Event::LaidOut { target: deployment(target), way_back: deployment(OLD), from: Some(deployment(from)) }
}

pub fn healthy(since: BootTime) -> Event {
    Event::HealthSeen { health: Health::Healthy { since }, log_tail: String::new() }
}

pub fn unhealthy() -> Event {
    let (package, service) = (package("web"), "front".parse().expect("service"));
    let reason = "web/front: 503".to_owned();
    Event::HealthSeen { health: Health::Unhealthy { package, service, reason }, log_tail: "no\n".to_owned() }
}

/// One event of each kind, and of some kinds several.
pub fn events() -> Vec<(&'static str, Event)> {
    let fetch_failed = |code| Event::FetchFailed {
        error: FetchError { refusal: refusal(code), retry_after: None },
        random: 999,
    };
    vec![
        ("Loaded", Event::Loaded),
        ("Assigned(older)", Event::Assigned(prepare(1, NEW, at(100)))),
        ("Assigned(same)", Event::Assigned(grant(5, NEW, at(100)))),
        ("Assigned(different)", Event::Assigned(grant(5, NEWER, at(100)))),
        ("Assigned(newer)", Event::Assigned(prepare(6, NEWER, at(100)))),
        ("Assigned(newer, same releases)", Event::Assigned(grant(6, NEW, at(100)))),
        ("TimePassed", Event::TimePassed),
        ("Fetched", Event::Fetched),
        ("FetchFailed(busy)", fetch_failed(Code::Busy)),
        ("FetchFailed(platform)", fetch_failed(Code::PlatformMissing)),
        ("LaidOut", laid(NEW, OLD)),
        ("LayOutFailed(secret)", Event::LayOutFailed { refusal: refusal(Code::SecretMissing), random: 999 }),
        ("LayOutFailed(space)", Event::LayOutFailed { refusal: refusal(Code::DiskSpace), random: 999 }),
        ("Begun", Event::Begun),
        ("StepDone", Event::StepDone),
        ("StepFailed", Event::StepFailed(step_error())),
        ("Switched", Event::Switched { running: deployment(NEW).link() }),
        ("SwitchFailed", Event::SwitchFailed(refusal(Code::Io))),
        ("HealthSeen(healthy)", healthy(at(100))),
        ("HealthSeen(unhealthy)", unhealthy()),
        ("Reported", Event::Reported),
        ("Collected", Event::Collected),
    ]
}

fn after(state: &State, events: impl IntoIterator<Item = Event>, seconds: u64) -> State {
    events.into_iter().fold(state.clone(), |state, event| {
        let name = event.name();
        state.on(event, at(seconds)).unwrap_or_else(|refused| panic!("{name}: {refused}"))
    })
}

/// `count` steps done, each at second 100.
pub fn steps(state: &State, count: usize) -> State {
    after(state, std::iter::repeat_n(Event::StepDone, count), 100)
}

/// A state of each kind, each reached by events from the first, at second 100.
pub fn states() -> Vec<(&'static str, State)> {
    let idle = State::new(deployment(OLD));
    let fetching = after(&idle, [Event::Assigned(grant(5, NEW, at(100)))], 100);
    let failing = Event::FetchFailed {
        error: FetchError { refusal: refusal(Code::Busy), retry_after: Some(Duration::from_secs(10)) },
        random: 0,
    };
    let waiting = after(&fetching, [failing], 100);
    let laying = after(&fetching, [Event::Fetched], 100);
    let checking = after(&laying, [laid(NEW, OLD)], 100);
    let refused = after(&checking, [Event::StepFailed(step_error())], 100);
    let granted = steps(&checking, 1);
    let void = after(&granted, [Event::TimePassed], 200);
    let prepared = after(
        &idle,
        [Event::Assigned(prepare(5, NEW, at(100))), Event::Fetched, laid(NEW, OLD), Event::StepDone],
        100,
    );
    let stopping = after(&granted, [Event::Begun], 100);
    let queued = after(&stopping, [Event::Assigned(prepare(6, NEWER, at(100)))], 100);
    let switching = steps(&stopping, 4);
    let switched = |name: &str| Event::Switched { running: deployment(name).link() };
    let starting = after(&switching, [switched(NEW)], 100);
    let proving = steps(&starting, 3);
    let resuming = after(&proving, [healthy(at(100))], 130);
    let settled = steps(&resuming, 1);
    let collecting = steps(&settled, 1);
    let rest = after(&collecting, [Event::Collected], 100);
    let told = after(&rest, [Event::Reported], 100);
    let back_stopping = after(&starting, [Event::StepFailed(step_error())], 100);
    let back_switching = steps(&back_stopping, 4);
    let back_starting = after(&back_switching, [switched(OLD)], 100);
    let back_proving = steps(&back_starting, 3);
    let back_resuming = after(&back_proving, [healthy(at(100))], 130);
    let reverted = steps(&back_resuming, 1);
    let failed = after(&back_starting, [Event::StepFailed(step_error())], 100);
    vec![
        ("Idle", idle),
        ("Idle, refused", refused),
        ("Fetching", fetching),
        ("Fetching, waiting", waiting),
        ("LayingOut", laying),
        ("Checking", checking),
        ("Ready, prepared", prepared),
        ("Ready, granted", granted),
        ("Ready, void", void),
        ("Stopping", stopping),
        ("Stopping, next waits", queued),
        ("Switching", switching),
        ("Starting", starting),
        ("Proving", proving),
        ("Resuming", resuming),
        ("Settled, cleaning", settled),
        ("Settled, collecting", collecting),
        ("Settled", rest),
        ("Settled, told", told),
        ("Back: stopping", back_stopping),
        ("Back: switching", back_switching),
        ("Back: starting", back_starting),
        ("Back: proving", back_proving),
        ("Back: resuming", back_resuming),
        ("Reverted, cleaning", reverted),
        ("Failed, cleaning", failed),
    ]
}

pub fn state(name: &str) -> State {
    let states = states();
    states.into_iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no state {name}")).1
}
