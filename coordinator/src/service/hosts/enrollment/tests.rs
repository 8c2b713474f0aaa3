use std::time::Duration;

use houston_common::clock::WallTime;
use houston_common::command::{HostChange, RevokeToken};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};

use super::super::super::fixture::{WALL, World, alice, enrollment, name, refused, to};
use super::super::revoke;
use super::{Enrollment, Joined, enroll, renew, renewal_key};

fn try_to_join(world: &mut World, request: &Enrollment) -> Result<Joined, Refusal> {
    let decided = enroll(&world.state, request, world.now, WALL).expect("decided");
    world.commit(decided)
}

#[test]
fn a_host_joins_with_its_memberships_and_uses_the_token_once() {
    let mut world = World::prod();
    world.token("one", "b", 1);
    let joined = try_to_join(&mut world, &enrollment("one", Some("web-1"), "k3f9x")).expect("accepted");
    assert_eq!(joined, Joined { host: name("web-1-k3f9x"), zone: name("b") });
    assert_eq!(world.member("web-1-k3f9x").zone, name("b"));
    assert_eq!(world.state.access.tokens["one"].uses_left, 0);
    assert_eq!(world.last_audit().who, "host/web-1-k3f9x");
    let second = try_to_join(&mut world, &enrollment("one", Some("web-1"), "other"));
    refused(second, Code::Token);
    assert_eq!(world.last_audit().why, "join token \"one\": used up");
    assert_eq!(world.state.fleet.len(), 7);
}

#[test]
fn whoever_shows_a_bad_token_learns_nothing_of_it() {
    let mut world = World::prod();
    for id in ["good", "old", "gone"] {
        world.token(id, "a", 5);
    }
    let revoked = RevokeToken { id: "gone".to_owned(), reason: String::new() };
    let decided =
        super::super::super::access::revoke_token(&world.state, &alice(), &revoked).expect("revoked");
    world.commit(decided);
    let mut expired = world.state.access.tokens["old"].clone();
    expired.expires = world.now;
    world.state.apply(crate::state::Edit::Token(expired), world.now);
    let guessed = Enrollment { secret: Digest::of(b"a guess"), ..enrollment("good", None, "x") };
    let mut told = Vec::new();
    for (request, reason) in [
        (guessed, "wrong secret"),
        (enrollment("old", None, "x"), "expired"),
        (enrollment("gone", None, "x"), "never made"),
        (enrollment("never", None, "x"), "never made"),
    ] {
        let hosts = world.state.fleet.len();
        told.push(refused(try_to_join(&mut world, &request), Code::Token));
        assert!(world.last_audit().why.contains(reason), "{:?}", world.last_audit());
        assert_eq!(world.state.fleet.len(), hosts);
    }
    told.dedup();
    assert_eq!(told.len(), 1, "one refusal for all: {told:?}");
    assert_eq!(world.state.access.tokens["good"].uses_left, 5);
}

#[test]
fn a_machine_that_never_heard_the_answer_is_the_host_that_it_was() {
    let mut world = World::prod();
    world.token("one", "b", 1);
    let request = enrollment("one", Some("web"), "k3f9x");
    let first = try_to_join(&mut world, &request).expect("accepted");
    let again =
        Enrollment { suffix: "other".to_owned(), certificate_expires: WallTime(WALL.0 + 9), ..request };
    assert_eq!(try_to_join(&mut world, &again).expect("accepted"), first);
    let host = &world.state.fleet.get(&first.host).expect("there").host;
    assert_eq!(host.certificate_expires, again.certificate_expires);
    // What was revoked inherits nothing.
    let request = HostChange { host: first.host, reason: String::new() };
    let decided = revoke(&world.state, &alice(), &request).expect("revoked");
    world.commit(decided);
    refused(try_to_join(&mut world, &again), Code::Token);
}

#[test]
fn a_host_that_joins_during_a_rollout_is_not_in_its_scope() {
    let mut world = World::prod();
    let id = world.start(&to("v2")).expect("started");
    let joined = try_to_join(&mut world, &enrollment("join", None, "k3f9x")).expect("accepted");
    assert_eq!(joined.host, name("host-k3f9x"));
    assert_eq!(world.member("host-k3f9x").joined, id);
    assert!(!world.member("host-k3f9x").in_scope(id));
}

#[test]
fn ids_are_cut_to_size_and_given_once() {
    let mut world = World::prod();
    let long = "a".repeat(63);
    let joined = try_to_join(&mut world, &enrollment("join", Some(&long), "k3f9x")).expect("accepted");
    assert_eq!(joined.host.as_str().len(), 63);
    let mut same = enrollment("join", Some(&long), "k3f9x");
    same.key = Digest::of(b"another key");
    refused(enroll(&world.state, &same, world.now, WALL), Code::Busy);
    let dashes = Enrollment { key: Digest::of(b"third"), ..enrollment("join", Some("web--"), "k3f9x") };
    assert_eq!(try_to_join(&mut world, &dashes).expect("accepted").host, name("web-k3f9x"));
}

/// Each renewal left an audit entry, as fast as a host could ask.
#[test]
fn renewals_in_a_row_write_nothing() {
    let mut world = World::prod();
    world.later(Duration::from_secs(1));
    let key = Digest::of(b"a1-x");
    let days = |days: u64| WALL.plus(Duration::from_secs(86_400 * days));
    let mut renew = |expires, wall| {
        let decided = renew(&world.state, &name("a1"), &key, expires, wall).expect("renewed");
        let writes = decided.note.is_some();
        assert_eq!(writes, !decided.edits.is_empty());
        world.commit(decided);
        writes
    };
    assert!(renew(days(30), days(0)));
    assert!(!renew(days(30), days(0)) && !renew(days(31), days(1)), "it has one that is as good");
    assert!(renew(days(45), days(15)), "half of its life is over");
    assert!(renew(days(20), days(15)), "lives are given shorter now");
}

#[test]
fn only_the_enrolled_key_renews() {
    let mut world = World::prod();
    world.later(Duration::from_secs(1));
    let key = Digest::of(b"a1-x");
    let decided = renew(&world.state, &name("a1"), &key, WallTime(WALL.0 + 50), WALL).expect("renewed");
    world.commit(decided);
    assert_eq!(
        world.state.fleet.get(&name("a1")).expect("there").host.certificate_expires,
        WallTime(WALL.0 + 50)
    );
    assert_eq!(renewal_key(&world.state, &name("a1")).expect("a key"), b"a1-x");
    refused(renew(&world.state, &name("a1"), &Digest::of(b"b1-x"), WALL, WALL), Code::Unauthenticated);
    refused(renew(&world.state, &name("nobody"), &key, WALL, WALL), Code::Unauthenticated);
    let request = HostChange { host: name("a1"), reason: String::new() };
    let decided = revoke(&world.state, &alice(), &request).expect("revoked");
    world.commit(decided);
    refused(renew(&world.state, &name("a1"), &key, WALL, WALL), Code::Unauthenticated);
    refused(renewal_key(&world.state, &name("a1")), Code::Unauthenticated);
}
