use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::FleetTime;
use houston_common::command::{DrainHost, EditHost, HoldHost, HostChange, HostFilter, ListHosts, Page};
use houston_common::error::Code;
use houston_common::id::{Generation, RolloutId};
use houston_common::rollout::Held;

use super::super::fixture::{World, alice, name, refused, to};
use super::{drain, edit, get, hold, list, release, remove, resolve, revoke};
use crate::environment::member::{Grant, Lane, Step, Told};
use crate::fleet::Hold;
use crate::state::Edit;

const TERMS: Option<houston_common::assignment::Terms> = Some(houston_common::assignment::Terms {
    start_within: Duration::from_secs(30),
    apply_deadline: Duration::from_secs(600),
    health_window: Duration::from_secs(30),
});

fn change(host: &str) -> HostChange {
    HostChange { host: name(host), reason: "because".to_owned() }
}

fn labels(host: &str, set: &[(&str, &str)], removed: &[&str]) -> EditHost {
    EditHost {
        host: name(host),
        zone: None,
        set_labels: set.iter().map(|(key, value)| (name(key), name(value))).collect(),
        remove_labels: removed.iter().map(|key| name(key)).collect(),
        reason: String::new(),
    }
}

/// Gives the host an open grant of the active rollout.
fn grant(world: &mut World, host: &str, reverting: bool) {
    let (id, target) = (world.active().id, world.active().target);
    world.edit_member(host, |member| {
        member.lane = Lane::Rollout(id);
        member.step = Step::Granted;
        member.told =
            Some(Told { generation: Generation(9), terms: TERMS, release: target, way_back: target });
        member.grant = Some(Grant {
            generation: Generation(9),
            was_down: false,
            reverting,
            deadline: FleetTime(u64::MAX),
        });
    });
}

#[test]
fn a_host_is_found_by_what_comes_before_its_suffix() {
    let mut world = World::prod();
    for id in ["web-1-k3f9x", "web-2-aaaaa", "web-2-bbbbb"] {
        world.host(id, "a", &[]);
    }
    assert_eq!(resolve(&world.state, "web-1-k3f9x").expect("by id"), name("web-1-k3f9x"));
    assert_eq!(resolve(&world.state, "web-1").expect("by name"), name("web-1-k3f9x"));
    let told = refused(resolve(&world.state, "web-2"), Code::HostUnknown);
    assert!(told.contains("say which: web-2-aaaaa, web-2-bbbbb"), "{told}");
    let told = refused(resolve(&world.state, "wbe-1"), Code::HostUnknown);
    assert!(told.contains("did you mean \"web-1\"?"), "{told}");
    refused(resolve(&world.state, "../\n"), Code::HostUnknown);
    refused(get(&world.state, &name("zebra"), world.now), Code::HostUnknown);
}

#[test]
fn hosts_are_listed_by_what_is_said_of_them() {
    let mut world = World::prod();
    world.host("other", "a", &[("env", "test")]);
    let mut request = ListHosts { filter: HostFilter::default(), page: Page { size: 4, token: None } };
    let ids = |world: &World, request: &ListHosts| {
        let page = list(&world.state, request, world.now).expect("a page");
        (page.items.iter().map(|host| host.id.to_string()).collect::<Vec<_>>(), page.next)
    };
    let (first, next) = ids(&world, &request);
    assert_eq!(first, ["a1", "a2", "b1", "b2"]);
    request.page.token = next;
    assert_eq!(ids(&world, &request), (vec!["c1".to_owned(), "c2".to_owned(), "other".to_owned()], None));
    request.page.token = None;
    request.filter.zone = Some(name("a"));
    assert_eq!(ids(&world, &request).0, ["a1", "a2", "other"]);
    request.filter.environment = Some(name("prod"));
    assert_eq!(ids(&world, &request).0, ["a1", "a2"]);
    request.filter.labels = BTreeMap::from([(name("env"), name("test"))]);
    assert!(ids(&world, &request).0.is_empty());
    request.filter.environment = Some(name("nope"));
    refused(list(&world.state, &request, world.now), Code::EnvironmentUnknown);
}

#[test]
fn labels_move_a_host_in_and_out() {
    let mut world = World::prod();
    world.host("new", "a", &[]);
    let decided = edit(&world.state, &alice(), &labels("new", &[("env", "prod")], &[])).expect("edited");
    world.commit(decided);
    assert_eq!(world.member("new").joined, RolloutId(0));
    let unchanged = edit(&world.state, &alice(), &labels("new", &[("env", "prod")], &["no"])).expect("done");
    assert!(unchanged.edits.is_empty() && unchanged.note.is_none());
    // Never told anything: it leaves without a trace.
    let decided = edit(&world.state, &alice(), &labels("new", &[], &["env"])).expect("edited");
    assert!(decided.edits.contains(&Edit::ForgetMember(name("prod"), name("new"))));
    world.commit(decided);
    assert!(world.prod_environment().member(&name("new")).is_none());
    // Told something: it is detached, and is like one that joins when it comes back.
    let decided = edit(&world.state, &alice(), &labels("a1", &[], &["env"])).expect("edited");
    world.commit(decided);
    assert!(world.member("a1").detached);
    world.version_set("v3");
    let id = world.start(&to("v3")).expect("started");
    let decided = edit(&world.state, &alice(), &labels("a1", &[("env", "prod")], &[])).expect("edited");
    world.commit(decided);
    assert!(!world.member("a1").detached && !world.member("a1").in_scope(id));
}

#[test]
fn a_host_does_not_leave_in_the_middle_of_a_change() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    grant(&mut world, "a1", false);
    refused(edit(&world.state, &alice(), &labels("a1", &[], &["env"])), Code::HostBusy);
    assert!(edit(&world.state, &alice(), &labels("a2", &[], &["env"])).is_ok());
}

#[test]
fn a_zone_is_pinned_while_a_rollout_is_active() {
    let mut world = World::prod();
    let request = EditHost { zone: Some(name("b")), ..labels("a1", &[], &[]) };
    let decided = edit(&world.state, &alice(), &request).expect("edited");
    let recorded =
        decided.edits.iter().any(|edit| matches!(edit, Edit::Member(member) if member.zone == name("b")));
    assert!(recorded, "a restart reads the zone from the member's record");
    world.commit(decided);
    assert_eq!(world.member("a1").zone, name("b"));
    world.start(&to("v2")).expect("started");
    let request = EditHost { zone: Some(name("a")), ..labels("a1", &[], &[]) };
    refused(edit(&world.state, &alice(), &request), Code::Conflict);
}

#[test]
fn labels_are_limited() {
    let world = World::prod();
    let many: Vec<String> = (0..64).map(|number| format!("k{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "v")).collect();
    refused(edit(&world.state, &alice(), &labels("a1", &many, &[])), Code::Limit);
}

#[test]
fn a_drained_host_is_unavailable_until_it_is_in_use_again() {
    let mut world = World::prod();
    for (drained, available, what) in [(true, 5, "host.drain a1"), (false, 6, "host.undrain a1")] {
        let request = DrainHost { host: name("a1"), drained, reason: String::new() };
        let decided = drain(&world.state, &alice(), &request).expect("drained");
        world.commit(decided);
        assert_eq!(world.last_audit().what, what);
        assert_eq!(world.prod_environment().index().total().available, available);
        let again = drain(&world.state, &alice(), &request).expect("done");
        assert!(again.edits.is_empty() && again.note.is_none());
    }
}

fn held_for(seconds: Option<u64>) -> HoldHost {
    HoldHost { host: name("a1"), reason: "odd".to_owned(), duration: seconds.map(Duration::from_secs) }
}

#[test]
fn a_hold_has_a_name_a_reason_and_perhaps_an_end() {
    let mut world = World::prod();
    let decided = hold(&world.state, &alice(), &held_for(None), world.now).expect("held");
    world.commit(decided);
    assert_eq!((world.last_audit().what.as_str(), world.last_audit().why.as_str()), ("host.hold a1", "odd"));
    assert_eq!(world.prod_environment().index().total().available, 6, "it serves");
    let by_alice = |left| Some(Held::Operator { name: alice().name, reason: "odd".to_owned(), left });
    let seen = |world: &World| get(&world.state, &name("a1"), world.now).expect("a host").held;
    assert_eq!(seen(&world), by_alice(None));
    assert_eq!(world.state.fleet.next_hold_end(), None);
    let again = hold(&world.state, &alice(), &held_for(None), world.now).expect("done");
    assert!(again.edits.is_empty() && again.note.is_none());
    let decided = hold(&world.state, &alice(), &held_for(Some(60)), world.now).expect("held anew");
    world.commit(decided);
    world.later(Duration::from_secs(59));
    assert_eq!(seen(&world), by_alice(Some(Duration::from_secs(1))));
    assert_eq!(world.state.fleet.hold_over(world.now), None);
    world.later(Duration::from_secs(1));
    assert_eq!(world.state.fleet.hold_over(world.now), Some(&name("a1")));
    let start = world.state.fleet.get(&name("a1")).expect("there").host.start;
    let decided = release(&world.state, &alice(), &change("a1")).expect("released");
    world.commit(decided);
    assert_eq!((seen(&world), world.state.fleet.next_hold_end()), (None, None));
    assert_eq!(world.state.fleet.get(&name("a1")).expect("there").host.start, start, "it is no clone");
}

#[test]
fn an_operators_hold_does_not_hide_a_clone() {
    let mut world = World::prod();
    let mut host = world.state.fleet.get(&name("a1")).expect("there").host.clone();
    host.held = Some(Hold::Clone);
    world.state.apply(Edit::Host(host), world.now);
    let told = refused(hold(&world.state, &alice(), &held_for(Some(60)), world.now), Code::HostHeld);
    assert!(told.contains("two machines"), "{told}");
}

#[test]
fn who_is_held_or_boxed_is_listed() {
    let mut world = World::prod();
    let decided = hold(&world.state, &alice(), &held_for(None), world.now).expect("held");
    world.commit(decided);
    let now = world.now;
    world.edit_member("c2", |member| (0..3).for_each(|_| member.fail_again(now)));
    let filter = HostFilter { held: true, ..HostFilter::default() };
    let request = ListHosts { filter, page: Page { size: 10, token: None } };
    let hosts = list(&world.state, &request, world.now).expect("a page").items;
    assert_eq!(hosts.iter().map(|host| host.id.as_str()).collect::<Vec<_>>(), ["a1", "c2"]);
    let Some(Held::PenaltyBox { failures: 3, left, .. }) = &hosts[1].held else { panic!("{hosts:?}") };
    assert_eq!(*left, Duration::from_secs(3600));
    let decided = release(&world.state, &alice(), &change("c2")).expect("released");
    world.commit(decided);
    assert_eq!(world.last_audit().before, "failed 3 times in a row in prod");
    assert_eq!(list(&world.state, &request, world.now).expect("a page").items.len(), 1);
}

#[test]
fn release_ends_a_hold_and_forgets_which_clone_was_first() {
    let mut world = World::prod();
    let nothing = release(&world.state, &alice(), &change("a1")).expect("nothing to do");
    assert!(nothing.edits.is_empty());
    let mut host = world.state.fleet.get(&name("a1")).expect("there").host.clone();
    host.held = Some(Hold::Clone);
    host.start = Some((3, 4));
    world.state.apply(Edit::Host(host), world.now);
    world.edit_member("a1", |member| member.failures = 2);
    let decided = release(&world.state, &alice(), &change("a1")).expect("released");
    world.commit(decided);
    let host = &world.state.fleet.get(&name("a1")).expect("there").host;
    assert_eq!((host.held.as_ref(), host.start, world.member("a1").failures), (None, None, 0));
    assert_eq!(
        world.last_audit().before,
        "two machines speak with its identity; failed 2 times in a row in prod"
    );
}

#[test]
fn a_removed_host_is_gone_everywhere() {
    let mut world = World::prod();
    let decided = revoke(&world.state, &alice(), &change("a1")).expect("revoked");
    world.commit(decided);
    assert!(world.state.fleet.get(&name("a1")).expect("there").host.revoked);
    let decided = remove(&world.state, &alice(), &change("a1")).expect("removed");
    world.commit(decided);
    assert!(world.state.fleet.get(&name("a1")).is_none());
    assert_eq!(world.prod_environment().index().total().hosts, 5);
    refused(remove(&world.state, &alice(), &change("a1")), Code::HostUnknown);
}

#[test]
fn a_granted_host_that_is_removed_counts_once() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    grant(&mut world, "a1", false);
    grant(&mut world, "a2", true);
    assert_eq!(world.prod_environment().index().total().moving, 2);
    let decided = remove(&world.state, &alice(), &change("a1")).expect("removed");
    world.commit(decided);
    assert_eq!((world.active().failures, world.prod_environment().index().total().moving), (1, 1));
    assert_eq!(world.active().first_failure, Some(name("a1")));
    // Its failure was counted when it began to revert.
    let decided = remove(&world.state, &alice(), &change("a2")).expect("removed");
    world.commit(decided);
    assert_eq!((world.active().failures, world.prod_environment().index().total().moving), (1, 0));
    // Its turn had not come.
    let decided = remove(&world.state, &alice(), &change("b1")).expect("removed");
    world.commit(decided);
    assert_eq!((world.active().failures, world.active().exceptions), (1, 0));
}
