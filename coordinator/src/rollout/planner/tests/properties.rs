//! Small fleets, and anything that can happen to them in any order. The world's laws watch every plan
//! and every record; here is only what happens, and that everything ends when it stops happening.

use std::time::Duration;

use houston_common::policy::{Growth, OnFailure, Pacing, Policy, Share};
use houston_common::rollout::{Exception, WaitingOn};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::host::Manner;
use super::world::{PROD, ROUND, World, name, policy, release};
use crate::fleet::Hold;
use crate::rollout::Stage;

#[derive(Debug, Clone)]
enum Event {
    Round,
    Poll(Index),
    Wait(u64),
    CutOff(Index),
    Reconnect(Index),
    Sick(Index),
    Well(Index),
    Manner(Index, u8, Manner),
    Wipe(Index),
    Hold(Index),
    Release(Index),
    /// From the rollouts that start from now on, or from none any more.
    Exclude(Index, bool),
    Drain(Index),
    Undrain(Index),
    Join(u8),
    Remove(Index),
    /// Into the environment `side`, or out of it.
    Side(Index, bool),
    Zone(Index, u8),
    Start(u8, bool),
    TakeBack,
    Pause,
    Resume,
    RollBack,
    Abort,
    Floor(u8),
    Restart,
    SayAgain(u16),
    Regress(bool),
}

const ZONES: [&str; 3] = ["a", "b", "c"];

fn event() -> impl Strategy<Value = Event> {
    let host = any::<Index>;
    let manners = vec![
        Manner::Well,
        Manner::Fails,
        Manner::FailsBack,
        Manner::Hangs,
        Manner::VoidOnce,
        Manner::PrepareFails,
    ];
    prop_oneof![
        12 => Just(Event::Round),
        8 => host().prop_map(Event::Poll),
        4 => (1..120u64).prop_map(Event::Wait),
        1 => Just(Event::Wait(4000)),
        2 => host().prop_map(Event::CutOff),
        2 => host().prop_map(Event::Reconnect),
        2 => host().prop_map(Event::Sick),
        1 => host().prop_map(Event::Well),
        3 => (host(), 1..4u8, select(manners)).prop_map(|(host, release, manner)| Event::Manner(host, release, manner)),
        1 => host().prop_map(Event::Wipe),
        1 => host().prop_map(Event::Hold),
        1 => host().prop_map(Event::Release),
        1 => (host(), any::<bool>()).prop_map(|(host, on)| Event::Exclude(host, on)),
        1 => host().prop_map(Event::Drain),
        1 => host().prop_map(Event::Undrain),
        1 => (0..3u8).prop_map(Event::Join),
        1 => host().prop_map(Event::Remove),
        2 => (host(), any::<bool>()).prop_map(|(host, on)| Event::Side(host, on)),
        1 => (host(), 0..3u8).prop_map(|(host, zone)| Event::Zone(host, zone)),
        4 => (1..4u8, any::<bool>()).prop_map(|(release, supersede)| Event::Start(release, supersede)),
        1 => Just(Event::TakeBack),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::RollBack),
        1 => Just(Event::Abort),
        1 => (0..100u8).prop_map(Event::Floor),
        1 => Just(Event::Restart),
        2 => any::<u16>().prop_map(Event::SayAgain),
        1 => any::<bool>().prop_map(Event::Regress),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    let share = || prop_oneof![(0..=100u8).prop_map(Share::Percent), (0..4u32).prop_map(Share::Hosts)];
    let floors = (0..90u8, proptest::option::of(0..60u8));
    let growth = (101..400u16, share(), any::<bool>()).prop_map(|(percent, most, carries)| Growth {
        percent,
        most,
        carries,
    });
    let retries = prop_oneof![2 => Just(0), 1 => 1..=2u32];
    let pacing =
        (any::<bool>(), 1..3u32, proptest::option::of(growth), proptest::option::of(share()), retries);
    let shares = (share(), share(), share());
    (shares, floors, any::<bool>(), pacing).prop_map(|((batch, budget, back), floors, halt, pacing)| Policy {
        pacing: if pacing.0 { Pacing::Zonal } else { Pacing::Striped },
        zones_at_once: pacing.1,
        growth: pacing.2,
        zone_failure_budget: pacing.3,
        retries: pacing.4,
        batch,
        fleet_floor: Share::Percent(floors.0),
        zone_floor: floors.1.map(Share::Percent),
        failure_budget: budget,
        rollback_batch: back,
        on_failure: if halt { OnFailure::Halt } else { OnFailure::Rollback },
        ..policy()
    })
}

fn fleet() -> impl Strategy<Value = (Vec<(&'static str, u32)>, bool)> {
    let zones = prop_oneof![
        (1..5u32).prop_map(|a| vec![("a", a)]),
        (1..4u32, 1..4u32).prop_map(|(a, b)| vec![("a", a), ("b", b)]),
        (1..4u32, 1..3u32, 1..3u32).prop_map(|(a, b, c)| vec![("a", a), ("b", b), ("c", c)]),
    ];
    (zones, proptest::bool::weighted(0.8))
}

fn happen(world: &mut World, event: &Event) {
    let host = |index: &Index| {
        let hosts: Vec<String> = world.hosts.keys().map(ToString::to_string).collect();
        if hosts.is_empty() { "nobody".to_owned() } else { hosts[index.index(hosts.len())].clone() }
    };
    let there = |index: &Index| Some(host(index)).filter(|host| world.hosts.contains_key(host.as_str()));
    match event {
        Event::Round => world.round(),
        Event::Poll(index) => world.poll(&host(index)),
        Event::Wait(seconds) => world.wait(Duration::from_secs(*seconds)),
        Event::Join(zone) => {
            let number = 10 + world.hosts.len();
            let zone = ZONES[*zone as usize];
            let id = format!("{zone}{number}");
            if !world.hosts.contains_key(id.as_str()) {
                world.join(&id, zone);
            }
        }
        Event::Start(number, supersede) => {
            let target = release(*number);
            if !world.hosts.is_empty() && world.environment(PROD).definition.baked != target {
                let _ = world.start(target, *supersede);
            }
        }
        Event::TakeBack => {
            let newest = world.state.rollout(world.state.meta.rollout);
            let done = newest.filter(|rollout| rollout.stage == Stage::Succeeded).map(|rollout| rollout.id);
            if let Some(done) = done {
                world.take_back(done);
            }
        }
        Event::Pause => world.pause(),
        Event::Resume => world.resume(),
        Event::RollBack => world.roll_back(),
        Event::Abort => world.abort(),
        Event::Floor(percent) => world.edit_policy(|policy| policy.fleet_floor = Share::Percent(*percent)),
        Event::Restart => world.restart(),
        Event::SayAgain(index) => world.say_again(*index as usize),
        Event::Regress(on) => {
            world.gates.regressed = *on;
            world.settle();
        }
        Event::CutOff(index)
        | Event::Reconnect(index)
        | Event::Sick(index)
        | Event::Well(index)
        | Event::Manner(index, ..)
        | Event::Wipe(index)
        | Event::Hold(index)
        | Event::Release(index)
        | Event::Exclude(index, _)
        | Event::Drain(index)
        | Event::Undrain(index)
        | Event::Remove(index)
        | Event::Side(index, _)
        | Event::Zone(index, _) => {
            if let Some(host) = there(index) {
                happen_to(world, &host, event);
            }
        }
    }
}

fn happen_to(world: &mut World, host: &str, event: &Event) {
    match event {
        Event::CutOff(_) => world.host(host).cut_off = true,
        Event::Reconnect(_) => world.host(host).cut_off = false,
        Event::Sick(_) => world.sick(host, true),
        Event::Well(_) => world.sick(host, false),
        Event::Manner(_, number, manner) => world.manner(host, release(*number), *manner),
        Event::Wipe(_) => world.wipe(host),
        Event::Hold(_) => world.edit_host(host, |host| host.held = Some(Hold::Clone)),
        Event::Release(_) => world.release(host),
        Event::Exclude(_, true) => drop(world.exclude.insert(name(host))),
        Event::Exclude(_, false) => world.exclude.clear(),
        Event::Drain(_) => world.edit_host(host, |host| host.drained = true),
        Event::Undrain(_) => world.edit_host(host, |host| host.drained = false),
        Event::Remove(_) => world.remove(host),
        Event::Side(_, true) => {
            world.edit_host(host, |host| drop(host.labels.insert(name("side"), name("yes"))));
        }
        Event::Side(_, false) => world.edit_host(host, |host| host.labels.clear()),
        Event::Zone(_, zone) => world.edit_host(host, |host| host.zone = name(ZONES[*zone as usize])),
        _ => {}
    }
}

fn world(zones: &[(&str, u32)], policy: Policy, serving: bool) -> World {
    if serving { World::serving(zones, policy).beside(&["a1"]) } else { World::empty(zones, policy) }
}

/// Everything that is wrong ends: hosts answer, are well and do well, nobody is held.
fn heal(world: &mut World) {
    world.gates.regressed = false;
    world.manners.clear();
    world.exclude.clear();
    for host in world.hosts.keys().map(ToString::to_string).collect::<Vec<_>>() {
        world.host(&host).cut_off = false;
        world.edit_host(&host, |record| record.drained = false);
        world.release(&host);
    }
    world.resume();
    // What runs turns well again; one round of reports first, so that what hangs is seen to hang.
    for host in world.hosts.keys().map(ToString::to_string).collect::<Vec<_>>() {
        for place in world.host(&host).places.values_mut() {
            place.sick = false;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// E1, E3 to E11, E13 to E17, E19 to E22, E28: watched by `laws` all the while.
    #[test]
    fn laws_hold_whatever_happens((zones, serving) in fleet(), policy in policies(), events in prop::collection::vec(event(), 0..120)) {
        let mut world = world(&zones, policy, serving);
        for event in &events {
            happen(&mut world, event);
        }
    }

    /// L1, L2, L5: when faults stop, a rollout on its way ends within a bound, or waits for a person.
    #[test]
    fn everything_ends_when_faults_end((zones, serving) in fleet(), policy in policies(), events in prop::collection::vec(event(), 0..80)) {
        let policy = Policy { zone_floor: None, fleet_floor: Share::Percent(0), ..policy };
        let mut world = world(&zones, policy, serving);
        for event in events.iter().filter(|event| !matches!(event, Event::Floor(_))) {
            happen(&mut world, event);
        }
        heal(&mut world);
        for _ in 0..ROUNDS_MAX {
            let halted = world.active().is_some_and(|rollout| rollout.stage == Stage::Halted);
            if halted || world.active().is_none() {
                break;
            }
            world.round();
        }
        // A halted one is ended by a fix, from wherever it is.
        if world.active().is_some_and(|rollout| rollout.stage == Stage::Halted) {
            let _ = world.start(release(4), true);
            for _ in 0..ROUNDS_MAX {
                if world.active().is_none() {
                    break;
                }
                world.round();
            }
        }
        // With nobody left to move, it is for a person to end it.
        if let Some(id) = world.active().map(|rollout| rollout.id)
            && !world.environment(PROD).members().any(|live| live.member.in_scope(id))
        {
            prop_assert_eq!(world.waiting(), [WaitingOn::NothingToRun]);
            world.abort();
        }
        prop_assert!(world.active().is_none(), "waiting {:?}: {:#?}", world.waiting(), world.active());
        // And whoever was left out catches up.
        world.rounds(60);
        for host in world.hosts.keys().map(ToString::to_string).collect::<Vec<_>>() {
            let waits = world.explain(&host);
            let member = world.member(&host);
            let unresolved = &world.environment(PROD).definition.unresolved;
            let fine = match waits {
                // What was aborted stays where it is.
                WaitingOn::Excepted { exception: Exception::Excluded, .. } => true,
                WaitingOn::Excepted { .. } | WaitingOn::OffBaked { .. } => member.started.is_some_and(|id| unresolved.contains(&id)),
                WaitingOn::UpToDate
                | WaitingOn::NothingToRun
                | WaitingOn::WentBack { .. }
                | WaitingOn::Failed { .. }
                | WaitingOn::Held(_) => true,
                _ => false,
            };
            prop_assert!(fine, "{host}: {waits:?}, {:#?}", world.member(&host));
        }
    }

    /// Nothing goes wrong, so nothing may: everybody is moved, within the sum of bakes and batches.
    #[test]
    fn a_well_fleet_is_done_within_a_bound((zones, serving) in fleet(), batch in 0..=100u8) {
        let policy = Policy { batch: Share::Percent(batch), fleet_floor: Share::Percent(0), ..policy() };
        let mut world = world(&zones, policy.clone(), serving);
        world.rounds(1);
        world.start(release(2), false).expect("started");
        let hosts = world.hosts.len() as u64;
        let bakes = policy.bake.one_box + policy.bake.first_zone + policy.bake.later_zones * zones.len() as u32;
        // Fetching, stopping, proving, settling, and one more to be granted: five rounds for a batch.
        let bound = bakes.as_secs() / ROUND.as_secs() + 5 * hosts + 2 * zones.len() as u64 + 5;
        for _ in 0..bound {
            world.round();
        }
        prop_assert_eq!(&world.newest().stage, &Stage::Succeeded);
        prop_assert_eq!(world.on(release(2)).len() as u64, hosts);
    }
}

/// Above what the largest fleet here needs with every deadline missed.
const ROUNDS_MAX: u32 = 600;
