//! **Decision.** What one host's report about one environment changes in what is stored.
//!
//! Reports may come late, twice or in any order: each is the whole truth of its moment, and only
//! what it says of the newest assignment, or of the open grant, counts.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::FleetTime;
use houston_common::error::Code;
use houston_common::release::Release;
use houston_common::report::{EnvironmentReport, Failure, HealthReport, Phase};
use houston_common::rollout::Exception;

use super::{Rollout, outcome};
use crate::environment::member::{Lane, Member, Step};

/// The records that a report changes; absent if it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    pub member: Option<Member>,
    pub rollout: Option<Rollout>,
}

/// `rollout` is the environment's active one.
pub fn fold(
    member: &Member,
    rollout: Option<&Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) -> Folded {
    let mut next = member.clone();
    let mut next_rollout = rollout.cloned();
    let said = report.stamp.map(|stamp| stamp.generation);
    let newest = member.told.map(|told| told.generation);
    let granted = member.grant.map(|grant| grant.generation);
    if said.is_some() && said == granted {
        fold_grant(&mut next, next_rollout.as_mut(), report, now);
    } else if said.is_some() && said == newest {
        fold_told(&mut next, next_rollout.as_mut(), report, now);
    } else if let (Some(said), Some(granted)) = (said, granted)
        && said > granted
        && is_at_rest(report.phase)
    {
        // The host has taken a newer assignment instead: it never used the grant.
        next.grant = None;
        next.step = Step::Waiting;
    }
    if next.grant.is_none() {
        fold_health(&mut next, next_rollout.as_mut(), report, now);
        fold_disk(&mut next, next_rollout.as_mut(), report);
    }
    Folded {
        rollout: next_rollout.filter(|next| Some(next) != rollout),
        member: Some(next).filter(|next| next != member),
    }
}

/// The report speaks of the open grant.
fn fold_grant(
    member: &mut Member,
    rollout: Option<&mut Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) {
    let Some(told) = member.told else { return };
    match report.phase {
        Phase::Fetching
        | Phase::LayingOut
        | Phase::Stopping
        | Phase::Switching
        | Phase::Starting
        | Phase::Proving => {}
        // Not begun in time, or lost over a reboot: the grant is void and the host asks again.
        Phase::Ready => {
            member.grant = None;
            member.step = if member.step == Step::TakingBack { Step::Settled } else { Step::Ready };
        }
        Phase::Settled if runs(report, &told.release) => outcome::end_settled(member),
        // It says so, but what is on its disk says otherwise.
        Phase::Settled => outcome::end_failed(member, rollout, Some(differs(report)), now),
        Phase::Reverting => {
            let first = member.grant.is_some_and(|grant| !grant.reverting);
            outcome::begin_revert(member, rollout, report.failure.clone(), now);
            if first && let Some(grant) = member.grant.as_mut() {
                // Going back may take as long as going forward, and its report some time more.
                let whole = told.terms.map_or(REPORT_WITHIN, |terms| terms.apply_deadline);
                grant.deadline = grant.deadline.max(now.plus(whole).plus(REPORT_WITHIN));
            }
        }
        Phase::Reverted => {
            outcome::end_reverted(member, rollout, report.failure.clone(), now);
            if runs(report, &told.way_back) {
                is_back(member, told.way_back);
            }
        }
        // It has switched, and lost its journal before it had proved anything.
        Phase::Idle if has_switched_unrecorded(member, &told.release, report) => {
            outcome::end_failed(member, rollout, report.failure.clone(), now);
        }
        // Failed while preparing: nothing was disturbed.
        Phase::Idle => {
            member.grant = None;
            prepare_failed(member, rollout, report.failure.clone(), now);
        }
        Phase::Failed => outcome::end_failed(member, rollout, report.failure.clone(), now),
    }
}

fn has_switched_unrecorded(member: &Member, release: &Release, report: &EnvironmentReport) -> bool {
    let lost_journal = report.failure.as_ref().is_some_and(|failure| failure.code == Code::JournalDamaged);
    lost_journal && member.settled != Some(*release) && runs(report, release)
}

/// From the end of something on the host to its report here: two holds.
const REPORT_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// The report speaks of the newest assignment, and no grant is open.
fn fold_told(member: &mut Member, rollout: Option<&mut Rollout>, report: &EnvironmentReport, now: FleetTime) {
    let Some(told) = member.told else { return };
    match report.phase {
        Phase::Ready if member.step == Step::Preparing => {
            member.step = Step::Ready;
            member.answer_by = None;
        }
        // It was ready, and has lost what it had prepared.
        Phase::Fetching | Phase::LayingOut if member.step == Step::Ready => member.step = Step::Preparing,
        Phase::Idle if member.step == Step::Preparing && report.failure.is_some() => {
            prepare_failed(member, rollout, report.failure.clone(), now);
        }
        // Its grant was closed as overdue, and it got there all the same.
        Phase::Settled if told.is_activate() && runs(report, &told.release) => {
            member.settled = Some(told.release);
            member.owes = false;
            // Only what failed was granted in this lane; a host that was left out by name was not.
            let was_granted = member.step == Step::Failed && told.release != told.way_back;
            if let (Lane::Rollout(id), true) = (member.lane, was_granted) {
                member.started = Some(id);
            }
        }
        Phase::Reverted
            if told.is_activate() && runs(report, &told.way_back) && member.step == Step::Failed =>
        {
            member.step = Step::Reverted;
            is_back(member, told.way_back);
        }
        Phase::Idle
        | Phase::Fetching
        | Phase::LayingOut
        | Phase::Ready
        | Phase::Stopping
        | Phase::Switching
        | Phase::Starting
        | Phase::Proving
        | Phase::Settled
        | Phase::Reverting
        | Phase::Reverted
        | Phase::Failed => {}
    }
}

/// It runs its way back again: the change is no more on it.
fn is_back(member: &mut Member, way_back: Release) {
    member.settled = Some(way_back).filter(|release| !release.is_empty() || member.settled.is_some());
    if member.lane != Lane::Standing {
        member.started = None;
    }
}

/// Could not be prepared: nothing was disturbed.
pub(super) fn prepare_failed(
    member: &mut Member,
    rollout: Option<&mut Rollout>,
    failure: Option<Failure>,
    now: FleetTime,
) {
    member.failure = failure.map(outcome::cut);
    match (member.lane, rollout) {
        (Lane::Rollout(id), Some(rollout)) if rollout.id == id && rollout.goes_back() => {
            if member.step == Step::TakingBack {
                // Nothing is left to go back to: a person must look.
                member.step = Step::Failed;
                rollout.first_failure.get_or_insert_with(|| member.host.clone());
            } else {
                // It was being prepared for what is being taken back, and is not wanted any more.
                member.step = Step::Waiting;
            }
        }
        (Lane::Rollout(id), Some(rollout)) if rollout.id == id => {
            outcome::except(member, rollout, Exception::PrepareFailed);
        }
        (Lane::Rollout(_), _) => member.step = Step::Excepted(Exception::PrepareFailed),
        // Without an end it would be tried again at once, for ever.
        (Lane::Standing, _) => {
            member.fail_again(now);
            member.step = Step::Waiting;
        }
    }
}

/// Health after the change, of a host that has settled in a rollout that goes on.
fn fold_health(
    member: &mut Member,
    rollout: Option<&mut Rollout>,
    report: &EnvironmentReport,
    now: FleetTime,
) {
    let Some(rollout) = rollout else { return };
    if rollout.is_over() || rollout.goes_back() || member.step_in(rollout.id) != Step::Settled {
        return;
    }
    match &report.health {
        HealthReport::Healthy { .. } => member.answer_by = None,
        // It holds the rollout, and must know within the time of an activation.
        HealthReport::Unknown => {
            member.answer_by.get_or_insert_with(|| now.plus(rollout.policy.apply_deadline));
        }
        HealthReport::Unhealthy { reason } => {
            // The report's own failure is of an earlier step: a warning that has nothing to do with this.
            let (message, log_tail) = (reason.clone(), String::new());
            let failure =
                Failure { code: Code::Unhealthy, phase: Phase::Settled, package: None, message, log_tail };
            outcome::turn_bad(member, rollout, failure);
        }
    }
}

/// What is on its disk, against what it was told.
fn fold_disk(member: &mut Member, rollout: Option<&mut Rollout>, report: &EnvironmentReport) {
    // It has forgotten what it had prepared. An assignment to prepare stands, and it will again; an
    // ended grant is told to nobody.
    if report.stamp.is_none() && member.step == Step::Ready {
        let stands = member.told.is_some_and(|told| !told.is_activate());
        member.step = if stands { Step::Preparing } else { Step::Waiting };
    }
    if let Some(measured) = measured(member, report) {
        member.settled = Some(measured);
    }
    if !has_drifted(member, report) {
        return;
    }
    // A new disk, an old image: it left the service.
    member.settled = None;
    member.started = None;
    member.owes = true;
    member.forgive_all();
    // It had its turn; the standing lane takes care of it when the rollout has ended.
    if let Some(rollout) = rollout
        && member.step_in(rollout.id) == Step::Settled
    {
        outcome::except(member, rollout, Exception::LostAfterSettling);
    }
}

/// What it settled on is gone from its disk: nothing is there, or something that nobody told it last.
fn has_drifted(member: &Member, report: &EnvironmentReport) -> bool {
    let Some(settled) = member.settled.filter(|release| !release.is_empty()) else { return false };
    match report.running {
        None => is_at_rest(report.phase),
        // A failed host may run either release of its change; that is no drift.
        Some(running) => {
            matches!(report.phase, Phase::Settled | Phase::Reverted) && running != settled.digest()
        }
    }
}

/// What a host at rest runs, of the releases that it was told of last. It may have got there under a
/// grant that had ended, and been told something else since.
fn measured(member: &Member, report: &EnvironmentReport) -> Option<Release> {
    let told = member.told.filter(|_| matches!(report.phase, Phase::Settled | Phase::Reverted))?;
    [told.release, told.way_back].into_iter().find(|release| report.running == Some(release.digest()))
}

/// Whether a host in this phase is in the middle of no activation.
pub(crate) fn is_at_rest(phase: Phase) -> bool {
    match phase {
        Phase::Idle
        | Phase::Fetching
        | Phase::LayingOut
        | Phase::Ready
        | Phase::Settled
        | Phase::Reverted
        | Phase::Failed => true,
        Phase::Stopping | Phase::Switching | Phase::Starting | Phase::Proving | Phase::Reverting => false,
    }
}

/// Whether what was measured on the host's disk is the release. The empty one is measured as nothing.
fn runs(report: &EnvironmentReport, release: &Release) -> bool {
    match report.running {
        Some(running) => running == release.digest(),
        None => release.is_empty(),
    }
}

fn differs(report: &EnvironmentReport) -> Failure {
    let running = report.running.map_or_else(|| "nothing".to_owned(), |running| running.short());
    Failure {
        code: Code::TreeDiffers,
        phase: report.phase,
        package: None,
        message: format!("the host says it has settled, but its disk has {running}"),
        log_tail: String::new(),
    }
}
