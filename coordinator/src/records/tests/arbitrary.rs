//! Arbitrary edits. Starts from plain values and varies every field that has more than one shape.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use houston_common::assignment::Terms;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::{Digest, SettingsDigest, TreeDigest, VersionSetDigest};
use houston_common::error::Code;
use houston_common::id::{Generation, RolloutId, StoreId};
use houston_common::policy::gate::{Before, Condition, Gate};
use houston_common::policy::{Bakes, Growth, OnFailure, Pacing, Policy, Share};
use houston_common::release::{PackageVersion, Release, Settings, VersionSet};
use houston_common::report::{Failure, Phase};
use houston_common::rollout::{Cause, Exception};
use houston_common::view::{Role, RoleBinding};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::access::{Operator, Token};
use crate::audit::Audit;
use crate::catalog::{NamedSet, Package};
use crate::environment::Definition;
use crate::environment::member::{Grant, Lane, Member, Step, Told};
use crate::fleet::{Hold, Host};
use crate::rollout::ending::{Ending, Named, Reached};
use crate::rollout::times::{BUCKETS, Times};
use crate::rollout::{Decision, Direction, Pause, Rolling, Rollout, Stage};
use crate::state::{Edit, Meta};

fn parsed<T: FromStr<Err: Debug> + Debug>(pattern: &'static str) -> impl Strategy<Value = T> {
    pattern.prop_map(|text: String| text.parse().expect("a name"))
}

fn label<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    parsed("[a-z0-9][a-z0-9-]{0,12}")
}

fn version<T: FromStr<Err: Debug> + Debug>() -> impl Strategy<Value = T> {
    parsed("[A-Za-z0-9][A-Za-z0-9.+_~-]{0,12}")
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn wall() -> impl Strategy<Value = WallTime> {
    any::<u64>().prop_map(WallTime)
}

fn fleet_time() -> impl Strategy<Value = FleetTime> {
    any::<u64>().prop_map(FleetTime)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn rollout_id() -> impl Strategy<Value = RolloutId> {
    any::<u64>().prop_map(RolloutId)
}

fn release() -> impl Strategy<Value = Release> {
    (digest(), digest()).prop_map(|(version_set, settings)| Release {
        version_set: VersionSetDigest(version_set),
        settings: SettingsDigest(settings),
    })
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![(0..=1_000_000u32).prop_map(Share::Hosts), (0..=100u8).prop_map(Share::Percent)]
}

fn gate() -> impl Strategy<Value = Gate> {
    let condition = prop_oneof![
        any::<bool>().prop_map(|by_another| Condition::Approval { by_another }),
        (wall(), wall()).prop_map(|(from, until)| Condition::Freeze { from, until }),
        (label(), version()).prop_map(|(package, at_least)| Condition::EveryHost { package, at_least }),
        any::<u64>().prop_map(|passes| Condition::Evidence { passes }),
    ];
    (label(), select(Before::ALL.to_vec()), condition, of(duration()))
        .prop_map(|(name, before, condition, within)| Gate { name, before, condition, within })
}

fn policy() -> impl Strategy<Value = Policy> {
    let bake = (duration(), duration(), duration()).prop_map(|(one_box, first_zone, later_zones)| Bakes {
        one_box,
        first_zone,
        later_zones,
    });
    let shares = (share(), share(), of(share()), share(), share(), share(), any::<u32>());
    let times = (duration(), duration(), duration());
    let words =
        (select(vec![Pacing::Zonal, Pacing::Striped]), select(vec![OnFailure::Rollback, OnFailure::Halt]));
    let growth = (any::<u16>(), share(), any::<bool>()).prop_map(|(percent, most, carries)| Growth {
        percent,
        most,
        carries,
    });
    let rest = (vec(label(), 0..3), words, any::<u32>(), of(growth), of(share()), vec(gate(), 0..3));
    (bake, shares, times, rest).prop_map(|(bake, shares, times, rest)| Policy {
        pacing: rest.1.0,
        zone_order: rest.0,
        zones_at_once: rest.2,
        growth: rest.3,
        zone_failure_budget: rest.4,
        batch: shares.0,
        fleet_floor: shares.1,
        zone_floor: shares.2,
        bake,
        health_window: times.0,
        apply_deadline: times.1,
        start_within: times.2,
        failure_budget: shares.3,
        lost_budget: shares.4,
        on_failure: rest.1.1,
        rollback_batch: shares.5,
        gates: rest.5,
        retries: shares.6,
    })
}

fn hold() -> impl Strategy<Value = Hold> {
    let by_operator = (label(), any::<String>(), of(fleet_time()));
    prop_oneof![
        by_operator.prop_map(|(name, reason, until)| Hold::Operator { name, reason, until }),
        Just(Hold::Clone),
        Just(Hold::ForeignAssignment),
    ]
}

fn host() -> impl Strategy<Value = Host> {
    let named = (label(), label(), btree_map(label(), version(), 0..3));
    let key = (digest(), vec(any::<u8>(), 0..90), wall(), wall());
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), of(hold()), of(any::<(u64, u64)>()));
    (named, key, flags).prop_map(|((id, zone, labels), (key, key_der, expires, enrolled_at), flags)| Host {
        id,
        zone,
        labels,
        key,
        key_der,
        certificate_expires: expires,
        enrolled_at,
        ephemeral: flags.0,
        revoked: flags.1,
        drained: flags.2,
        held: flags.3,
        start: flags.4,
    })
}

fn meta() -> impl Strategy<Value = Meta> {
    let numbers = (any::<u64>(), rollout_id(), any::<u64>(), fleet_time(), any::<bool>());
    (any::<[u8; 16]>(), any::<[u8; 32]>(), numbers).prop_map(|(store, mac_key, numbers)| Meta {
        store: StoreId(store),
        mac_key,
        generation: Generation(numbers.0),
        rollout: numbers.1,
        audit: numbers.2,
        checkpoint: numbers.3,
        regressed: numbers.4,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let codes = (select(Code::ALL), select(Phase::ALL.to_vec()));
    (codes, of(label()), any::<String>(), any::<String>()).prop_map(
        |((code, phase), package, message, log_tail)| Failure { code, phase, package, message, log_tail },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let plain = vec![
        Step::Waiting,
        Step::Preparing,
        Step::Ready,
        Step::Granted,
        Step::Settled,
        Step::Reverted,
        Step::Failed,
        Step::TakingBack,
        Step::TakenBack,
    ];
    prop_oneof![select(plain), select(Exception::ALL.to_vec()).prop_map(Step::Excepted)]
}

fn member() -> impl Strategy<Value = Member> {
    let told = (any::<u64>(), any::<bool>(), release(), release()).prop_map(
        |(generation, activate, release, way_back)| Told {
            generation: Generation(generation),
            terms: activate.then_some(Terms {
                start_within: Duration::from_millis(generation % 1000),
                apply_deadline: Duration::from_millis(generation % 100_000),
                health_window: Duration::ZERO,
            }),
            release,
            way_back,
        },
    );
    let grant = (any::<u64>(), any::<bool>(), any::<bool>(), fleet_time()).prop_map(
        |(generation, was_down, reverting, deadline)| Grant {
            generation: Generation(generation),
            was_down,
            reverting,
            deadline,
        },
    );
    let lane = prop_oneof![Just(Lane::Standing), rollout_id().prop_map(Lane::Rollout)];
    let named = (label(), label(), label(), rollout_id());
    let times = (of(fleet_time()), of(fleet_time()));
    let flags = (any::<bool>(), any::<bool>(), any::<u32>(), of(rollout_id()), times, any::<u32>());
    let rest = (of(release()), of(told), of(grant), lane, step(), of(failure()));
    (named, flags, rest).prop_map(|((environment, host, zone, joined), flags, rest)| Member {
        environment,
        host,
        zone,
        joined,
        detached: flags.0,
        settled: rest.0,
        owes: flags.1,
        told: rest.1,
        answer_by: flags.4.0,
        grant: rest.2,
        lane: rest.3,
        step: rest.4,
        started: flags.3,
        failures: flags.2,
        boxed_until: flags.4.1,
        retries: flags.5,
        failure: rest.5,
    })
}

fn definition() -> impl Strategy<Value = Definition> {
    let named = (label(), btree_map(label(), version(), 0..3), policy());
    let rest = (digest(), release(), vec(release(), 0..3), vec(rollout_id(), 0..3));
    (named, rest).prop_map(|((name, selector, policy), (settings, baked, bad, unresolved))| Definition {
        name,
        selector,
        policy,
        settings: SettingsDigest(settings),
        baked,
        bad,
        unresolved,
    })
}

fn stage() -> impl Strategy<Value = Stage> {
    let granted = btree_map(label(), any::<u32>(), 0..3);
    let rolling =
        (any::<u32>(), any::<u32>(), granted, of(label())).prop_map(|(wave, batch, granted, one_box)| {
            Stage::Rolling(Rolling { wave, batch, granted, one_box })
        });
    let baking = (any::<u32>(), duration(), fleet_time()).prop_map(|(wave, left, since)| Stage::Baking {
        wave,
        left,
        since,
    });
    let plain = vec![Stage::RollingBack, Stage::Halted, Stage::Succeeded, Stage::RolledBack, Stage::Aborted];
    let superseded = rollout_id().prop_map(|by| Stage::Superseded { by });
    prop_oneof![rolling, baking, select(plain), superseded]
}

fn cause() -> impl Strategy<Value = Cause> {
    let counts = || (any::<u32>(), any::<u32>());
    prop_oneof![
        (label(), counts(), of(label())).prop_map(|(host, (failures, allowed), zone)| Cause::FailureBudget {
            zone,
            host,
            failures,
            allowed
        }),
        counts().prop_map(|(exceptions, allowed)| Cause::LostBudget { exceptions, allowed }),
        any::<(String, String)>().prop_map(|(name, reason)| Cause::Operator { name, reason }),
        label().prop_map(|host| Cause::RollbackFailed { host }),
        any::<String>().prop_map(|law| Cause::Law { law }),
    ]
}

fn decision() -> impl Strategy<Value = Decision> {
    (label(), any::<u32>(), label(), wall(), any::<String>(), any::<bool>()).prop_map(
        |(gate, before, by, at, remark, skipped)| Decision { gate, before, by, at, remark, skipped },
    )
}

fn ending() -> impl Strategy<Value = Ending> {
    let reached = (any::<u32>(), any::<u32>()).prop_map(|(hosts, updated)| Reached { hosts, updated });
    let named = (label(), label(), step(), of(failure())).prop_map(|(host, zone, step, failure)| Named {
        host,
        zone,
        step,
        failure,
    });
    (btree_map(label(), reached, 0..3), vec(named, 0..3)).prop_map(|(zones, named)| Ending { zones, named })
}

fn rollout() -> impl Strategy<Value = Rollout> {
    let direction = prop_oneof![Just(Direction::Forward), rollout_id().prop_map(|of| Direction::Back { of })];
    let paused = of((label(), any::<String>()).prop_map(|(by, reason)| Pause { by, reason }));
    let what = (rollout_id(), label(), release(), release(), policy(), direction);
    let where_to =
        (vec(label(), 0..4), btree_map(label(), any::<u32>(), 0..4), btree_map(label(), any::<u32>(), 0..4));
    let who = (label(), any::<String>(), wall(), of(wall()), any::<String>());
    let times = || (any::<[u32; BUCKETS]>(), duration(), duration());
    let times = || times().prop_map(|(counts, least, most)| Times { counts, least, most });
    let how = (stage(), paused, of(cause()), of(cause()), any::<u32>(), of(ending()), vec(decision(), 0..3));
    let in_zones = btree_map(label(), any::<u32>(), 0..3);
    let excluded = btree_set(label(), 0..3);
    let counts = (
        any::<u32>(),
        of(label()),
        of(label()),
        any::<u32>(),
        vec(rollout_id(), 0..3),
        in_zones,
        excluded,
        vec(label(), 0..3),
        vec(label(), 0..3),
        (times(), times()),
    );
    let proven = btree_set(label(), 0..3);
    let where_to = (where_to, any::<u32>(), any::<u32>(), proven);
    (what, where_to, who, how, counts).prop_map(|(what, where_to, who, how, counts)| Rollout {
        id: what.0,
        environment: what.1,
        target: what.2,
        way_back: what.3,
        policy: what.4,
        direction: what.5,
        zones: where_to.0.0,
        planned: where_to.0.1,
        members: where_to.0.2,
        stripes: where_to.1,
        earned: where_to.2,
        proven: where_to.3,
        started_by: who.0,
        reason: who.1,
        started_at: who.2,
        ended_at: who.3,
        stage: how.0,
        paused: how.1,
        cause: how.2,
        first_cause: how.3,
        reached: how.4,
        ending: how.5,
        failures: counts.0,
        failures_in: counts.5,
        first_failure: counts.1,
        last_failure: counts.2,
        unwell_before: counts.7,
        untouched_unwell: counts.8,
        exceptions: counts.3,
        inherits: counts.4,
        prepares: counts.9.0,
        activations: counts.9.1,
        request: who.4,
        decisions: how.6,
        excluded: counts.6,
    })
}

fn package_version() -> impl Strategy<Value = PackageVersion> {
    let trees = btree_map(label(), digest().prop_map(TreeDigest), 0..3);
    (label(), version(), trees).prop_map(|(name, version, trees)| PackageVersion { name, version, trees })
}

fn catalog() -> impl Strategy<Value = Edit> {
    let package = (package_version(), any::<u64>(), label(), wall()).prop_map(
        |(package, bytes, pushed_by, pushed_at)| {
            Edit::Package(Package { package, bytes, pushed_by, pushed_at })
        },
    );
    let set = (version(), vec(package_version(), 0..3), label(), wall()).prop_map(
        |(name, packages, created_by, created_at)| {
            let set = Arc::new(VersionSet { packages });
            Edit::VersionSet(NamedSet { name, set, created_by, created_at })
        },
    );
    let settings = btree_map(parsed("[A-Za-z_][A-Za-z0-9_]{0,9}"), any::<String>(), 0..4)
        .prop_map(|values| Edit::Settings(Arc::new(Settings(values))));
    prop_oneof![package, set, settings]
}

fn access() -> impl Strategy<Value = Edit> {
    let roles = (select(Role::ALL.to_vec()), of(label()))
        .prop_map(|(role, environment)| RoleBinding { role, environment });
    let operator = (label(), vec(roles, 0..4), digest(), wall(), any::<bool>()).prop_map(
        |(name, roles, key, certificate_expires, revoked)| {
            Edit::Operator(Operator { name, roles, key, certificate_expires, revoked })
        },
    );
    let named = ("[a-z0-9]{1,12}", digest(), label(), btree_map(label(), version(), 0..3), label());
    let token = (named, any::<u32>(), fleet_time(), wall(), any::<bool>()).prop_map(
        |((id, secret, zone, labels, created_by), uses_left, expires, expires_at, ephemeral)| {
            Edit::Token(Token {
                id,
                secret,
                zone,
                labels,
                uses_left,
                expires,
                expires_at,
                ephemeral,
                created_by,
            })
        },
    );
    let audit = (any::<u64>(), wall(), any::<[String; 5]>()).prop_map(
        |(sequence, at, [who, what, why, before, after])| {
            Edit::Audit(Audit { sequence, at, who, what, why, before, after })
        },
    );
    prop_oneof![operator, token, audit]
}

/// Every edit that writes a record.
pub(super) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        meta().prop_map(Edit::Meta),
        host().prop_map(Edit::Host),
        member().prop_map(Edit::Member),
        definition().prop_map(Edit::Environment),
        rollout().prop_map(Edit::Rollout),
        catalog(),
        access(),
    ]
}
