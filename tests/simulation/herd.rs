//! L9: ten thousand agents, each with the production pace between its check-ins, and a coordinator that
//! goes away and comes back. However long that takes and however it looks to the hosts, the calls of any
//! second stay within twice those of calm.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use houston_agent::sync::pace::{HOLD_DEFAULT, Outcome, Pace};

use super::random::Random;

const AGENTS: usize = 10_000;
const HOLD_MS: u64 = HOLD_DEFAULT.as_millis() as u64;
/// An agent gives a call up so long after the hold that it asked for.
const GIVEN_UP_AFTER_MS: u64 = HOLD_MS + 15_000;
const OUTAGE_BEGINS: u64 = 4 * HOLD_MS;

/// How an outage looks to the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// Connections break, and new ones are refused at once.
    Refused,
    /// Calls go out, and nothing comes back: they hang until they are given up.
    Silent,
    /// A coordinator that is overwhelmed says when to come back.
    Busy,
}

/// How long an agent waits, in the production and in planted ways.
type Wait = fn(&mut Pace, Outcome, &mut Random) -> u64;

fn by_pace(pace: &mut Pace, outcome: Outcome, random: &mut Random) -> u64 {
    pace.after(outcome, random.next()).wait.as_millis() as u64
}

fn fixed(_: &mut Pace, outcome: Outcome, _: &mut Random) -> u64 {
    if matches!(outcome, Outcome::Failed { .. }) { 5_000 } else { 0 }
}

fn without_jitter(_: &mut Pace, outcome: Outcome, _: &mut Random) -> u64 {
    if matches!(outcome, Outcome::Failed { .. }) { HOLD_MS } else { 0 }
}

/// What a call that begins now comes to, and when.
fn call(outage: Outage, from: u64, until: u64, now: u64) -> (u64, Outcome) {
    let failed = Outcome::Failed { retry_after: None };
    let answered = Outcome::Answered { retry_after: Duration::ZERO, is_repeated: false };
    let is_out = (from..until).contains(&now);
    let is_cut = now < from && now + HOLD_MS > from;
    match outage {
        Outage::Refused if is_out => (now, failed),
        // A held call breaks with all the others.
        Outage::Refused if is_cut => (from, failed),
        Outage::Silent if is_out || is_cut => (now + GIVEN_UP_AFTER_MS, failed),
        Outage::Busy if is_out => (now, Outcome::Failed { retry_after: Some(HOLD_DEFAULT) }),
        Outage::Refused | Outage::Silent | Outage::Busy => (now + HOLD_MS, answered),
    }
}

/// The most calls in any second from the beginning of an outage until calm.
fn most_calls_per_second(outage: Outage, ms: u64, wait: Wait) -> usize {
    let mut random = Random::new(ms);
    let (from, until) = (OUTAGE_BEGINS, OUTAGE_BEGINS + ms);
    let mut paces = vec![Pace::default(); AGENTS];
    let mut next: BinaryHeap<_> = (0..AGENTS).map(|agent| Reverse((random.below(HOLD_MS), agent))).collect();
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    while let Some(Reverse((now, agent))) = next.pop()
        && now < until + 5 * HOLD_MS
    {
        if now >= from {
            *seconds.entry((now - from) / 1000).or_default() += 1;
        }
        let (ends, outcome) = call(outage, from, until, now);
        next.push(Reverse((ends + wait(&mut paces[agent], outcome, &mut random), agent)));
    }
    seconds.into_values().max().expect("calls")
}

const LIMIT: usize = 2 * AGENTS / HOLD_DEFAULT.as_secs() as usize;
const OUTAGES: [Outage; 3] = [Outage::Refused, Outage::Silent, Outage::Busy];
const LENGTHS_MS: [u64; 6] = [1, 700, 8_000, 29_000, 61_000, 1_800_000];

#[test]
fn no_outage_ends_in_a_herd() {
    for outage in OUTAGES {
        for ms in LENGTHS_MS {
            let most = most_calls_per_second(outage, ms, by_pace);
            assert!(
                most <= LIMIT,
                "L9 no herd: {most} calls in a second, {outage:?} for {ms} ms, {LIMIT} allowed"
            );
        }
    }
}

#[test]
fn planted_herds_are_caught() {
    for wait in [fixed as Wait, without_jitter] {
        let outages = OUTAGES.into_iter().flat_map(|outage| LENGTHS_MS.map(|ms| (outage, ms)));
        let worst = outages.map(|(outage, ms)| most_calls_per_second(outage, ms, wait)).max();
        assert!(worst > Some(LIMIT), "L9 no herd: {worst:?} calls in a second, and {LIMIT} are allowed");
    }
}
