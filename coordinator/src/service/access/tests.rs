use std::collections::BTreeMap;
use std::time::Duration;

use houston_common::clock::WallTime;
use houston_common::command::{AddOperator, CreateToken, RevokeOperator, RevokeToken};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::view::{Role, RoleBinding};

use super::super::fixture::{WALL, World, alice, name, refused};
use super::{
    TOKENS_MAX, TokenParts, add_operator, create_token, list_operators, list_tokens, revoke_operator,
    revoke_token,
};
use crate::engine::core::Decided;

fn add(
    world: &World,
    operator: &str,
    roles: &[(Role, Option<&str>)],
    key: &str,
) -> Result<Decided<()>, Refusal> {
    let roles = roles
        .iter()
        .map(|(role, environment)| RoleBinding { role: *role, environment: environment.map(name) });
    let request =
        AddOperator { name: name(operator), roles: roles.collect(), csr: Vec::new(), reason: String::new() };
    add_operator(&world.state, &alice(), &request, Digest::of(key.as_bytes()), WallTime(WALL.0 + 1))
}

fn revoke(world: &World, operator: &str) -> Result<Decided<()>, Refusal> {
    let request = RevokeOperator { name: name(operator), reason: String::new() };
    revoke_operator(&world.state, &alice(), &request)
}

const ADMIN: &[(Role, Option<&str>)] = &[(Role::Admin, None)];

#[test]
fn tokens_are_listed_while_they_can_be_used() {
    let mut world = World::empty();
    world.token("one", "a", 1);
    world.token("two", "b", 2);
    let tokens = list_tokens(&world.state, world.now, WALL);
    assert_eq!(tokens.iter().map(|token| token.id.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(tokens[0].expires_in, Duration::from_secs(3600));
    let request = RevokeToken { id: "one".to_owned(), reason: String::new() };
    let decided = revoke_token(&world.state, &alice(), &request).expect("revoked");
    world.commit(decided);
    assert_eq!(list_tokens(&world.state, world.now, WALL).len(), 1);
    refused(revoke_token(&world.state, &alice(), &request), Code::TokenUnknown);
    // By either clock: the fleet's stands still with the coordinator, the wall's can be set back.
    let hour = Duration::from_secs(3600);
    assert!(list_tokens(&world.state, world.now, WALL.plus(hour)).is_empty());
    world.later(hour);
    assert!(list_tokens(&world.state, world.now, WALL).is_empty());
    // The next one sweeps it away.
    world.token("three", "a", 1);
    assert!(!world.state.access.tokens.contains_key("two"));
}

#[test]
fn tokens_are_limited_and_unlike() {
    let mut world = World::empty();
    let request = CreateToken {
        zone: name("a"),
        labels: BTreeMap::new(),
        uses: 1,
        valid_for: Duration::from_secs(60),
        ephemeral: true,
        reason: String::new(),
    };
    let parts = |id: &str| TokenParts { id: id.to_owned(), secret: Digest::of(b"secret") };
    world.token("same", "a", 1);
    let twice = create_token(&world.state, &alice(), &request, parts("same"), world.now, WALL);
    refused(twice, Code::Internal);
    for number in 1..TOKENS_MAX {
        world.token(&number.to_string(), "a", 1);
    }
    refused(create_token(&world.state, &alice(), &request, parts("more"), world.now, WALL), Code::Limit);
}

#[test]
fn an_operator_is_added_once() {
    let mut world = World::prod();
    let decided = add(&world, "alice", ADMIN, "a key").expect("added");
    world.commit(decided);
    assert!(world.state.access.operators["alice"].may(Role::Admin, None));
    refused(add(&world, "alice", ADMIN, "another key"), Code::OperatorExists);
    let told = refused(add(&world, "bob", &[(Role::Deployer, Some("prdo"))], "b"), Code::EnvironmentUnknown);
    assert!(told.contains("did you mean \"prod\"?"), "{told}");
    assert_eq!(list_operators(&world.state).len(), 1);
}

#[test]
fn the_last_admin_stays() {
    let mut world = World::prod();
    let decided = add(&world, "alice", ADMIN, "a").expect("added");
    world.commit(decided);
    let decided = add(&world, "bob", &[(Role::Admin, Some("prod"))], "b").expect("added");
    world.commit(decided);
    refused(revoke(&world, "alice"), Code::LastAdmin);
    let decided = add(&world, "carol", ADMIN, "c").expect("added");
    world.commit(decided);
    let decided = revoke(&world, "alice").expect("revoked");
    world.commit(decided);
    assert_eq!(world.last_audit().after, "revoked");
    refused(revoke(&world, "carol"), Code::LastAdmin);
    let again = revoke(&world, "alice").expect("done already");
    assert!(again.edits.is_empty() && again.note.is_none());
    let told = refused(revoke(&world, "carrol"), Code::OperatorUnknown);
    assert!(told.contains("did you mean \"carol\"?"), "{told}");
}

#[test]
fn a_revoked_name_comes_back_only_with_another_key() {
    let mut world = World::prod();
    for operator in ["alice", "bob"] {
        let decided = add(&world, operator, ADMIN, operator).expect("added");
        world.commit(decided);
    }
    let decided = revoke(&world, "bob").expect("revoked");
    world.commit(decided);
    refused(add(&world, "bob", ADMIN, "bob"), Code::Csr);
    let decided = add(&world, "bob", &[(Role::Viewer, None)], "new").expect("added");
    world.commit(decided);
    assert!(world.state.access.operators["bob"].may(Role::Viewer, None));
    assert!(!world.state.access.operators["bob"].may(Role::Deployer, None));
}
