use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use houston_common::assignment::Order;
use houston_common::id::Generation;
use houston_common::package::HookPhase;
use houston_common::report::HealthReport;
use proptest::prelude::*;

use super::world::{Crash, FakeHost, World};
use super::*;
use crate::apply::boot_time::BootId;
use crate::apply::machine::At;
use crate::apply::machine::samples::{
    HOOKS, NEW, NEWER, OLD, TERMS, assignment, at, content, deployment, laid_out,
};
use crate::apply::steps::Change;

/// A step takes so long.
const STEP: Duration = Duration::from_millis(10);
/// Steps after which something that should end has not.
const STEPS_MAX: u32 = 2_000;

/// A host with a coordinator that wants one thing of it.
struct Bench {
    world: Rc<RefCell<World>>,
    now: Cell<BootTime>,
    generation: Cell<u64>,
}

impl Bench {
    /// A host that runs `release`, in order.
    fn running(release: &str) -> Self {
        let bench = Self { world: Rc::default(), now: Cell::new(at(1)), generation: Cell::new(0) };
        if !release.is_empty() {
            let driver = bench.until_ended(release, "", false);
            assert_eq!(driver.state().phase(), Phase::Settled, "{:?}", driver.state().report());
        }
        let mut world = bench.world.borrow_mut();
        (world.log, world.switches, world.hooks) = Default::default();
        world.points = 0;
        drop(world);
        bench
    }

    fn load(&self) -> Driver<FakeHost> {
        let environment = "prod".parse().expect("environment");
        Driver::load(environment, FakeHost(Rc::clone(&self.world))).expect("loaded")
    }

    fn assignment(&self, release: &str, way_back: &str) -> Assignment {
        assignment(self.generation.get(), Order::Activate(TERMS), release, way_back)
    }

    fn pass(&self, time: Duration) {
        self.now.set(self.now.get().plus(time));
    }

    /// Probes and steps once.
    fn turn(&self, driver: &mut Driver<FakeHost>) -> Wait {
        for run in driver.probes(self.now.get()) {
            let result = self.world.borrow().probe(&run);
            driver.observe(run.id, result, self.now.get());
        }
        let wait = driver.step(self.now.get(), true);
        self.pass(STEP);
        if let Wait::Until(until) = wait {
            self.now.set(self.now.get().latest(until));
        }
        wait
    }

    fn turn_until(&self, driver: &mut Driver<FakeHost>, is_done: impl Fn(&Driver<FakeHost>, Wait) -> bool) {
        for _ in 0..STEPS_MAX {
            let wait = self.turn(driver);
            if is_done(driver, wait) {
                return;
            }
        }
        panic!("it does not come to that: {:?}", driver.state());
    }

    /// Lets the host do what it is told, started again after every crash.
    fn until_ended(&self, release: &str, way_back: &str, reboots: bool) -> Driver<FakeHost> {
        self.generation.set(self.generation.get() + 1);
        loop {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let mut driver = self.load();
                self.converge(&mut driver, release, way_back);
                driver
            }));
            match ended {
                Ok(driver) => return driver,
                Err(payload) if payload.is::<Crash>() => {
                    self.world.borrow_mut().crash_at = None;
                    self.pass(Duration::from_secs(1));
                    if reboots {
                        // Nothing but the agent starts anything here.
                        self.world.borrow_mut().services.clear();
                        let boot = BootId(self.now.get().boot.0 + 1);
                        self.now.set(BootTime { boot, ms: 3_000 });
                    }
                }
                Err(payload) => resume_unwind(payload),
            }
        }
    }

    /// Check-ins and turns until the activation has ended and that is told.
    fn converge(&self, driver: &mut Driver<FakeHost>, release: &str, way_back: &str) {
        for _ in 0..STEPS_MAX {
            let now = self.now.get();
            let report = driver.report(now);
            driver.reported(report.phase, now);
            if matches!(driver.state().at, At::Ready { is_void: true, .. }) {
                self.generation.set(self.generation.get() + 1);
            }
            driver.assign(self.assignment(release, way_back), now, now).expect("taken");
            self.turn(driver);
            match &driver.state().at {
                At::Ended(ended) if ended.is_collected && ended.is_told => {
                    let stamp = driver.state().stamp.expect("stamp");
                    if stamp.generation == Generation(self.generation.get()) {
                        return;
                    }
                }
                At::Idle { failure: Some(_) } => return,
                _ => {}
            }
        }
        panic!("it does not end: {:?}", driver.state());
    }
}

struct Scenario {
    from: &'static str,
    to: &'static str,
    way_back: &'static str,
    /// Packages whose services are sick, and hooks that fail.
    sick: &'static [&'static str],
    failing: &'static [(&'static str, HookPhase)],
    ends: Phase,
    runs: &'static str,
}

const PLAIN: Scenario =
    Scenario { from: OLD, to: NEW, way_back: OLD, sick: &[], failing: &[], ends: Phase::Settled, runs: NEW };

const SCENARIOS: &[Scenario] = &[
    PLAIN,
    Scenario { from: "", way_back: "", ..PLAIN },
    Scenario { to: "", runs: "", ..PLAIN },
    Scenario {
        from: "web 1, db 1, proxy 1",
        to: "conf 1, web 2, proxy 1",
        runs: "conf 1, web 2, proxy 1",
        ..PLAIN
    },
    Scenario { failing: &[("web 1", HookPhase::Drain), ("web 1", HookPhase::Stop)], ..PLAIN },
    Scenario { failing: &[("web 2", HookPhase::Cleanup)], ..PLAIN },
    Scenario { sick: &["web 2"], ends: Phase::Reverted, runs: OLD, ..PLAIN },
    Scenario { failing: &[("web 2", HookPhase::Start)], ends: Phase::Reverted, runs: OLD, ..PLAIN },
    Scenario { failing: &[("web 2", HookPhase::Resume)], ends: Phase::Reverted, runs: OLD, ..PLAIN },
    Scenario { from: "", way_back: "", sick: &["web 2"], ends: Phase::Reverted, runs: "", ..PLAIN },
    Scenario { from: NEWER, sick: &["web 2"], ends: Phase::Reverted, runs: OLD, ..PLAIN },
    Scenario { failing: &[("web 2", HookPhase::Check)], ends: Phase::Idle, runs: OLD, ..PLAIN },
];

fn tree(package: &str) -> houston_common::digest::TreeDigest {
    laid_out(&content(package)).packages[0].tree
}

fn bench(scenario: &Scenario) -> Bench {
    let bench = Bench::running(scenario.from);
    let mut world = bench.world.borrow_mut();
    world.sick = scenario.sick.iter().map(|package| tree(package)).collect();
    world.failing_hooks = scenario.failing.iter().map(|(package, phase)| (tree(package), *phase)).collect();
    drop(world);
    bench
}

fn run(scenario: &Scenario, crash_at: Option<usize>, reboots: bool) -> (Bench, Phase) {
    let bench = bench(scenario);
    bench.world.borrow_mut().crash_at = crash_at;
    let driver = bench.until_ended(scenario.to, scenario.way_back, reboots);
    let phase = driver.state().phase();
    assert_eq!(driver.report(bench.now.get()).running, bench.world.borrow().current, "measured");
    (bench, phase)
}

fn links(list: &[&str]) -> Vec<Option<ReleaseDigest>> {
    list.iter().map(|release| deployment(release).link()).collect()
}

#[test]
fn any_crash_ends_as_no_crash_does() {
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let (bench, phase) = run(scenario, None, false);
        assert_eq!(phase, scenario.ends, "scenario {number}");
        let points = bench.world.borrow().points;
        assert!(points > 20, "scenario {number} has {points} points to crash at");
        for (point, reboots) in (0..points).flat_map(|point| [(point, false), (point, true)]) {
            let (bench, phase) = run(scenario, Some(point), reboots);
            let world = bench.world.borrow();
            let what = format!("scenario {number}, crash at {point}, reboot {reboots}: {:#?}", world.log);
            assert_eq!(phase, scenario.ends, "{what}");
            assert!(world.runs_exactly(&deployment(scenario.runs)), "{:?} {what}", world.services);
            let mut expected = links(&[scenario.to, scenario.way_back]);
            if scenario.ends != Phase::Reverted {
                expected.truncate(usize::from(scenario.ends == Phase::Settled));
            }
            assert_eq!(world.switches, expected, "{what}");
        }
    }
}

#[test]
fn what_is_the_same_is_never_disturbed() {
    for scenario in
        SCENARIOS.iter().filter(|scenario| scenario.from.contains("db 1") && scenario.to.contains("db 1"))
    {
        let (bench, _) = run(scenario, None, false);
        let world = bench.world.borrow();
        assert!(world.log.iter().all(|line| !line.contains("db/")), "{:#?}", world.log);
    }
}

#[test]
fn an_activation_does_its_steps_in_order() {
    let (bench, _) = run(&PLAIN, None, false);
    let switch = format!("switch {}", deployment(NEW).release.short());
    assert_eq!(
        bench.world.borrow().log,
        [
            "Check web 2",
            "Drain web 1",
            "- web/back",
            "- web/front",
            "Stop web 1",
            &switch,
            "Start web 2",
            "+ web/front 2",
            "+ web/back 2",
            "Resume web 2",
            "Cleanup web 2",
        ]
    );
    let failing = Scenario { sick: &["web 2"], ..PLAIN };
    let (bench, _) = run(&failing, None, false);
    let back = format!("switch {}", deployment(OLD).release.short());
    assert_eq!(
        bench.world.borrow().log[9..],
        [
            "Drain web 2",
            "- web/back",
            "- web/front",
            "Stop web 2",
            &back,
            "Start web 1",
            "+ web/front 1",
            "+ web/back 1",
            "Resume web 1",
            "Cleanup web 1",
        ]
    );
}

#[test]
fn a_hook_that_must_not_run_twice_does_not_at_any_crash() {
    let once = Scenario { from: "once 1", to: "once 2", way_back: "once 1", runs: "once 2", ..PLAIN };
    let points = run(&once, None, false).0.world.borrow().points;
    let mut ends = std::collections::BTreeSet::new();
    for (point, reboots) in (0..points).flat_map(|point| [(point, false), (point, true)]) {
        let (bench, phase) = run(&once, Some(point), reboots);
        let world = bench.world.borrow();
        let what = format!("crash at {point}, reboot {reboots}: {:#?}", world.log);
        assert!(world.hooks.values().all(|count| *count == 1), "{what}");
        let runs = if phase == Phase::Settled { "once 2" } else { "once 1" };
        assert!(world.runs_exactly(&deployment(runs)), "{what}");
        ends.insert(phase.as_str());
    }
    assert_eq!(Vec::from_iter(ends), ["idle", "reverted", "settled"]);
    assert_eq!(HOOKS.len(), 6);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_crashes_end_as_none_does(scenario in 0..SCENARIOS.len(), gaps in prop::collection::vec(0..60_usize, 1..6), reboots: bool) {
        let scenario = &SCENARIOS[scenario];
        let bench = bench(scenario);
        bench.generation.set(bench.generation.get() + 1);
        let mut gaps = gaps.into_iter();
        loop {
            let mut world = bench.world.borrow_mut();
            world.crash_at = gaps.next().map(|gap| world.points + gap);
            drop(world);
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let mut driver = bench.load();
                bench.converge(&mut driver, scenario.to, scenario.way_back);
                driver.state().phase()
            }));
            match ended {
                Ok(phase) => {
                    assert_eq!(phase, scenario.ends);
                    break;
                }
                Err(payload) if payload.is::<Crash>() && reboots => {
                    bench.world.borrow_mut().services.clear();
                    bench.now.set(BootTime { boot: BootId(bench.now.get().boot.0 + 1), ms: 3_000 });
                }
                Err(payload) if payload.is::<Crash>() => {}
                Err(payload) => resume_unwind(payload),
            }
        }
        assert!(bench.world.borrow().runs_exactly(&deployment(scenario.runs)));
    }
}

#[test]
fn without_the_coordinator_what_runs_is_started_after_a_boot_and_no_hook_runs() {
    let bench = Bench::running(OLD);
    bench.world.borrow_mut().services.clear();
    bench.now.set(BootTime { boot: BootId(9), ms: 1 });
    let mut driver = bench.load();
    bench.turn_until(&mut driver, |_, wait| wait != Wait::No);
    let world = bench.world.borrow();
    assert!(world.runs_exactly(&deployment(OLD)));
    assert!(world.hooks.is_empty(), "{:?}", world.hooks);
}

#[test]
fn a_damaged_journal_is_rebuilt_from_the_disk_and_the_same_grant_does_not_act_again() {
    let bench = Bench::running(OLD);
    bench.world.borrow_mut().records.insert(Record::Journal, b"\0\0\0".to_vec());
    let mut driver = bench.load();
    bench.turn_until(&mut driver, |_, wait| wait != Wait::No);
    let report = driver.report(bench.now.get());
    assert_eq!(report.failure.map(|failure| failure.code), Some(Code::JournalDamaged));
    assert_eq!((report.phase, report.running), (Phase::Idle, deployment(OLD).link()));
    assert_eq!(report.stamp.map(|stamp| stamp.generation), Some(Generation(1)), "from the floor");
    assert_eq!(bench.world.borrow().set_aside, [Record::Journal]);
    let now = bench.now.get();
    driver.assign(bench.assignment(OLD, ""), now, now).expect("no change");
    assert_eq!(driver.state().phase(), Phase::Idle);
    let lower = assignment(0, Order::Activate(TERMS), NEW, OLD);
    assert!(matches!(driver.assign(lower, now, now), Err(NotTaken::Refused(_))));
    drop(driver);
    // Nothing is left alone by what comes next: what runs is not known to run as a whole.
    let driver = bench.until_ended(NEW, OLD, false);
    assert_eq!(driver.state().phase(), Phase::Settled);
    let world = bench.world.borrow();
    assert!(
        world.runs_exactly(&deployment(NEW)) && world.log.contains(&"- db/main".to_owned()),
        "{:?}",
        world.log
    );
}

#[test]
fn with_both_records_damaged_it_still_starts_and_takes_what_comes() {
    let bench = Bench::running(OLD);
    for record in Record::ALL {
        bench.world.borrow_mut().records.insert(record, b"houston-journal 1 x\n{}".to_vec());
    }
    let mut driver = bench.load();
    assert_eq!(driver.report(bench.now.get()).stamp, None);
    bench.turn_until(&mut driver, |_, wait| wait != Wait::No);
    drop(driver);
    assert_eq!(bench.until_ended(NEW, OLD, false).state().phase(), Phase::Settled);
}

#[test]
fn a_record_of_a_newer_agent_is_left_as_it_is() {
    let bench = Bench::running(OLD);
    let hash = {
        let mut hasher = houston_common::digest::Hasher::default();
        hasher.update(b"houston-journal 2\n?");
        hasher.finish()
    };
    let newer = format!("houston-journal 2 {hash}\n?").into_bytes();
    bench.world.borrow_mut().records.insert(Record::Journal, newer.clone());
    let environment = "prod".parse().expect("environment");
    let refusal =
        Driver::load(environment, FakeHost(Rc::clone(&bench.world))).map(drop).expect_err("refused");
    assert_eq!(refusal.code, Code::StateNewer);
    assert_eq!(bench.world.borrow().records[&Record::Journal], newer);
}

#[test]
fn nothing_is_done_that_cannot_be_journaled() {
    let bench = Bench::running(OLD);
    let mut driver = bench.load();
    bench.turn_until(&mut driver, |_, wait| wait != Wait::No);
    let now = bench.now.get();
    bench.generation.set(2);
    driver.assign(bench.assignment(NEW, OLD), now, now).expect("taken");
    bench.turn_until(&mut driver, |driver, _| driver.state().is_activating());
    bench.turn(&mut driver);
    bench.world.borrow_mut().is_full = true;
    let done = bench.world.borrow().log.clone();
    for _ in 0..10 {
        assert!(matches!(bench.turn(&mut driver), Wait::Until(_)), "it tries again later");
    }
    assert_eq!(bench.world.borrow().log, done, "no further effect");
    let report = driver.report(bench.now.get());
    assert_eq!(report.failure.map(|failure| failure.code), Some(Code::DiskSpace));
    let refused = driver.assign(assignment(7, Order::Prepare, NEWER, OLD), now, now);
    assert!(matches!(refused, Err(NotTaken::Disk(_))), "{refused:?}");
    // The disk has room again: it goes on by itself.
    bench.world.borrow_mut().is_full = false;
    bench.converge(&mut driver, NEW, OLD);
    assert_eq!(driver.state().phase(), Phase::Settled);
    assert!(bench.world.borrow().runs_exactly(&deployment(NEW)));
}

#[test]
fn it_does_not_begin_while_another_environment_activates() {
    let bench = Bench::running(OLD);
    bench.generation.set(2);
    let mut driver = bench.load();
    let now = bench.now.get();
    driver.assign(bench.assignment(NEW, OLD), now, now).expect("taken");
    let begin_by = (0..STEPS_MAX).find_map(|_| match driver.step(bench.now.get(), false) {
        Wait::Until(until) => Some(until),
        Wait::No | Wait::Event => None,
    });
    let begin_by = begin_by.expect("it waits");
    assert_eq!(driver.state().action(), Action::Begin);
    assert!(now.plus(TERMS.start_within).has_reached(begin_by));
    let begin_by = now.plus(TERMS.start_within);
    driver.step(begin_by, true);
    assert!(matches!(driver.state().at, At::Ready { is_void: true, .. }), "the grant has run out");
    let world = bench.world.borrow();
    assert_eq!(world.log, ["Check web 2"]);
}

#[test]
fn a_slow_or_refused_fetch_is_gone_on_with_and_hears_what_is_newer() {
    let bench = Bench::running(OLD);
    bench.generation.set(2);
    (bench.world.borrow_mut().slices, bench.world.borrow_mut().busy) = (1_000_000, 0);
    let mut driver = bench.load();
    let now = bench.now.get();
    driver.assign(bench.assignment(NEW, OLD), now, now).expect("taken");
    for _ in 0..50 {
        assert_eq!(bench.turn(&mut driver), Wait::No);
        assert_eq!(driver.state().phase(), Phase::Fetching);
    }
    driver.assign(assignment(3, Order::Prepare, NEWER, OLD), now, now).expect("taken in between");
    assert_eq!(driver.state().stamp.map(|stamp| stamp.generation), Some(Generation(3)));
    (bench.world.borrow_mut().slices, bench.world.borrow_mut().busy) = (3, 7);
    drop(driver);
    bench.generation.set(3);
    assert_eq!(bench.until_ended(NEW, OLD, false).state().phase(), Phase::Settled);
}

#[test]
fn a_failure_of_health_brings_the_last_words_of_the_service() {
    let failing = Scenario { sick: &["web 2"], ..PLAIN };
    let bench = bench(&failing);
    let driver = bench.until_ended(NEW, OLD, false);
    let (_, failure) = driver.state().report();
    let failure = failure.expect("failure");
    assert_eq!((failure.code, failure.log_tail.as_str()), (Code::Unhealthy, "the last words\n"));
    assert!(failure.message.starts_with("web/"), "{}", failure.message);
}

#[test]
fn health_goes_on_after_the_end_and_is_only_reported() {
    let bench = Bench::running(OLD);
    let mut driver = bench.load();
    for _ in 0..50 {
        bench.turn(&mut driver);
    }
    assert!(matches!(driver.report(bench.now.get()).health, HealthReport::Healthy { .. }));
    bench.world.borrow_mut().sick.insert(tree("web 1"));
    for _ in 0..50 {
        bench.turn(&mut driver);
    }
    let report = driver.report(bench.now.get());
    assert!(matches!(report.health, HealthReport::Unhealthy { .. }), "{report:?}");
    assert_eq!(report.phase, Phase::Settled);
    assert!(bench.world.borrow().log.is_empty());
}

#[test]
fn hooks_and_stops_are_given_no_more_than_what_is_left() {
    let world: Rc<RefCell<World>> = Rc::default();
    let mut host = FakeHost(Rc::clone(&world));
    let mut given = |timeout: Option<Duration>, left: u64| {
        let mut web = laid_out(&content("web 1"));
        let hooks = Arc::make_mut(&mut web.packages[0]).file.hooks.values_mut();
        hooks.for_each(|hook| hook.timeout = timeout);
        let (from, to) = (vec![Arc::new(web)], Arc::new(Deployment::nothing()));
        for step in (Change { from, whole: true, stop_hooks: true, to }).stop() {
            perform_step(&mut host, &step, Duration::from_secs(left)).expect("done");
        }
        std::mem::take(&mut world.borrow_mut().given).iter().map(Duration::as_secs).collect::<Vec<_>>()
    };
    let minute = Some(Duration::from_secs(60));
    assert_eq!(given(minute, 3600), [60, 10, 10, 60]);
    assert_eq!(given(minute, 30), [30, 10, 10, 30]);
    assert_eq!(given(minute, 3), [3, 3, 3, 3]);
    assert_eq!(given(None, 3600), [300, 10, 10, 300]);
}
