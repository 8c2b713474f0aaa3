mod policies;

use std::time::Duration;

use houston_common::clock::{DURATION_MAX, FleetTime, WallTime};
use houston_common::digest::{Digest, VersionSetDigest};
use houston_common::id::{Epoch, RolloutId, StoreId};
use houston_common::plan::{Fault, PlannedCapacity, PlannedWave};
use houston_common::policy::{Bakes, OnFailure, Policy, Share};
use houston_common::release::Release;
use houston_common::rollout::{Cause, Exception, RolloutState, WaitingOn, Wave};

use super::*;
use crate::environment::Definition;
use crate::environment::member::Told;
use crate::fleet::{Contact, Hold, Host};
use crate::rollout::times::Times;
use crate::state::Meta;

const NOW: FleetTime = FleetTime(1_000_000);
const LOST_AFTER: Duration = Duration::from_secs(90);

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn release(number: u8) -> Release {
    Release { version_set: VersionSetDigest(Digest::of(&[number])), ..Release::empty() }
}

/// All waits are of different lengths, so that a sum tells which of them are in it.
fn policy() -> Policy {
    Policy {
        bake: Bakes { one_box: s(600), first_zone: s(1200), later_zones: s(900) },
        apply_deadline: s(300),
        ..Policy::default()
    }
}

struct Fleet {
    state: State,
    from: EnvironmentName,
}

/// When a host was last heard of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Now,
    /// Long ago.
    Once,
    /// Not since the coordinator started.
    Never,
}

impl Fleet {
    /// Three hosts in each of the zones a, b and c.
    fn nine(policy: Policy) -> Self {
        Self::heard(policy, |_| Heard::Now)
    }

    fn heard(policy: Policy, heard: impl Fn(&str) -> Heard) -> Self {
        Self::with(&[("a", 3), ("b", 3), ("c", 3)], policy, heard)
    }

    fn of(zones: &[(&str, u32)], policy: Policy) -> Self {
        Self::with(zones, policy, |_| Heard::Now)
    }

    /// All hosts run release 1 and are well; a rollout to release 2 is active, and nobody has looked at it yet.
    fn with(zones: &[(&str, u32)], policy: Policy, heard: impl Fn(&str) -> Heard) -> Self {
        let meta = Meta {
            store: StoreId([1; 16]),
            mac_key: [2; 32],
            generation: Generation(0),
            rollout: RolloutId(1),
            audit: 0,
            checkpoint: NOW,
            regressed: false,
        };
        let mut fleet = Self { state: State::new(Epoch(1), meta, LOST_AFTER), from: name("prod") };
        let mut ids: Vec<(String, &str)> = Vec::new();
        for (zone, count) in zones {
            ids.extend((1..=*count).map(|number| (format!("{zone}{number}"), *zone)));
        }
        // Silence is found from the front: who was heard of first comes first.
        ids.sort_by_key(|(id, _)| heard(id) != Heard::Once);
        for (id, zone) in &ids {
            fleet.host(id, zone, heard(id));
        }
        fleet.state.fleet.newly_lost(NOW);
        let hosts = || zones.iter().map(|(zone, count)| (name(zone), *count)).collect();
        fleet.apply(Edit::Environment(Definition {
            name: name("prod"),
            selector: Default::default(),
            policy: policy.clone(),
            settings: release(1).settings,
            baked: release(1),
            bad: Vec::new(),
            unresolved: Vec::new(),
        }));
        for (id, _) in &ids {
            fleet.runs(id, release(1));
        }
        let (way_back, target) = (release(1), release(2));
        let rollout = Rollout::new(RolloutId(1), name("prod"), way_back, target, policy, name("ann"));
        let zones = zones.iter().map(|(zone, _)| name(zone)).collect();
        fleet.apply(Edit::Rollout(rollout.over(zones, hosts(), hosts()).begun(NOW)));
        fleet
    }

    fn apply(&mut self, edit: Edit) {
        self.state.apply(edit, NOW);
    }

    fn host(&mut self, id: &str, zone: &str, heard: Heard) {
        let at = if heard == Heard::Once { FleetTime(NOW.0 - 100_000) } else { NOW };
        let host = Host {
            id: name(id),
            zone: name(zone),
            labels: Default::default(),
            key: Digest::of(id.as_bytes()),
            key_der: Vec::new(),
            certificate_expires: WallTime(0),
            enrolled_at: WallTime(0),
            ephemeral: false,
            revoked: false,
            drained: false,
            held: None,
            start: None,
        };
        self.state.apply(Edit::Host(host), at);
        if heard != Heard::Never {
            self.state.fleet.heard_of(&name(id), at, Contact::default());
        }
    }

    fn record(&mut self, host: &str, edit: impl FnOnce(&mut Host)) {
        let mut record = self.state.fleet.get(&name(host)).expect("a host").host.clone();
        edit(&mut record);
        self.apply(Edit::Host(record));
    }

    /// The host runs this release, and is well.
    fn runs(&mut self, host: &str, release: Release) {
        let told = Told { generation: Generation(0), terms: None, release, way_back: release };
        let environment = self.state.environments.get_mut("prod").expect("prod");
        let live = environment.member(&name(host)).expect("a member");
        let member = Member { settled: Some(release), owes: false, ..live.member.clone() };
        let report = report(live, &told, Word::Settled, StoreId([1; 16]), Epoch(1));
        environment.set_report(&name(host), report, &self.state.fleet);
        self.apply(Edit::Member(member));
    }

    fn land(&self, model: &Model<'_>, steps: &mut u32) -> Landed {
        let copy = self.state.only(&self.from).expect("the environment");
        let from = Departure { environment: &self.from, now: NOW, wall: WallTime(0) };
        fly(copy, from, model, steps).expect("a rollout is active")
    }

    fn flown(&self) -> Flown {
        self.land(&model(None), &mut 100_000).flown()
    }

    fn what_if(&self, fault: Fault) -> WhatIf {
        let model = model(Some(&fault));
        self.land(&model, &mut 100_000).what_if(&model).expect("somebody meets it")
    }
}

/// A minute to prepare, forty seconds to activate.
fn model(fault: Option<&Fault>) -> Model<'_> {
    let (prepare, activation) = (Expected::Assumed(s(60)), Expected::Assumed(s(40)));
    Model { rollout: RolloutId(1), prepare, activation, fault }
}

fn joined(zones: &[Zone]) -> String {
    zones.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn in_words(wave: &PlannedWave) -> (String, u64, u64, Vec<usize>) {
    let place = match &wave.wave {
        Wave::OneBox => "one box".to_owned(),
        Wave::Zones(zones) => joined(zones),
        Wave::Stripe { number, .. } => format!("stripe {number}"),
    };
    let batches = wave.first.iter().map(|batch| batch.first.len()).collect();
    (place, wave.begins.as_secs(), wave.ends.as_secs(), batches)
}

fn lowest(capacity: &[PlannedCapacity]) -> Vec<(u32, u32)> {
    capacity.iter().map(|capacity| (capacity.available, capacity.lowest)).collect()
}

#[test]
fn three_zones_of_three_are_flown_as_one_would_by_hand() {
    let fleet = Fleet::nine(Policy { zone_floor: Some(Share::Hosts(1)), ..policy() });
    let flown = fleet.flown();
    assert_eq!((flown.state, flown.cut_short), (RolloutState::Succeeded, false));
    // One box: a minute to prepare, 40 s, ten minutes. Zone a: the other two one after the other, twenty
    // minutes, and so on. Prepare runs a wave ahead, and holds up nothing after the first.
    let words: Vec<_> = flown.waves.iter().map(in_words).collect();
    let expected = [
        ("one box", 0, 700, vec![1]),
        ("a", 700, 1980, vec![1, 1]),
        ("b", 1980, 3000, vec![1, 1, 1]),
        ("c", 3000, 4020, vec![1, 1, 1]),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(place, begins, ends, all)| (place.to_owned(), begins, ends, all))
        .collect();
    assert_eq!(words, expected);
    assert_eq!(flown.lasts, s(4020));
    let second = &flown.waves[2].first[1];
    assert_eq!((second.number, second.begins, second.hosts), (2, s(2020), 1));
    // One at a time: of nine hosts eight, of three two.
    assert_eq!(lowest(&flown.capacity), [(9, 8), (3, 2), (3, 2), (3, 2)]);
    let floors: Vec<_> = flown.capacity.iter().map(|capacity| capacity.floor).collect();
    assert_eq!(floors, [Some(6), Some(1), Some(1), Some(1)]);
    assert_eq!((flown.left_out, flown.waiting, flown.cause), (Vec::new(), Vec::new(), None));
}

#[test]
fn waits_are_told_with_their_reason_and_length() {
    let flown = Fleet::nine(policy()).flown();
    let waits = |wave: usize| -> Vec<_> {
        let waits = flown.waves[wave].waits.iter();
        waits.map(|wait| (wait.waiting.as_str(), wait.lasts.as_secs())).collect()
    };
    assert_eq!(waits(0), [("prepare", 60), ("batch", 40), ("bake", 600)]);
    assert_eq!(waits(1), [("batch", 80), ("bake", 1200)]);
    assert_eq!(waits(3), [("batch", 120), ("bake", 900)]);
}

#[test]
fn the_copy_is_flown_and_not_the_fleet() {
    let fleet = Fleet::nine(policy());
    let before = format!("{:?}", fleet.state.environments);
    assert_eq!(fleet.flown(), fleet.flown());
    assert_eq!(format!("{:?}", fleet.state.environments), before);
}

#[test]
fn a_release_that_is_bad_everywhere_meets_one_host() {
    let failed = Fleet::nine(policy()).what_if(Fault::AtOnce);
    assert_eq!((failed.hosts_met, failed.state), (1, RolloutState::RolledBack));
    // It says so after the time of an activation, and takes as long again to go back by itself.
    assert_eq!((failed.met, failed.stops_after, failed.back_after), (s(60), Some(s(40)), Some(s(80))));
    assert_eq!(lowest(&failed.capacity), [(9, 8), (3, 2), (3, 3), (3, 3)]);
}

#[test]
fn a_release_that_is_bad_in_one_zone_meets_its_first_batch() {
    let fleet = Fleet::of(&[("a", 3), ("b", 9)], policy());
    let failed = fleet.what_if(Fault::InZone(name("b")));
    assert_eq!((failed.hosts_met, failed.state), (2, RolloutState::RolledBack), "a third of nine is two");
    assert_eq!((failed.met, failed.stops_after), (s(1980), Some(s(40))));
    // They go back by themselves, then zone a's three hosts by grants of the rollback, all at once.
    assert_eq!(failed.back_after, Some(s(120)));
    assert_eq!(fleet.what_if(Fault::InZone(name("a"))).hosts_met, 1, "the one box is in zone a");
}

#[test]
fn a_release_that_turns_bad_late_stops_where_the_budget_says() {
    // An hour after it had settled, which is long after all the bakes but that of the last zone.
    let bakes = Bakes { one_box: s(600), first_zone: s(600), later_zones: s(7200) };
    let fleet = Fleet::nine(Policy { bake: bakes, ..policy() });
    let failed = fleet.what_if(Fault::Late { after: s(3600) });
    // Zones a and b have it when the one box turns bad: one failure is within the budget after the first
    // batches, the second is not. It is zone a's next host, 640 s later.
    let second = 100 + 600 + 40 + 3600;
    assert_eq!(failed.met + failed.stops_after.expect("stopped"), s(second));
    assert_eq!((failed.hosts_met, failed.state), (6, RolloutState::RolledBack));
    assert!(failed.back_after > failed.stops_after, "{failed:?}");
    let fleet = lowest(&failed.capacity)[0];
    assert!(fleet.1 < 8, "those that turn bad are missing at once: {failed:?}");
}

#[test]
fn what_shows_after_the_end_is_never_stopped() {
    let failed = Fleet::nine(policy()).what_if(Fault::Late { after: s(86_400) });
    assert_eq!((failed.hosts_met, failed.state), (9, RolloutState::Succeeded));
    assert_eq!((failed.stops_after, failed.back_after), (None, None));
}

#[test]
fn where_the_policy_halts_nothing_is_taken_back() {
    let fleet = Fleet::nine(Policy { on_failure: OnFailure::Halt, ..policy() });
    let failed = fleet.what_if(Fault::InZone(name("b")));
    assert_eq!((failed.hosts_met, failed.state), (1, RolloutState::Halted));
    assert_eq!((failed.stops_after, failed.back_after), (Some(s(40)), None));
}

#[test]
fn who_cannot_change_is_left_out_by_name() {
    let lost = |host: &str| if host == "b1" { Heard::Once } else { Heard::Now };
    let mut fleet = Fleet::heard(Policy { lost_budget: Share::Hosts(2), ..policy() }, lost);
    fleet.record("c2", |host| host.held = Some(Hold::Clone));
    let flown = fleet.flown();
    assert_eq!(flown.state, RolloutState::Succeeded);
    assert_eq!(flown.left_out, [(name("b1"), Exception::Silent), (name("c2"), Exception::Held)]);
    assert_eq!(flown.waves.iter().map(|wave| wave.hosts).sum::<u32>(), 7);
    assert_eq!(lowest(&flown.capacity)[0], (8, 7));
}

#[test]
fn more_silent_hosts_than_the_lost_budget_halt_it() {
    let policy = Policy { lost_budget: Share::Hosts(1), fleet_floor: Share::Hosts(1), ..policy() };
    let fleet = Fleet::heard(policy, |host| if host < "b3" && host > "b" { Heard::Once } else { Heard::Now });
    let flown = fleet.flown();
    assert_eq!(flown.cause, Some(Cause::LostBudget { exceptions: 2, allowed: 1 }));
    assert_eq!((flown.state, flown.waiting.len()), (RolloutState::Halted, 0));
}

#[test]
fn a_floor_that_nobody_lifts_ends_the_flight_with_its_reason() {
    let policy = Policy { lost_budget: Share::Hosts(9), ..policy() };
    let fleet = Fleet::heard(policy, |host| if host.ends_with('1') { Heard::Once } else { Heard::Now });
    let flown = fleet.flown();
    let floor = flown.waiting.iter().find(|waiting| matches!(waiting, WaitingOn::Floor { .. }));
    assert!(floor.is_some(), "{flown:?}");
    assert!(!flown.state.is_over() && !flown.cut_short, "{flown:?}");
}

#[test]
fn who_has_never_been_heard_of_is_lost_when_its_time_is_up() {
    let policy = Policy { lost_budget: Share::Hosts(1), ..policy() };
    let fleet = Fleet::heard(policy, |host| if host == "c3" { Heard::Never } else { Heard::Now });
    let flown = fleet.flown();
    assert_eq!(flown.state, RolloutState::Succeeded);
    assert_eq!(flown.left_out, [(name("c3"), Exception::Silent)]);
}

#[test]
fn a_host_in_anothers_hands_is_waited_for() {
    let mut fleet = Fleet::of(&[("a", 1)], Policy { fleet_floor: Share::Hosts(0), ..policy() });
    fleet.state.fleet.set_granted_in(&name("a1"), Some(name("side")));
    fleet.state.recount_host(&name("a1"));
    let model = Model { activation: Expected::Assumed(s(100)), ..model(None) };
    let flown = fleet.land(&model, &mut 1000).flown();
    assert_eq!(flown.state, RolloutState::Succeeded);
    assert_eq!(flown.waves[0].first[0].begins, s(100), "it prepares meanwhile");
}

#[test]
fn a_flight_is_cut_short_by_steps_and_by_time() {
    let fleet = Fleet::nine(policy());
    let mut steps = 20;
    let flown = fleet.land(&model(None), &mut steps).flown();
    assert!(flown.cut_short && !flown.state.is_over(), "{flown:?}");
    assert_eq!(steps, 0);
    let bakes = Bakes { one_box: DURATION_MAX, ..policy().bake };
    let flown = Fleet::nine(Policy { bake: bakes, ..policy() }).flown();
    assert!(flown.cut_short, "{flown:?}");
    assert_eq!((flown.lasts, flown.waves.len()), (DURATION_MAX, 1));
}

#[test]
fn earlier_times_make_batches_as_slow_as_their_slowest_host() {
    let mut times = Times::default();
    (1..=60).for_each(|seconds| times.add(s(seconds)));
    let activation = Expected::new(times, s(50), s(1));
    let view = activation.view();
    assert!(view.half > s(20) && view.half < s(40) && view.taken_from == 60, "{view:?}");
    assert_eq!(view.nine_in_ten, s(50), "none is reckoned with longer than it may take");
    let of = |host: &str| activation.on(&name(host));
    assert!(of("a1") == of("a1") && of("a1") != of("a2"));
    let fleet =
        Fleet::of(&[("a", 6)], Policy { batch: Share::Hosts(6), fleet_floor: Share::Hosts(0), ..policy() });
    let model = Model { activation: activation.clone(), ..model(None) };
    let flown = fleet.land(&model, &mut 100_000).flown();
    let batch = &flown.waves[1].first[0];
    let slowest = batch.first.iter().map(|host| activation.on(host)).max().expect("five");
    assert_eq!((batch.hosts, flown.waves[1].ends - flown.waves[1].begins), (5, slowest + s(1200)));
}

#[test]
fn what_is_done_already_is_not_flown_again() {
    let mut fleet = Fleet::nine(policy());
    ["a1", "a2", "a3"].into_iter().for_each(|host| fleet.runs(host, release(2)));
    let flown = fleet.flown();
    assert_eq!(flown.waves.iter().map(|wave| wave.hosts).collect::<Vec<_>>(), [1, 0, 2, 3]);
}
