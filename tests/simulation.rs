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
mod script;
mod scripted;
mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::num::NonZero;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use planted::Planted;
use world::{Outcome, Setting, run};

/// Seeds of every failure that was ever found.
const CORPUS: &str = include_str!("simulation/seeds.txt");
/// Seeds of one test run. With the planted bugs about three minutes on one busy core.
const SEEDS: u64 = 120;
/// Seeds that a planted bug may hide in.
const PLANTED_SEEDS: u64 = 40;

fn name<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn corpus() -> impl Iterator<Item = u64> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(' ').next().and_then(|seed| seed.parse().ok()).expect("a seed"))
}

/// What did not hold, and the command that shows it again.
fn failure(seed: u64, outcome: &Outcome) -> Option<String> {
    let violation = outcome.violation.as_ref()?;
    Some(format!(
        "seed {seed}, after {} events: {}: {}\n  HOUSTON_SEED={seed} cargo test --profile trial -p houston-tests \
         -- simulation::replay --nocapture",
        outcome.events, violation.law, violation.detail
    ))
}

/// One seed, with all that happens in it. Without `HOUSTON_SEED` a short look at the first.
#[test]
fn replay() {
    let seed = number("HOUSTON_SEED");
    let setting = Setting { is_shown: seed.is_some(), ..Setting::default() };
    let outcome = run(seed.unwrap_or(1), setting);
    if let Some(failure) = failure(seed.unwrap_or(1), &outcome) {
        panic!("{failure}");
    }
}

/// What runs of many seeds came to.
#[derive(Debug, Default)]
struct Tally {
    seeds: u64,
    events: u64,
    simulated_ms: u64,
    failures: Vec<String>,
    faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, seed: u64, outcome: Outcome) {
        if let Some(failure) = failure(seed, &outcome) {
            println!("{failure}");
            self.failures.push(failure);
        }
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated_ms += outcome.simulated_ms;
        for (fault, count) in outcome.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

/// Runs seeds on every core. Each is a world of its own, so their order matters to nobody.
fn run_all(seeds: &[u64]) -> Tally {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Relaxed)) {
                    let outcome = run(*seed, Setting::default());
                    tally.lock().expect("no worker panics while it counts").count(*seed, outcome);
                }
            });
        }
    });
    tally.into_inner().expect("no worker panics while it counts")
}

/// The corpus, then new seeds: `HOUSTON_SEEDS=n` for a soak.
#[test]
fn every_law_holds_whatever_goes_wrong() {
    let started = Instant::now();
    let first = number("HOUSTON_FIRST_SEED").unwrap_or(1_000);
    let seeds: Vec<u64> = corpus().chain(first..first + number("HOUSTON_SEEDS").unwrap_or(SEEDS)).collect();
    let Tally { seeds, events, simulated_ms, failures, faults } = run_all(&seeds);
    println!(
        "{seeds} seeds, {events} events, {} simulated hours, {:?}; faults: {faults:?}",
        simulated_ms / 3_600_000,
        started.elapsed()
    );
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    assert!(faults.len() >= 12, "some kinds of faults never happened: {faults:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=3 {
        let once = run(seed, Setting::default());
        assert_eq!(once.trace, run(seed, Setting::default()).trace, "E30 deterministic: seed {seed}");
    }
}

#[test]
fn wall_clocks_of_hosts_change_nothing() {
    for seed in 1..=3 {
        let setting = Setting { walls_differ: true, ..Setting::default() };
        let (one, other) = (run(seed, Setting::default()), run(seed, setting));
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
    let setting = Setting { planted: Some(planted), ..Setting::default() };
    let mut others = Vec::new();
    for seed in 1..=number("HOUSTON_SEEDS").unwrap_or(PLANTED_SEEDS) {
        let Outcome { violation, events, trace, .. } = run(seed, setting);
        if planted == Planted::HashOrder && trace != run(seed, setting).trace {
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
    let mut missed = Vec::new();
    let only = std::env::var("HOUSTON_PLANTED").ok();
    for planted in Planted::ALL {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|name| name == format!("{planted:?}"))) {
            continue;
        }
        match find(*planted) {
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
