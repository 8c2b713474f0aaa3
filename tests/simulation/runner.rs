//! Runs many seeds on every core, and says what they came to.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use super::setting::{Setting, Size};
use super::shrink;
use super::world::{Outcome, run};

/// One test at a time has all the cores: more threads than cores would only make each slower.
static CORES: Mutex<()> = Mutex::new(());

/// Does the jobs on every core. Each is a world of its own, so their order matters to nobody; what they
/// came to is in their order.
pub(super) fn on_every_core<J: Sync, R: Send>(jobs: &[J], act: impl Fn(&J) -> R + Sync) -> Vec<R> {
    // A test that has failed leaves nothing behind here.
    let _turn = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let work = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Relaxed);
            let Some(job) = jobs.get(index) else { return results };
            results.push((index, act(job)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker came to its end")).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What runs of many seeds came to.
#[derive(Debug, Default)]
struct Tally {
    seeds: u64,
    events: u64,
    simulated_ms: u64,
    cpu: Duration,
    faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, (outcome, cpu): (Outcome, Duration)) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated_ms += outcome.simulated_ms;
        self.cpu += cpu;
        for (fault, count) in outcome.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

/// Processor time of this thread so far.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread may ask what it used");
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds() as u64)
}

/// Failures that are made smaller. Where there are more, they are mostly the same.
const SHRUNK_MAX: usize = 3;

/// Runs the seeds, prints what they came to, and fails with every failure that there was.
pub(super) fn laws_hold(size: Size, seeds: &[u64]) -> BTreeMap<&'static str, u64> {
    // Its turn begins with the first seed.
    let (started, failed) = (OnceLock::new(), AtomicUsize::new(0));
    let setting = Setting { size, ..Setting::default() };
    let results = on_every_core(seeds, |seed| {
        started.get_or_init(Instant::now);
        let before = cpu_time();
        let outcome = run(*seed, &setting);
        let cpu = cpu_time().saturating_sub(before);
        let failure = outcome.violation.as_ref().map(|violation| {
            let failure = if failed.fetch_add(1, Relaxed) < SHRUNK_MAX {
                shrink::shrink(*seed, &setting, &outcome).to_string()
            } else {
                shrink::told(*seed, &setting, violation)
            };
            println!("{failure}");
            failure
        });
        (outcome, cpu, failure)
    });
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for (outcome, cpu, failure) in results {
        tally.count((outcome, cpu));
        failures.extend(failure);
    }
    let Tally { seeds, events, simulated_ms, cpu, faults } = tally;
    let elapsed = started.get().map_or(0.0, |started| started.elapsed().as_secs_f64());
    println!(
        "{}: {seeds} seeds, {events} events, {:.1} simulated hours, {elapsed:.0} s, {:.1} seeds/s, {:.3} CPU s \
         a seed; faults: {faults:?}",
        size.name(),
        simulated_ms as f64 / 3_600_000.0,
        seeds as f64 / elapsed.max(f64::EPSILON),
        cpu.as_secs_f64() / seeds.max(1) as f64,
    );
    assert!(failures.is_empty(), "{} of {seeds} seeds failed:\n{}", failures.len(), failures.join("\n"));
    faults
}
