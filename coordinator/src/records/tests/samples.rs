//! One record of each kind and variant, as in the golden files.

use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::Terms;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::{Digest, TreeDigest};
use houston_common::error::Code;
use houston_common::id::{Generation, Platform, RolloutId, StoreId};
use houston_common::policy::gate::{Before, Comparison, Condition, Days, Gate, Metric, Number, Window};
use houston_common::policy::{Growth, Policy, Share};
use houston_common::release::{PackageVersion, Release, Settings, VersionSet};
use houston_common::report::{Failure, Phase};
use houston_common::rollout::{Cause, Exception};
use houston_common::view::{Role, RoleBinding};

use crate::access::{Operator, Token};
use crate::audit::Audit;
use crate::catalog::{NamedSet, Package};
use crate::environment::Definition;
use crate::environment::member::{Grant, Lane, Member, Step, Told};
use crate::fleet::{Hold, Host};
use crate::rollout::ending::{Ending, Named, Reached};
use crate::rollout::{Decision, Direction, Pause, Rolling, Rollout, Stage};
use crate::state::{Edit, Meta};

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn package() -> PackageVersion {
    let tree = TreeDigest(Digest::of(b"tree"));
    PackageVersion {
        name: name("web"),
        version: name("1.4.2"),
        trees: [(Platform::any(), tree), (name("linux-amd64"), tree)].into(),
    }
}

fn release() -> Release {
    Release { version_set: VersionSet { packages: vec![package()] }.digest(), ..Release::empty() }
}

fn host() -> Host {
    Host {
        id: name("host-1"),
        zone: name("a"),
        labels: [(name("role"), name("web"))].into(),
        key: Digest::of(b"key"),
        key_der: vec![0, 159, 255],
        certificate_expires: WallTime(1_800_000_000_000),
        enrolled_at: WallTime(1_700_000_000_000),
        ephemeral: false,
        revoked: false,
        drained: true,
        held: Some(Hold::Operator {
            name: name("ann@example.com"),
            reason: "disk is \"odd\"\n".to_owned(),
            until: Some(FleetTime(7_200_000)),
        }),
        start: Some((7, u64::MAX)),
    }
}

fn definition() -> Definition {
    Definition {
        name: name("prod"),
        selector: [(name("role"), name("web"))].into(),
        policy: Policy {
            growth: Some(Growth { percent: 150, most: Share::Percent(33), carries: true }),
            zone_failure_budget: Some(Share::Hosts(1)),
            gates: gates(),
            zone_order: vec![name("b")],
            zone_floor: Some(Share::Hosts(2)),
            ..Policy::default()
        },
        settings: Settings::default().digest(),
        baked: release(),
        bad: vec![Release::empty()],
        unresolved: vec![RolloutId(2), RolloutId(3)],
    }
}

fn members() -> Vec<Edit> {
    let terms = Terms {
        start_within: Duration::from_secs(30),
        apply_deadline: Duration::from_secs(600),
        health_window: Duration::from_millis(1500),
    };
    let told = |activate: bool| Told {
        generation: Generation(41),
        terms: activate.then_some(terms),
        release: release(),
        way_back: Release::empty(),
    };
    let new = Member::new(name("prod"), name("host-0"), name("a"), RolloutId(0));
    let granted = Member {
        host: name("host-1"),
        settled: Some(Release::empty()),
        told: Some(told(true)),
        grant: Some(Grant {
            generation: Generation(41),
            was_down: false,
            reverting: true,
            deadline: FleetTime(630_000),
        }),
        lane: Lane::Rollout(RolloutId(4)),
        step: Step::Granted,
        started: Some(RolloutId(3)),
        failure: Some(Failure {
            code: Code::HookExit,
            phase: Phase::LayingOut,
            package: Some(name("web")),
            message: "hook \"start\" ended with 1".to_owned(),
            log_tail: "line\nlast line".to_owned(),
        }),
        ..new.clone()
    };
    let steps = [
        Step::Preparing,
        Step::Ready,
        Step::Settled,
        Step::Reverted,
        Step::Failed,
        Step::TakingBack,
        Step::TakenBack,
    ];
    let excepted = Exception::ALL.map(Step::Excepted);
    let others = steps.into_iter().chain(excepted).enumerate().map(|(i, step)| Member {
        host: name(&format!("host-{}", i + 2)),
        joined: RolloutId(3),
        detached: i == 0,
        told: Some(told(false)),
        lane: Lane::Rollout(RolloutId(4)),
        failures: 3,
        boxed_until: Some(FleetTime(3_600_000)),
        retries: 1,
        step,
        ..new.clone()
    });
    [new.clone(), granted].into_iter().chain(others).map(Edit::Member).collect()
}

fn rollout(stage: Stage, cause: Option<Cause>) -> Rollout {
    let policy = Policy::default();
    let by = name("ann@example.com");
    Rollout {
        zones: vec![name("a"), name("b")],
        planned: [(name("a"), 2), (name("b"), 1)].into(),
        members: [(name("a"), 2), (name("b"), 1)].into(),
        stripes: 4,
        reason: "a better one".to_owned(),
        started_at: WallTime(1_700_000_000_000),
        stage,
        cause,
        reached: 1,
        earned: 2,
        proven: [name("a")].into(),
        failures_in: [(name("a"), 1)].into(),
        unwell_before: vec![name("host-7")],
        untouched_unwell: vec![name("host-8")],
        exceptions: 1,
        inherits: vec![RolloutId(1)],
        request: "3f2a".to_owned(),
        decisions: vec![Decision {
            gate: name("bake"),
            before: 1,
            by: name("ann@example.com"),
            at: WallTime(1_700_000_000_500),
            remark: "seen enough".to_owned(),
            skipped: true,
        }],
        excluded: [name("host-9")].into(),
        ..Rollout::new(RolloutId(0), name("prod"), Release::empty(), release(), policy, by)
    }
}

fn rollouts() -> Vec<Edit> {
    let rolling =
        Rolling { wave: 1, batch: 2, granted: [(name("a"), 1)].into(), one_box: Some(name("host-1")) };
    let baking = Stage::Baking { wave: 1, left: Duration::from_millis(3_600_500), since: FleetTime(99) };
    let budget = Cause::FailureBudget { host: name("host-2"), failures: 2, allowed: 1, zone: None };
    let lost = Cause::LostBudget { exceptions: 3, allowed: 2 };
    let operator = Cause::Operator { name: "ann".to_owned(), reason: "no".to_owned() };
    let back = Cause::RollbackFailed { host: name("host-2") };
    let law = Cause::Law { law: "fleet-floor".to_owned() };
    let gated = Stage::Gated { before: 2, waited: Duration::from_millis(1), since: FleetTime(98) };
    let gate = Cause::GateClosed { gate: name("approved") };
    let mut rollouts = vec![
        rollout(gated, None),
        rollout(Stage::Halted, Some(gate)),
        rollout(Stage::Rolling(rolling), None),
        rollout(baking, None),
        rollout(Stage::RollingBack, Some(budget)),
        rollout(Stage::Halted, Some(lost)),
        rollout(Stage::Halted, Some(back)),
        rollout(Stage::Halted, Some(law)),
        rollout(Stage::Succeeded, None),
        rollout(Stage::RolledBack, Some(operator)),
        rollout(Stage::Superseded { by: RolloutId(9) }, None),
        rollout(Stage::Aborted, None),
    ];
    rollouts[1].paused = Some(Pause { by: name("ann"), reason: "lunch".to_owned() });
    rollouts[2].first_failure = Some(name("host-1"));
    rollouts[2].last_failure = Some(name("host-2"));
    rollouts[6].first_cause =
        Some(Cause::FailureBudget { host: name("host-2"), failures: 2, allowed: 1, zone: None });
    let named = |step| Named { host: name("host-2"), zone: name("b"), step, failure: None };
    rollouts[9].ending = Some(Ending {
        zones: [(name("a"), Reached { hosts: 2, updated: 1 })].into(),
        named: vec![named(Step::Failed), named(Step::Excepted(Exception::Silent))],
    });
    rollouts[6].activations.add(Duration::from_secs(33));
    rollouts[6].direction = Direction::Back { of: RolloutId(3) };
    rollouts[6].ended_at = Some(WallTime(1_700_000_100_000));
    let numbered =
        rollouts.into_iter().zip(4..).map(|(rollout, id)| Rollout { id: RolloutId(id), ..rollout });
    numbered.map(Edit::Rollout).collect()
}

fn token() -> Token {
    Token {
        id: "4b1d".to_owned(),
        secret: Digest::of(b"secret"),
        zone: name("a"),
        labels: [(name("role"), name("web"))].into(),
        uses_left: 3,
        expires: FleetTime(86_400_000),
        expires_at: WallTime(1_800_000_000_000),
        ephemeral: true,
        created_by: name("ann"),
    }
}

fn gates() -> Vec<Gate> {
    let window = Window {
        time_zone: "Europe/Berlin".to_owned(),
        days: Days::from_bits(31).expect("days"),
        from: 540,
        until: 960,
    };
    let metric = Metric {
        query: "up".to_owned(),
        is: Comparison::AtLeast,
        value: Number::new(0.25).expect("finite"),
        fresh: Duration::from_secs(60),
    };
    let conditions = vec![
        Condition::Approval { by_another: true },
        Condition::Window(window),
        Condition::Freeze { from: WallTime(1_700_000_000_000), until: WallTime(1_700_000_000_001) },
        Condition::Metric(metric),
        Condition::EveryHost { package: name("web"), at_least: name("2.0.0") },
        Condition::Evidence { passes: 100 },
    ];
    let gate = |(condition, before): (Condition, Before)| Gate {
        name: name(&condition.kind().replace('_', "-")),
        before,
        condition,
        within: (before == Before::End).then_some(Duration::from_secs(3600)),
    };
    conditions.into_iter().zip(Before::ALL.into_iter().cycle()).map(gate).collect()
}

pub(super) fn all() -> Vec<Edit> {
    let meta = Meta {
        store: StoreId([9; 16]),
        mac_key: [200; 32],
        generation: Generation(41),
        rollout: RolloutId(4),
        audit: 12,
        checkpoint: FleetTime(1_234_567),
        regressed: false,
    };
    let set = NamedSet {
        name: name("2026.10"),
        set: Arc::new(VersionSet { packages: vec![package()] }),
        created_by: name("ann"),
        created_at: WallTime(1_700_000_000_000),
    };
    let settings = Settings([(name("GREETING"), "hello\nä".to_owned())].into());
    let everywhere = Role::ALL.map(|role| RoleBinding { role, environment: None });
    let operator = Operator {
        name: name("ann"),
        roles: everywhere
            .into_iter()
            .chain([RoleBinding { role: Role::Deployer, environment: Some(name("prod")) }])
            .collect(),
        key: Digest::of(b"ann"),
        certificate_expires: WallTime(1_800_000_000_000),
        revoked: false,
    };
    let audit = Audit {
        sequence: 12,
        at: WallTime(1_700_000_000_000),
        who: "operator/ann".to_owned(),
        what: "rollout.start prod".to_owned(),
        why: "a better one".to_owned(),
        before: "2026.9".to_owned(),
        after: "2026.10".to_owned(),
    };
    let pushed = Package {
        package: package(),
        bytes: 46_000_000,
        pushed_by: name("ann"),
        pushed_at: WallTime(1_700_000_000_000),
    };
    let plain =
        Host { labels: [].into(), drained: false, held: None, start: None, id: name("host-2"), ..host() };
    let mut edits = vec![
        Edit::Meta(meta),
        Edit::Host(host()),
        Edit::Host(plain),
        Edit::Environment(definition()),
        Edit::Package(pushed),
        Edit::VersionSet(set),
        Edit::Settings(Arc::new(settings)),
        Edit::Token(token()),
        Edit::Operator(operator),
        Edit::Audit(audit),
    ];
    edits.extend(members());
    edits.extend(rollouts());
    edits
}

/// Edits that make a record, each with the one that removes it.
pub(super) fn forgotten() -> Vec<(Edit, Edit)> {
    let package = Package { package: package(), bytes: 1, pushed_by: name("ann"), pushed_at: WallTime(0) };
    let member = Member::new(name("prod"), name("host-1"), name("a"), RolloutId(0));
    vec![
        (Edit::Host(host()), Edit::ForgetHost(name("host-1"))),
        (Edit::Member(member), Edit::ForgetMember(name("prod"), name("host-1"))),
        (Edit::Package(package), Edit::ForgetPackage(name("web"), name("1.4.2"))),
        (Edit::Token(token()), Edit::ForgetToken("4b1d".to_owned())),
    ]
}
