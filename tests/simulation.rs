//! A fleet in one thread: the production coordinator and agents, a seeded scheduler between them, and
//! checkers that know more than both. docs/simulation.md says how to run, replay and soak.

mod agent;
mod checker;
mod coordinator;
mod faults;
mod herd;
mod machine;
mod network;
mod operator;
mod planted;
mod random;
mod reference;
mod runner;
mod script;
mod scripted;
mod setting;
mod shrink;
mod world;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use planted::Planted;
use setting::{LeftOut, Setting, Size, Telling};
use world::{Outcome, run};

/// Seeds of every failure that was ever found.
const CORPUS: &str = include_str!("simulation/seeds.txt");
/// Seeds of one test run, by size: about a minute of two cores together. CI runs more of them.
const SMALL_SEEDS: u64 = 500;
const MEDIUM_SEEDS: u64 = 16;
const LARGE_SEEDS: u64 = 1;
/// Seeds that a planted bug may hide in.
const PLANTED_SEEDS: u64 = 200;

fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

/// What a variable says, if it is set. What it cannot say fails the test.
fn variable<T: FromStr<Err: Display>>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}")))
}

fn corpus() -> impl Iterator<Item = u64> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(' ').next().and_then(|seed| seed.parse().ok()).expect("a seed"))
}

/// One seed, with all that happens in it. Without `HOUSTON_SEED` a short look at the first.
#[test]
fn replay() {
    let seed = variable("HOUSTON_SEED");
    let setting = Setting {
        size: variable("HOUSTON_SIZE").unwrap_or_default(),
        planted: variable("HOUSTON_PLANTED"),
        telling: if seed.is_some() { Telling::Print } else { Telling::Nothing },
        left_out: variable("HOUSTON_LEFT_OUT").unwrap_or_default(),
        ..Setting::default()
    };
    let outcome = run(seed.unwrap_or(1), &setting);
    if let Some(violation) = outcome.violation {
        panic!("{}", shrink::told(seed.unwrap_or(1), &setting, &violation));
    }
}

/// So many seeds as the variable says, or the constant.
fn seeds(count: &str, otherwise: u64) -> impl Iterator<Item = u64> {
    let first = variable("HOUSTON_FIRST_SEED").unwrap_or(1_000);
    first..first + variable(count).unwrap_or(otherwise)
}

/// The corpus, then new seeds: `HOUSTON_SEEDS=n` for a soak.
#[test]
fn every_law_holds_in_small_fleets() {
    let seeds: Vec<u64> = corpus().chain(seeds("HOUSTON_SEEDS", SMALL_SEEDS)).collect();
    let faults = runner::laws_hold(Size::Small, &seeds);
    assert!(faults.len() >= 12, "some kinds of faults never happened: {faults:?}");
}

#[test]
fn every_law_holds_in_medium_fleets() {
    let seeds: Vec<u64> = seeds("HOUSTON_MEDIUM_SEEDS", MEDIUM_SEEDS).collect();
    runner::laws_hold(Size::Medium, &seeds);
}

#[test]
fn every_law_holds_in_large_fleets() {
    let seeds: Vec<u64> = seeds("HOUSTON_LARGE_SEEDS", LARGE_SEEDS).collect();
    runner::laws_hold(Size::Large, &seeds);
}

fn traced() -> Setting {
    Setting { telling: Telling::Trace, ..Setting::default() }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=3 {
        let once = run(seed, &traced());
        assert_eq!(once.trace, run(seed, &traced()).trace, "E30 deterministic: seed {seed}");
        assert_ne!(once.trace, run(seed + 1, &traced()).trace, "two seeds are two runs");
    }
}

#[test]
fn wall_clocks_of_hosts_change_nothing() {
    for seed in 1..=3 {
        let (one, other) = (run(seed, &traced()), run(seed, &Setting { walls_differ: true, ..traced() }));
        assert_eq!(one.trace, other.trace, "E29 host clocks do not matter: seed {seed}");
    }
}

/// Where a planted bug was found.
struct Found {
    law: &'static str,
    seed: u64,
    events: u64,
}

/// The first seed in which a law that is the bug's own finds it; else the laws that others broke.
fn find(planted: Planted) -> Result<Found, Vec<String>> {
    // Only what nobody's law finds in one run needs two.
    let telling = if planted == Planted::HashOrder { Telling::Trace } else { Telling::Nothing };
    let setting = Setting { planted: Some(planted), telling, ..Setting::default() };
    let mut others = Vec::new();
    for seed in 1..=variable("HOUSTON_SEEDS").unwrap_or(PLANTED_SEEDS) {
        let Outcome { violation, events, trace, .. } = run(seed, &setting);
        if planted == Planted::HashOrder && trace != run(seed, &setting).trace {
            return Ok(Found { law: "E30 deterministic", seed, events });
        }
        let Some(violation) = violation else { continue };
        if planted.laws().iter().any(|law| violation.law.starts_with(law)) {
            return Ok(Found { law: violation.law, seed, events });
        }
        others.push(format!("{seed}: {}: {}", violation.law, violation.detail));
    }
    Err(others)
}

/// `HOUSTON_PLANTED=Name,…` for some of them, `HOUSTON_SEEDS=n` for another number of seeds.
#[test]
fn planted_bugs_are_caught() {
    let only: Option<String> = variable("HOUSTON_PLANTED");
    let is_chosen = |planted: &Planted| match &only {
        Some(names) => names.split(',').any(|name| name == format!("{planted:?}")),
        None => true,
    };
    let chosen: Vec<Planted> = Planted::ALL.iter().copied().filter(is_chosen).collect();
    let found = runner::on_every_core(&chosen, |planted| find(*planted));
    let mut missed = Vec::new();
    for (planted, found) in chosen.iter().zip(found) {
        match found {
            Ok(Found { law, seed, events }) => {
                println!(
                    "{:<20} caught by {law:<30} at seed {seed:>2}, after {events:>7} events",
                    format!("{planted:?}")
                );
            }
            Err(others) => {
                println!("{planted:?} not caught; {others:#?}");
                missed.push(planted);
            }
        }
    }
    assert!(missed.is_empty(), "not caught in {PLANTED_SEEDS} seeds: {missed:?}");
}

/// What is shrunk breaks the same law with less, and the command that it prints says all of it.
#[test]
fn a_failing_run_is_made_smaller() {
    for planted in [Planted::GrantOverBudget, Planted::FloorInMemory] {
        let setting = Setting { planted: Some(planted), ..Setting::default() };
        let failing = (1..=PLANTED_SEEDS).map(|seed| (seed, run(seed, &setting)));
        let (seed, failed) = failing
            .into_iter()
            .find(|(_, outcome)| outcome.violation.is_some() && outcome.injections.len() > 10)
            .expect("a seed that fails after some faults");
        let shrunk = shrink::shrink(seed, &setting, &failed);
        println!("{shrunk}");
        let left_out: LeftOut = shrunk.setting.left_out.to_string().parse().expect("as it is printed");
        let kept = shrunk.kept().len();
        assert!(
            kept < failed.injections.len(),
            "{planted:?}: {kept} of {} are left",
            failed.injections.len()
        );
        let replayed = run(seed, &Setting { left_out, ..setting });
        let law = failed.violation.map(|violation| violation.law);
        assert_eq!(replayed.violation.map(|violation| violation.law), law, "{planted:?}: another law broke");
        assert!(!shrunk.outcome.lines.is_empty(), "there is nothing to read");
    }
}
