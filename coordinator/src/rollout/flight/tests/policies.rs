//! Flights under gates, holds, retries and other pacings: what the planner does by itself is seen here.

use houston_common::policy::gate::{Before, Condition, Gate};
use houston_common::policy::{Pacing, Policy, Share};
use houston_common::rollout::{Exception, RolloutState, WaitingOn};

use super::*;

fn gate(gate: &str, before: Before, condition: Condition) -> Gate {
    Gate { name: name(gate), before, condition, within: None }
}

#[test]
fn time_opens_its_gates_and_the_others_are_assumed_open_by_name() {
    let frozen = Condition::Freeze { from: WallTime(0), until: WallTime(10_000_000) };
    let gates = vec![
        gate("board", Before::OneBox, Condition::Approval { by_another: true }),
        gate("holidays", Before::FirstWave, frozen),
        gate("proof", Before::EachWave, Condition::Evidence { passes: 5 }),
    ];
    let ungated = Fleet::nine(policy()).flown();
    let flown = Fleet::nine(Policy { gates, ..policy() }).flown();
    assert_eq!(
        (flown.state, flown.assumed_open),
        (RolloutState::Succeeded, vec![name("board"), name("proof")])
    );
    // The one box has baked after 700 s; the freeze ends after 10,000.
    let waited = flown.waves[0].waits.iter().find(|wait| matches!(wait.waiting, WaitingOn::Gate { .. }));
    assert_eq!(waited.map(|wait| wait.lasts), Some(s(9300)), "{:?}", flown.waves[0]);
    assert_eq!((flown.waves[1].begins, flown.lasts), (s(10_000), ungated.lasts + s(9300)));
    assert_eq!((ungated.assumed_open.len(), flown.waves.len()), (0, ungated.waves.len()));
}

#[test]
fn a_freeze_that_is_over_or_to_come_holds_nothing_up() {
    let at = |from: u64, until: u64| Condition::Freeze { from: WallTime(from), until: WallTime(until) };
    let gates = vec![
        gate("over", Before::FirstWave, at(0, 600_000)),
        gate("later", Before::End, at(9_000_000, 9_900_000)),
    ];
    assert_eq!(Fleet::nine(Policy { gates, ..policy() }).flown().lasts, Fleet::nine(policy()).flown().lasts);
}

#[test]
fn a_hold_that_ends_on_the_way_ends_there() {
    let mut fleet = Fleet::nine(policy());
    let hold = |until| Hold::Operator { name: name("ann"), reason: "a disk".to_owned(), until: Some(until) };
    fleet.record("c2", |host| host.held = Some(hold(NOW.plus(s(1000)))));
    fleet.record("b2", |host| host.held = Some(hold(NOW.plus(s(100_000)))));
    let flown = fleet.flown();
    assert_eq!(flown.left_out, [(name("b2"), Exception::Held)], "{flown:?}");
    assert_eq!(flown.waves[3].hosts, 3, "c2 is free before its zone's turn");
}

#[test]
fn several_zones_at_once_and_stripes_are_waves_of_their_own() {
    let two = Fleet::nine(Policy { zones_at_once: 2, ..policy() }).flown();
    let words: Vec<_> = two.waves.iter().map(|wave| (in_words(wave).0, wave.hosts)).collect();
    assert_eq!(words, [("one box".to_owned(), 1), ("a, b".to_owned(), 5), ("c".to_owned(), 3)]);
    let striped = Fleet::nine(Policy { pacing: Pacing::Striped, ..policy() }).flown();
    let words: Vec<_> = striped.waves.iter().map(|wave| (in_words(wave).0, wave.hosts)).collect();
    assert_eq!(words.iter().map(|(_, hosts)| hosts).sum::<u32>(), 9);
    assert_eq!(words[..2], [("one box".to_owned(), 1), ("stripe 1".to_owned(), 3)], "{words:?}");
    assert_eq!((two.state, striped.state), (RolloutState::Succeeded, RolloutState::Succeeded));
}

#[test]
fn a_host_that_is_tried_again_meets_the_failure_once() {
    let policy =
        Policy { retries: 2, failure_budget: Share::Hosts(9), lost_budget: Share::Hosts(9), ..policy() };
    let failed = Fleet::of(&[("a", 3)], policy).what_if(Fault::AtOnce);
    assert!((1..=3).contains(&failed.hosts_met), "{failed:?}");
}
