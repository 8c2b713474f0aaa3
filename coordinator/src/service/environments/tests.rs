use std::time::Duration;

use houston_common::command::Page;
use houston_common::error::Code;
use houston_common::policy::Share;
use houston_common::policy::gate::{Before, Condition, Days, Gate, Window};

use super::super::fixture::{World, alice, applied, name, refused, to};
use super::{apply, get, list};

#[test]
fn a_new_environment_is_entered_and_audited() {
    let mut world = World::prod();
    let decided = apply(&world.state, &alice(), &applied("test", &[("env", "prod")])).expect("applied");
    let reply = world.commit(decided);
    assert!(reply.created);
    assert_eq!((reply.hosts, reply.joining, reply.leaving), (6, 6, 0));
    let selector = reply.differences.iter().find(|difference| difference.field == "selector.env");
    assert_eq!(selector.and_then(|difference| difference.after.as_deref()), Some("prod"));
    let audit = world.last_audit();
    assert_eq!((audit.who.as_str(), audit.what.as_str()), ("operator/alice", "environment.apply test"));
    assert_eq!(audit.why, "because");
    assert!(audit.before.is_empty() && audit.after.contains("policy.batch=33%"), "{audit:?}");
    assert_eq!(get(&world.state, &name("test")).expect("there").zones.len(), 3);
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let world = World::prod();
    let decided = apply(&world.state, &alice(), &applied("prod", &[("env", "prod")])).expect("applied");
    assert!(decided.edits.is_empty() && decided.note.is_none());
    assert!(decided.reply.differences.is_empty() && !decided.reply.created);
}

#[test]
fn a_dry_run_says_what_would_differ_and_changes_nothing() {
    let world = World::prod();
    let mut request = applied("prod", &[("env", "prod")]);
    request.policy.batch = Share::Percent(50);
    request.settings.0.insert(name("PORT"), "80".to_owned());
    request.dry_run = true;
    let decided = apply(&world.state, &alice(), &request).expect("applied");
    assert!(decided.edits.is_empty() && decided.note.is_none());
    let told: Vec<_> = decided
        .reply
        .differences
        .iter()
        .map(|difference| {
            (difference.field.as_str(), difference.before.as_deref(), difference.after.as_deref())
        })
        .collect();
    assert_eq!(told, [("policy.batch", Some("33%"), Some("50%")), ("settings.PORT", None, Some("80"))]);
}

#[test]
fn settings_are_kept_and_shown() {
    let mut world = World::prod();
    let baked = world.prod_environment().definition.baked;
    let mut request = applied("prod", &[("env", "prod")]);
    request.settings.0.insert(name("PORT"), "80".to_owned());
    let decided = apply(&world.state, &alice(), &request).expect("applied");
    world.commit(decided);
    let view = get(&world.state, &name("prod")).expect("there");
    assert_eq!(view.settings, request.settings);
    assert_eq!(world.prod_environment().definition.baked, baked, "a change of settings is a rollout");
}

#[test]
fn a_selector_that_fits_no_host_is_allowed_and_says_so() {
    let world = World::prod();
    let decided = apply(&world.state, &alice(), &applied("none", &[("env", "nowhere")])).expect("applied");
    assert_eq!(decided.reply.hosts, 0);
}

#[test]
fn zones_are_named_once_and_known() {
    let world = World::prod();
    let mut request = applied("prod", &[("env", "prod")]);
    request.policy.zone_order = vec![name("a"), name("b"), name("a")];
    refused(apply(&world.state, &alice(), &request), Code::ZoneTwice);
    request.policy.zone_order = vec![name("aa")];
    let told = refused(apply(&world.state, &alice(), &request), Code::ZoneUnknown);
    assert!(told.contains("did you mean \"a\"?"), "{told}");
    // Nothing is known of an empty fleet's zones.
    assert!(apply(&World::empty().state, &alice(), &request).is_ok());
}

#[test]
fn contradictions_name_both_keys() {
    let world = World::prod();
    for (start_within, health_window, key) in [(700, 30, "start_within"), (30, 600, "health_window")] {
        let mut request = applied("prod", &[("env", "prod")]);
        request.policy.start_within = Duration::from_secs(start_within);
        request.policy.health_window = Duration::from_secs(health_window);
        let told = refused(apply(&world.state, &alice(), &request), Code::ConfigConflict);
        assert!(told.contains(key) && told.contains("apply_deadline"), "{told}");
    }
    let mut request = applied("prod", &[("env", "prod")]);
    request.policy.start_within = Duration::ZERO;
    refused(apply(&world.state, &alice(), &request), Code::ConfigValue);
}

#[test]
fn the_selector_stands_while_a_rollout_is_active_and_the_policy_does_not() {
    let mut world = World::prod();
    world.start(&to("v2")).expect("started");
    let told = refused(apply(&world.state, &alice(), &applied("prod", &[])), Code::Conflict);
    assert!(told.contains("rollout 1 by alice"), "{told}");
    let mut request = applied("prod", &[("env", "prod")]);
    request.policy.batch = Share::Percent(50);
    let decided = apply(&world.state, &alice(), &request).expect("applied");
    world.commit(decided);
    assert_eq!(world.active().policy.batch, Share::Percent(33), "pinned");
}

#[test]
fn a_host_belongs_to_a_bounded_number_of_environments() {
    let mut world = World::prod();
    for number in 1..16 {
        world.environment(&format!("more-{number}"), &[("env", "prod")]);
    }
    refused(apply(&world.state, &alice(), &applied("too-many", &[])), Code::Limit);
}

#[test]
fn lists_go_on_where_the_page_ended() {
    let mut world = World::prod();
    world.environment("staging", &[("env", "staging")]);
    world.environment("test", &[("env", "test")]);
    let mut page = Page { size: 2, token: None };
    let first = list(&world.state, &page).expect("a page");
    assert_eq!(first.items.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["prod", "staging"]);
    page.token = first.next;
    let last = list(&world.state, &page).expect("a page");
    assert_eq!((last.items.len(), last.next), (1, None));
    page.token = Some("../".to_owned());
    refused(list(&world.state, &page), Code::Field);
    let told = refused(get(&world.state, &name("prdo")), Code::EnvironmentUnknown);
    assert!(told.contains("did you mean \"prod\"? known: prod, staging, test"), "{told}");
}

#[test]
fn gates_that_could_never_open_are_refused() {
    let world = World::prod();
    let with = |before, condition| {
        let mut request = applied("test", &[("env", "prod")]);
        request.policy.gates = vec![Gate { name: name("g"), before, condition, within: None }];
        apply(&world.state, &alice(), &request)
    };
    refused(with(Before::OneBox, Condition::Evidence { passes: 1 }), Code::ConfigConflict);
    with(Before::FirstWave, Condition::Evidence { passes: 1 }).expect("there is the one box");
    let window = |zone: &str| {
        Condition::Window(Window { time_zone: zone.to_owned(), days: Days::EVERY, from: 0, until: 60 })
    };
    refused(with(Before::End, window("Europe/Berlyn")), Code::ConfigValue);
    with(Before::End, window("Europe/Berlin")).expect("a place");
}
