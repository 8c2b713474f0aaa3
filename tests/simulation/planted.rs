//! Bugs that are put in from outside, at run time: around the planner and the fold, in the store's, the
//! host's or the operator's place. Each is one that somebody has shipped. A checker that does not find
//! its bug checks nothing.

mod minds;
mod waits;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use houston_agent::apply::journal;
use houston_agent::apply::machine::{At, Course, Leg, State};
use houston_agent::host::Record;
use houston_common::assignment::{Order, Terms};
use houston_common::clock::{FleetTime, WallTime};
use houston_common::id::RolloutId;
use houston_common::report::EnvironmentReport;
use houston_coordinator::engine::core::Minds;
use houston_coordinator::environment::Environment;
use houston_coordinator::environment::member::Member;
use houston_coordinator::fleet::Fleet;
use houston_coordinator::rollout::check::Violation;
use houston_coordinator::rollout::fold::{self, Folded};
use houston_coordinator::rollout::planner::{self, GateValues, Plan};
use houston_coordinator::rollout::{Rolling, Rollout};

pub(super) use waits::as_the_store_has_it;

macro_rules! planted {
    ($($(#[$doc:meta])* $name:ident by $($law:literal)|+;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Planted { $($(#[$doc])* $name,)* }

        impl Planted {
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The laws of which one must find it, each by the start of its name.
            pub(super) const fn laws(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($law),+],)* }
            }
        }
    };
}

planted! {
    /// Unhealthy hosts count as available.
    CountOnlyDisrupted by "E1 ";
    /// A new rollout does not count the hosts that an earlier one has in its hands.
    ResetCounters by "E1 " | "E2 " | "E4 " | "E27 ";
    GrantOverBudget by "E1 " | "E2 ";
    /// A granted host that is lost is no longer waited for.
    DropLost by "E4 " | "E7 ";
    WallClockBake by "E5 ";
    /// What has started counts as proved.
    WindowAtGrant by "E6 ";
    NoFailuresReported by "E7 ";
    /// A batch that was planned before the halt is written after it.
    WriteAfterHalt by "E8 ";
    CheckThenInsert by "E9 ";
    /// A policy that is edited binds the rollout that is on.
    EditInPlace by "E10 ";
    LocalGenerations by "E11 ";
    /// The epoch is checked before the transaction, not in it.
    EpochCheckedBefore by "E12 ";
    RetryForward by "E13 ";
    RollBackEverybody by "E14 ";
    /// The way back is what the host ran, not what was pinned.
    LookUpWayBack by "E15 ";
    RollbackSkipsBudget by "E16 " | "E2 ";
    RecursiveRollback by "E17 ";
    LastWriterWins by "E18 ";
    StickyHealthy by "E19 ";
    PercentIsEnough by "E20 ";
    /// Batches and floors are reckoned from the hosts of today.
    PercentOfToday by "E21 ";
    /// The plan's hash is asked for by the CLI, and ignored by the coordinator.
    CheckOnlyInCli by "E23 ";
    DeleteByAge by "E24 ";
    /// Settings go to all hosts at once.
    SetAgentConfig by "E25 ";
    TrustTheStore by "E26 ";
    AcknowledgeEarly by "E27 ";
    SilentContinue by "E28 ";
    /// Found by running the same seed twice.
    HashOrder by "E30 ";
    LoseWakeUp by "L1 " | "L2 " | "L7 " | "L11 ";
    /// A host is passed by, and never thought of again.
    ForgetTheLane by "L1 ";
    /// After the first zone somebody must say that it may go on, and nobody knows.
    WaitForPromotion by "L2 " | "L7 ";
    ThresholdsOnTimer by "L6 ";
    /// The lost are waited for.
    WaitForAll by "L3 ";
    /// What was prepared is activated when the agent comes back.
    ApplyCached by "L4 ";
    /// Nothing is replaced that is not well.
    HealthBeforeFix by "L5 ";
    /// Which wave is on is known to the process that began it.
    WaveInMemory by "L7 ";
    /// A disk that was full once is full.
    LatchFull by "L8 ";
    /// A host that speaks, and does not hear, gets a new grant for each word.
    GrantOnEachPoll by "L10 ";
    /// Whoever is first in line is waited for, however long it takes.
    HeadOfLine by "L11 ";
    OneHostMore by "R1 ";
    ForgetTheEnd by "R2 ";
    LinksOneByOne by "A1 ";
    SwitchNotSynced by "A2 " | "A3 ";
    JournalAfterAction by "A3 " | "A4 " | "E27 ";
    RerunFromStart by "A4 ";
    FloorInMemory by "A5 ";
    HealthyByDefault by "A15 ";
    StartsInMemory by "A16 " | "S17 ";
    FireAndForget by "A16 ";
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|planted| format!("{planted:?}") == text);
        found.ok_or_else(|| "there is no such bug".to_owned())
    }
}

type PlanFn = fn(&Environment, &Fleet, &GateValues, FleetTime) -> Plan;
type FoldFn = fn(&Member, Option<&Rollout>, &EnvironmentReport, FleetTime) -> Folded;

impl Planted {
    /// The planner and the fold with the bug, and without the production checker, which would stop many.
    pub(super) fn minds(self) -> Minds {
        let (plan, fold): (PlanFn, FoldFn) = match self {
            Self::CountOnlyDisrupted => (minds::count_only_disrupted, fold::fold),
            Self::ResetCounters => (minds::reset_counters, fold::fold),
            Self::GrantOverBudget => (minds::grant_over_budget, fold::fold),
            Self::DropLost => (minds::drop_lost, fold::fold),
            Self::WallClockBake => (minds::wall_clock_bake, fold::fold),
            Self::WindowAtGrant => (planner::plan, minds::window_at_grant),
            Self::NoFailuresReported => (minds::no_failures_reported, fold::fold),
            Self::WriteAfterHalt => (minds::write_after_halt, fold::fold),
            Self::RetryForward => (planner::plan, minds::retry_forward),
            Self::RollBackEverybody => (minds::roll_back_everybody, fold::fold),
            Self::LookUpWayBack => (minds::look_up_way_back, fold::fold),
            Self::RollbackSkipsBudget => (minds::rollback_skips_budget, fold::fold),
            Self::RecursiveRollback => (minds::recursive_rollback, fold::fold),
            Self::StickyHealthy => (minds::sticky_healthy, minds::fold_healthy),
            Self::PercentIsEnough => (minds::percent_is_enough, fold::fold),
            Self::SilentContinue => (minds::silent_continue, fold::fold),
            Self::HashOrder => (minds::hash_order, fold::fold),
            Self::LoseWakeUp => (minds::lose_wake_up, fold::fold),
            Self::ThresholdsOnTimer => (minds::thresholds_on_timer, fold::fold),
            Self::WaitForAll => (minds::wait_for_all, fold::fold),
            Self::HealthBeforeFix => (minds::health_before_fix, fold::fold),
            Self::PercentOfToday => (waits::percent_of_today, fold::fold),
            Self::TrustTheStore => (waits::trust_the_store, fold::fold),
            Self::ForgetTheLane => (waits::forget_the_lane, fold::fold),
            Self::WaitForPromotion => (waits::wait_for_promotion, fold::fold),
            Self::WaveInMemory => (waits::wave_in_memory, fold::fold),
            Self::GrantOnEachPoll => (planner::plan, waits::grant_on_each_poll),
            Self::HeadOfLine => (waits::head_of_line, fold::fold),
            Self::OneHostMore => (waits::one_host_more, fold::fold),
            Self::ForgetTheEnd => (waits::forget_the_end, fold::fold),
            Self::CheckThenInsert
            | Self::EditInPlace
            | Self::ApplyCached
            | Self::LocalGenerations
            | Self::EpochCheckedBefore
            | Self::CheckOnlyInCli
            | Self::DeleteByAge
            | Self::SetAgentConfig
            | Self::LatchFull
            | Self::LastWriterWins
            | Self::AcknowledgeEarly
            | Self::LinksOneByOne
            | Self::SwitchNotSynced
            | Self::JournalAfterAction
            | Self::RerunFromStart
            | Self::FloorInMemory
            | Self::HealthyByDefault
            | Self::StartsInMemory
            | Self::FireAndForget => return Minds::default(),
        };
        Minds { plan, check: |_, _, _, _, _| Ok::<(), Violation>(()), fold }
    }

    /// What an agent reads of a record, where reading is where the bug is.
    pub(super) fn reread(planted: Option<Self>, record: Record, bytes: Vec<u8>) -> Option<Vec<u8>> {
        match (planted, record) {
            (Some(Self::FloorInMemory), Record::Floor) => None,
            (Some(Self::FloorInMemory), Record::Journal) => {
                let state = journal::read_state(&bytes).ok()?;
                journal::write_state(&State { floor: None, ..state }).ok()
            }
            (Some(Self::RerunFromStart), Record::Journal) => {
                let mut state = journal::read_state(&bytes).ok()?;
                if let At::Activating(Course { leg, .. }) = &mut state.at
                    && matches!(leg, Leg::Starting { .. } | Leg::Proving { .. })
                {
                    *leg = Leg::Switching;
                }
                journal::write_state(&state).ok()
            }
            (Some(Self::ApplyCached), Record::Journal) => {
                let mut state = journal::read_state(&bytes).ok()?;
                if let At::Ready { prepared, .. } = &mut state.at {
                    prepared.task.assignment.order = Order::Activate(FOR_EVER);
                }
                journal::write_state(&state).ok()
            }
            _ => Some(bytes),
        }
    }
}

const FOR_EVER: Terms = Terms {
    start_within: Duration::from_secs(1_000_000),
    apply_deadline: Duration::from_secs(240),
    health_window: Duration::from_secs(10),
};

thread_local! {
    static WALL: Cell<u64> = const { Cell::new(0) };
    static BEFORE_HALT: RefCell<BTreeMap<RolloutId, Rolling>> = const { RefCell::new(BTreeMap::new()) };
    /// Rollouts that this process of the coordinator has begun.
    static BEGUN_HERE: RefCell<BTreeSet<RolloutId>> = const { RefCell::new(BTreeSet::new()) };
}

/// What an earlier run left in memory is nothing to the next.
pub(super) fn forget() {
    WALL.set(0);
    BEFORE_HALT.with_borrow_mut(BTreeMap::clear);
    coordinator_started();
}

/// A new process has nothing in memory.
pub(super) fn coordinator_started() {
    BEGUN_HERE.with_borrow_mut(BTreeSet::clear);
}

pub(super) fn set_wall(wall: WallTime) {
    WALL.set(wall.0);
}
