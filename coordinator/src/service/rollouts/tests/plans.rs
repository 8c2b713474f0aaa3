//! Plans: what they rest on, what they promise, and what is told when that has changed.

use super::*;

#[test]
fn hosts_are_left_out_by_name() {
    let mut world = World::prod();
    for id in ["d1-k3f9x", "d2-aaaaa"] {
        world.host(id, "d", &[("env", "prod")]);
    }
    world.host("other", "d", &[]);
    let without =
        |hosts: &[&str]| StartRollout { exclude: hosts.iter().map(|id| name(id)).collect(), ..to("v2") };
    refused(world.start(&without(&["nobody"])), Code::HostUnknown);
    let told = refused(world.start(&without(&["other"])), Code::HostUnknown);
    assert!(told.contains("does not belong to environment prod"), "{told}");
    let all = ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"];
    refused(world.start(&without(&all)), Code::EnvironmentEmpty);
    // Once is enough, however it is called.
    let request = without(&["d1", "d1-k3f9x", "b2"]);
    let planned = flown(&world, &request);
    assert_eq!(planned.excluded, [name::<HostId>("b2"), name("d1-k3f9x")]);
    assert_eq!((planned.hosts, planned.flown.waves[0].hosts), (6, 1));
    assert_eq!((planned.flown.left_out.len(), planned.flown.state), (0, RolloutState::Succeeded));
    let named = planned.flown.waves.iter().flat_map(|wave| &wave.first).flat_map(|batch| &batch.first);
    assert!(named.clone().count() == 6 && named.clone().all(|host| !planned.excluded.contains(host)));
    let (shown, whole) = grounded(&world, &to("v2"));
    assert_ne!(planned.plan_hash, whole.plan_hash);
    let promised = StartRollout { plan_hash: Some(whole.plan_hash), ..request.clone() };
    let told = refused(world.start_shown(&promised, Some(&shown)), Code::PlanChanged);
    assert!(told.contains("when that plan was made: left out: b2, d1-k3f9x; look"), "{told}");
    world.start(&StartRollout { plan_hash: Some(planned.plan_hash), ..request }).expect("as planned");
    assert!(
        world.last_audit().after.ends_with(" --exclude b2 --exclude d1-k3f9x"),
        "{:?}",
        world.last_audit()
    );
}

#[test]
fn a_plan_is_kept_to_or_refused() {
    let mut world = World::prod();
    let (shown, planned) = grounded(&world, &to("v2"));
    assert_eq!(planned, flown(&world, &to("v2")));
    assert_eq!((planned.hosts, planned.supersedes), (6, None));
    assert_eq!(planned.flown.capacity[0].floor, Some(4));
    let waves: Vec<_> =
        planned.flown.waves.iter().map(|wave| (wave.wave.clone(), wave.hosts, wave.batches)).collect();
    let zone = |zone: &str| Wave::Zones(vec![name(zone)]);
    assert_eq!(waves, [(Wave::OneBox, 1, 1), (zone("a"), 1, 1), (zone("b"), 2, 2), (zone("c"), 2, 2)]);
    assert!(world.prod_environment().rollout.is_none(), "nothing was touched");
    let promised = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v2") };
    world.host("d1", "d", &[("env", "prod")]);
    let told = refused(world.start(&promised), Code::PlanChanged);
    assert!(told.contains("its hash is another"), "{told}");
    let told = refused(world.start_shown(&promised, Some(&shown)), Code::PlanChanged);
    assert!(told.contains("when that plan was made: joined: d1; look at it again"), "{told}");
    let planned = flown(&world, &to("v2"));
    let promised = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v2") };
    world.start(&promised).expect("as planned");
    // The planner begins with the host that the plan named.
    let first = planned.flown.waves[0].first[0].first[0].clone();
    let gates = GateValues::of(&world.state, world.prod_environment(), world.now);
    let now = crate::rollout::planner::plan(world.prod_environment(), &world.state.fleet, &gates, world.now);
    let one_box = crate::rollout::planner::Turn::OneBox(first);
    assert!(now.changes.contains(&crate::rollout::planner::Change::Turn(one_box)), "{now:?}");
}

#[test]
fn what_has_changed_since_a_plan_is_told() {
    let mut world = World::prod();
    let (shown, planned) = grounded(&world, &to("v2"));
    let promised = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v2") };
    world.host("d1", "d", &[("env", "prod")]);
    (2..=8).for_each(|number| world.host(&format!("d{number}"), "d", &[("env", "prod")]));
    let mut moved = world.state.fleet.get(&name("b1")).expect("a host").host.clone();
    moved.zone = name("c");
    world.state.apply(Edit::Host(moved), world.now);
    let (v1, v2) = (world.release("v1"), world.release("v2"));
    world.edit_member("a1", |member| member.settled = Some(v2));
    world.state.apply(Edit::ForgetHost(name("c2")), world.now);
    with_policy(&mut world, |policy| policy.batch = Share::Percent(50));
    let told = refused(world.start_shown(&promised, Some(&shown)), Code::PlanChanged);
    for clause in [
        "policy.batch is 50%, was 33%",
        "joined: d1, d2, d3, d4, d5 and 3 more",
        "left: c2",
        "in another zone: b1",
        "settled on another release: a1",
    ] {
        assert!(told.contains(clause), "{clause}: {told}");
    }
    let mut world = World::prod();
    let (shown, planned) = grounded(&world, &to("v2"));
    world.version_set("v3");
    let other = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v3") };
    let told = refused(world.start_shown(&other, Some(&shown)), Code::PlanChanged);
    assert!(told.contains("the version set is v3, was v2"), "{told}");
    let mut definition = world.prod_environment().definition.clone();
    definition.baked = v2;
    world.state.apply(Edit::Environment(definition.clone()), world.now);
    let promised = StartRollout { plan_hash: Some(planned.plan_hash), ..to("v2") };
    let told = refused(world.start_shown(&promised, Some(&shown)), Code::PlanChanged);
    assert!(told.contains("the way back is v2, was v1"), "{told}");
    definition.baked = v1;
    definition.settings = houston_common::digest::SettingsDigest(houston_common::digest::Digest::of(b"x"));
    world.state.apply(Edit::Environment(definition), world.now);
    let told = refused(world.start_shown(&promised, Some(&shown)), Code::PlanChanged);
    assert!(told.contains("the digest of the settings is "), "{told}");
}

#[test]
fn plans_are_remembered_up_to_a_bound() {
    let (basis, planned) = grounded(&World::prod(), &to("v2"));
    let mut shown = Shown::default();
    shown.remember(basis.clone());
    shown.remember(basis.clone());
    assert_eq!(shown.find(&planned.plan_hash).as_deref(), Some(&basis));
    let mut world = World::prod();
    for number in 0..70 {
        world.host(&format!("d{number}"), "d", &[("env", "prod")]);
        shown.remember(grounded(&world, &to("v2")).0);
    }
    assert_eq!(shown.find(&planned.plan_hash), None);
    let (newest, planned) = grounded(&world, &to("v2"));
    assert_eq!(shown.find(&planned.plan_hash).as_deref(), Some(&newest));
}

#[test]
fn a_plan_reckons_with_the_latest_successes_of_its_environment() {
    let mut world = World::prod();
    let assumed = flown(&world, &to("v2"));
    assert_eq!((assumed.prepare.taken_from, assumed.activation.taken_from), (0, 0));
    assert_eq!(assumed.activation.half, Duration::from_secs(40), "ten seconds and the health window");
    for (version, seconds, succeeds) in [("v2", 5, true), ("v3", 7, true), ("v4", 300, false)] {
        if version != "v2" {
            world.version_set(version);
        }
        world.start(&to(version)).expect("started");
        world.edit_active(|rollout| {
            rollout.activations.add(Duration::from_secs(seconds));
            rollout.prepares.add(Duration::from_secs(seconds * 2));
        });
        if succeeds {
            world.succeed(version);
        } else {
            world.control(newest(), RolloutAction::Abort).expect("aborted");
        }
    }
    let planned = flown(&world, &to("v4"));
    let seconds = |time: ModelTime| (time.half.as_secs(), time.nine_in_ten.as_secs(), time.taken_from);
    let of_two = [(planned.prepare, 10, 14), (planned.activation, 5, 7)];
    for (time, least, most) in of_two {
        let (half, nine_in_ten, taken_from) = seconds(time);
        assert!(least <= half && half <= nine_in_ten && nine_in_ten <= most && taken_from == 2, "{time:?}");
    }
    assert!(planned.flown.lasts < assumed.flown.lasts);
}

#[test]
fn a_plan_tells_what_a_failure_costs() {
    let world = World::prod();
    let what_ifs = flown(&world, &to("v2")).what_ifs;
    let told: Vec<_> = what_ifs.iter().map(|cost| (cost.fault.clone(), cost.hosts_met, cost.state)).collect();
    let late = Fault::Late { after: Duration::from_secs(3600) };
    // In zone c the most hosts have to go back before all is as it was.
    assert_eq!(
        told,
        [
            (Fault::AtOnce, 1, RolloutState::RolledBack),
            (Fault::InZone(name("c")), 1, RolloutState::RolledBack),
            (late, 1, RolloutState::RolledBack),
        ]
    );
    assert_eq!(what_ifs[0].capacity[0].lowest, 5);
}

#[test]
fn a_plan_to_supersede_flies_what_comes_after() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    world.version_set("v3");
    refused(plan(&world.state, &alice(), &to("v3"), world.now, WALL), Code::Conflict);
    let request = StartRollout { supersede: true, ..to("v3") };
    let planned = flown(&world, &request);
    assert_eq!(planned.supersedes, Some(RolloutId(1)));
    assert_eq!((planned.flown.state, planned.hosts), (RolloutState::Succeeded, 6));
    assert_eq!(world.active().id, RolloutId(1));
    world.start(&StartRollout { plan_hash: Some(planned.plan_hash), ..request }).expect("as planned");
}
