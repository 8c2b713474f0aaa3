//! What one report and one batch cost, by the size of the fleet: cost follows change, so that it should
//! hardly grow. `cargo bench --workspace --profile trial --bench scale`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::{Digest, TreeDigest};
use houston_common::id::{Epoch, Generation, HostId, Platform, RolloutId, StoreId};
use houston_common::policy::Policy;
use houston_common::release::{PackageVersion, Release, Settings, VersionSet};
use houston_common::report::{EnvironmentReport, Facts, HealthReport, Phase, Position, Report};
use houston_coordinator::catalog::NamedSet;
use houston_coordinator::engine::core::Core;
use houston_coordinator::environment::Definition;
use houston_coordinator::environment::member::{Lane, Member, Step};
use houston_coordinator::fleet::Host;
use houston_coordinator::records;
use houston_coordinator::rollout::planner::{self, GateValues};
use houston_coordinator::rollout::{Rolling, Rollout, Stage};
use houston_coordinator::state::{Edit, Meta};
use houston_coordinator::store::Store as _;
use houston_tests::store::MemoryStore;

const SIZES: [u32; 4] = [100, 1_000, 10_000, 100_000];
const ZONES: u32 = 10;
const NOW: FleetTime = FleetTime(1_000_000);
const WALL: WallTime = WallTime(1_800_000_000_000);
/// Records of one commit.
const PART: usize = 50;

fn main() {
    divan::main();
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn host_id(number: u32) -> HostId {
    name(&format!("h-{number:06}"))
}

/// A version set of one package.
fn set(version: &str) -> VersionSet {
    let trees = BTreeMap::from([(Platform::any(), TreeDigest(Digest::of(version.as_bytes())))]);
    VersionSet { packages: vec![PackageVersion { name: name("web"), version: name(version), trees }] }
}

fn release(version: &str) -> Release {
    Release { version_set: set(version).digest(), settings: Settings::default().digest() }
}

/// A coordinator in the middle of a rollout: version 1 runs everywhere, version 2 is in its first zone, whose
/// hosts are ready.
struct Fleet {
    core: Core,
    size: u32,
    said: u64,
}

impl Fleet {
    fn rolling(size: u32) -> Self {
        let meta = Meta {
            store: StoreId([7; 16]),
            mac_key: [1; 32],
            generation: Generation(0),
            rollout: RolloutId(1),
            audit: 0,
            checkpoint: NOW,
            regressed: false,
        };
        let store = MemoryStore::new();
        Core::create(&store, meta, &[]).expect("an empty store");
        let epoch = store.take_over(Epoch(0)).expect("taken");
        for part in edits(size).chunks(PART) {
            let changes: Vec<_> = part.iter().map(records::encode).collect();
            store.commit(epoch, &changes).expect("committed");
        }
        let core = Core::open(Arc::new(store), Duration::from_secs(90)).expect("it loads");
        let mut fleet = Self { core, size, said: 0 };
        for number in 0..size {
            fleet.say(number, true);
        }
        fleet
    }

    fn commit(&mut self) {
        self.core.commit(NOW, WALL).expect("committed");
    }

    /// A host says how it is.
    fn say(&mut self, number: u32, is_well: bool) {
        self.said += 1;
        let host = host_id(number);
        let health = if is_well {
            HealthReport::Healthy { for_at_least: Duration::from_secs(60), passes: 10 }
        } else {
            HealthReport::Unhealthy { reason: "GET / answered 500".to_owned() }
        };
        let report = Report {
            protocol: 1,
            features: Vec::new(),
            position: Position { start: 1, nonce: 1, sequence: self.said },
            agent_version: "1".to_owned(),
            platforms: vec![Platform::any()],
            facts: Facts::default(),
            environments: vec![EnvironmentReport {
                environment: name("prod"),
                stamp: None,
                phase: Phase::Settled,
                running: Some(release("1").digest()),
                health,
                failure: None,
            }],
            certificate_expires_ms: 0,
        };
        let key = Digest::of(host.as_str().as_bytes());
        self.core.check_in(&host, &key, &report, NOW, WALL).expect("taken in");
    }
}

fn edits(size: u32) -> Vec<Edit> {
    let settings = Settings::default();
    let named = |version: &str| {
        let set = Arc::new(set(version));
        Edit::VersionSet(NamedSet {
            name: name(&format!("v{version}")),
            set,
            created_by: name("ann"),
            created_at: WALL,
        })
    };
    let mut edits = vec![Edit::Settings(Arc::new(settings)), named("1"), named("2")];
    edits.push(Edit::Environment(Definition {
        name: name("prod"),
        selector: BTreeMap::new(),
        policy: Policy::default(),
        settings: Settings::default().digest(),
        baked: release("1"),
        bad: Vec::new(),
        unresolved: Vec::new(),
    }));
    let zone = |number: u32| name::<houston_common::id::Zone>(&format!("z{}", number % ZONES));
    for number in 0..size {
        edits.push(Edit::Host(host(number, zone(number))));
        let member = Member::new(name("prod"), host_id(number), zone(number), RolloutId(0));
        let is_ready = number % ZONES == 0;
        edits.push(Edit::Member(Member {
            settled: Some(release("1")),
            owes: false,
            lane: if is_ready { Lane::Rollout(RolloutId(1)) } else { Lane::Standing },
            step: if is_ready { Step::Ready } else { Step::Settled },
            ..member
        }));
    }
    edits.push(Edit::Rollout(rollout(size)));
    edits
}

fn host(number: u32, zone: houston_common::id::Zone) -> Host {
    let id = host_id(number);
    Host {
        zone,
        labels: BTreeMap::new(),
        key: Digest::of(id.as_str().as_bytes()),
        key_der: vec![1; 91],
        certificate_expires: WALL,
        enrolled_at: WALL,
        ephemeral: false,
        revoked: false,
        drained: false,
        held: None,
        start: Some((1, 1)),
        id,
    }
}

fn rollout(size: u32) -> Rollout {
    let zones: Vec<_> = (0..ZONES).map(|zone| name(&format!("z{zone}"))).collect();
    let of_each: BTreeMap<_, _> = zones.iter().cloned().map(|zone| (zone, size / ZONES)).collect();
    let policy = Policy::default();
    let new = Rollout::new(RolloutId(1), name("prod"), release("1"), release("2"), policy, name("ann"));
    let begun = Rollout { stage: Stage::Rolling(Rolling::begin(1)), started_at: WALL, reached: 1, ..new };
    begun.over(zones, of_each.clone(), of_each)
}

/// A host of the last zone turns bad, or well again: folded, planned, checked and committed.
#[divan::bench(args = SIZES)]
fn a_report_that_changes_something(bencher: Bencher<'_, '_>, size: u32) {
    let mut fleet = Fleet::rolling(size);
    fleet.commit();
    let mut is_well = false;
    bencher.bench_local(|| {
        fleet.say(ZONES - 1, is_well);
        is_well = !is_well;
        fleet.commit();
    });
}

/// What most reports are.
#[divan::bench(args = SIZES)]
fn a_report_that_changes_nothing(bencher: Bencher<'_, '_>, size: u32) {
    let mut fleet = Fleet::rolling(size);
    fleet.commit();
    let mut number = 0;
    bencher.bench_local(|| {
        number = (number + 1) % fleet.size;
        fleet.say(number, true);
        fleet.commit();
    });
}

/// The planner alone, where a batch can be granted: at most 40 hosts in one plan.
#[divan::bench(args = SIZES)]
fn a_batch_is_planned(bencher: Bencher<'_, '_>, size: u32) {
    let fleet = Fleet::rolling(size);
    let state = fleet.core.state();
    let environment = &state.environments["prod"];
    let plan = || planner::plan(environment, &state.fleet, &GateValues::default(), NOW);
    bencher.bench_local(plan);
}
