//! Bugs that are put in from outside, at run time: around the planner and the fold, in the store's, the
//! host's or the operator's place. Each is one that somebody has shipped. A checker that does not find
//! its bug checks nothing.

mod minds;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::str::FromStr;

use houston_agent::apply::journal;
use houston_agent::apply::machine::{At, Course, Leg, State};
use houston_agent::host::Record;
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
    LocalGenerations by "E11 ";
    RetryForward by "E13 ";
    RollBackEverybody by "E14 ";
    /// The way back is what the host ran, not what was pinned.
    LookUpWayBack by "E15 ";
    RollbackSkipsBudget by "E16 " | "E2 ";
    RecursiveRollback by "E17 ";
    LastWriterWins by "E18 ";
    StickyHealthy by "E19 ";
    PercentIsEnough by "E20 ";
    AcknowledgeEarly by "E27 ";
    SilentContinue by "E28 ";
    /// Found by running the same seed twice.
    HashOrder by "E30 ";
    LoseWakeUp by "L1 ";
    ThresholdsOnTimer by "L6 ";
    /// The lost are waited for.
    WaitForAll by "L1 " | "L3 ";
    /// Nothing is replaced that is not well.
    HealthBeforeFix by "L1 ";
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
            Self::CheckThenInsert
            | Self::LocalGenerations
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
            _ => Some(bytes),
        }
    }
}

thread_local! {
    static WALL: Cell<u64> = const { Cell::new(0) };
    static BEFORE_HALT: RefCell<BTreeMap<RolloutId, Rolling>> = const { RefCell::new(BTreeMap::new()) };
}

/// What an earlier run left in memory is nothing to the next.
pub(super) fn forget() {
    WALL.set(0);
    BEFORE_HALT.with_borrow_mut(BTreeMap::clear);
}

pub(super) fn set_wall(wall: WallTime) {
    WALL.set(wall.0);
}
