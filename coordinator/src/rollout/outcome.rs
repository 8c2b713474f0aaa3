//! **Decision.** How a host's turn ends, and what that is to the rollout: the one place where
//! failures are counted and slots are given back.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::FleetTime;
use houston_common::report::Failure;
use houston_common::rollout::Exception;

use super::{Rollout, Stage};
use crate::environment::member::{LOG_KEPT_BYTES_MAX, Lane, Member, Step};

/// A failed step: the grant stays open while the host goes back by itself.
pub fn begin_revert(
    member: &mut Member,
    rollout: Option<&mut Rollout>,
    failure: Option<Failure>,
    now: FleetTime,
) {
    let Some(grant) = member.grant.as_mut() else { return };
    if grant.reverting {
        return;
    }
    grant.reverting = true;
    let was_down = grant.was_down;
    member.failure = failure.map(cut);
    let rollout = rollout.filter(|rollout| member.lane == Lane::Rollout(rollout.id));
    if is_the_hosts(member, rollout.as_deref(), was_down) {
        member.fail_again(now);
    }
    if let Some(rollout) = rollout {
        count_failure(member, rollout, was_down);
    }
}

/// Whether a failure counts toward the penalty box. Those for which a rollout is stopped do not: where
/// one host fails on a bad release, others would too. So none does in a first batch, whose budget is
/// zero, nor once hosts go back; and the failure that crosses a later budget is forgiven when it does.
/// What the standing lane offers has been proved by a rollout.
fn is_the_hosts(member: &Member, rollout: Option<&Rollout>, was_down: bool) -> bool {
    let Lane::Rollout(_) = member.lane else { return true };
    rollout.is_some_and(|rollout| match rollout.stage {
        Stage::Rolling(_) | Stage::Baking { .. } | Stage::Gated { .. } => {
            was_down || !rollout.is_first_batch(&member.zone)
        }
        Stage::RollingBack
        | Stage::Halted
        | Stage::Succeeded
        | Stage::RolledBack
        | Stage::Superseded { .. }
        | Stage::Aborted => false,
    })
}

/// The host is back where it came from.
pub fn end_reverted(
    member: &mut Member,
    rollout: Option<&mut Rollout>,
    failure: Option<Failure>,
    now: FleetTime,
) {
    begin_revert(member, rollout, failure, now);
    end(member, Step::Reverted);
}

/// The host neither settled nor went back.
pub fn end_failed(
    member: &mut Member,
    rollout: Option<&mut Rollout>,
    failure: Option<Failure>,
    now: FleetTime,
) {
    begin_revert(member, rollout, failure, now);
    if let (Lane::Rollout(id), false) = (member.lane, member.step == Step::TakingBack) {
        member.started = Some(id);
    }
    end(member, Step::Failed);
}

/// It runs what it was granted, and has proved it.
pub fn end_settled(member: &mut Member) {
    let Some(told) = member.told else { return };
    member.settled = Some(told.release);
    member.owes = false;
    member.forgive_all();
    member.answer_by = None;
    if member.step != Step::TakingBack {
        member.failure = None;
    }
    let (step, started) = match member.lane {
        Lane::Rollout(_) if member.step == Step::TakingBack => (Step::TakenBack, None),
        Lane::Rollout(id) => (Step::Settled, Some(id)),
        Lane::Standing => (Step::Settled, None),
    };
    member.started = started;
    end(member, step);
}

/// A host that had settled in an active rollout turned bad before its end.
pub fn turn_bad(member: &mut Member, rollout: &mut Rollout, failure: Failure) {
    member.failure = Some(cut(failure));
    member.step = Step::Failed;
    count_failure(member, rollout, false);
}

/// The host is forgotten: what that is to the rollout, if its turn had begun and not ended. Whether the
/// release works there will never be known, and no news is bad news, as with one that is silent past its
/// deadline.
pub fn forgotten(member: &Member, rollout: &Rollout) -> Option<Rollout> {
    let grant = member.grant.filter(|grant| !grant.reverting && member.lane == Lane::Rollout(rollout.id))?;
    let mut rollout = rollout.clone();
    if member.step == Step::TakingBack {
        rollout.exceptions += 1;
    } else {
        count_failure(member, &mut rollout, grant.was_down);
    }
    Some(rollout)
}

/// Left out of the rollout's result, by name.
pub fn except(member: &mut Member, rollout: &mut Rollout, exception: Exception) {
    member.lane = Lane::Rollout(rollout.id);
    member.step = Step::Excepted(exception);
    rollout.exceptions += u32::from(exception != Exception::Excluded);
}

fn end(member: &mut Member, step: Step) {
    let was_down = member.grant.take().is_some_and(|grant| grant.was_down);
    let failed = matches!(step, Step::Reverted | Step::Failed);
    member.step = match (member.lane, step) {
        // A host that was down before and stays down says nothing about the release.
        (Lane::Rollout(_), _) if failed && was_down => Step::Excepted(Exception::DownBefore),
        // The lane tries again, unless the host is in the penalty box now.
        (Lane::Standing, _) if failed => Step::Waiting,
        (Lane::Standing | Lane::Rollout(_), step) => step,
    };
}

fn count_failure(member: &Member, rollout: &mut Rollout, was_down: bool) {
    if rollout.stage == Stage::RollingBack {
        // Forward grants that were open when it turned fail as before: they are part of what is
        // being taken back.
        if member.step == Step::TakingBack {
            rollout.first_failure.get_or_insert_with(|| member.host.clone());
        }
        count(rollout, member);
        return;
    }
    if was_down {
        rollout.exceptions += 1;
        return;
    }
    count(rollout, member);
    rollout.last_failure = Some(member.host.clone());
    if rollout.is_first_batch(&member.zone) {
        rollout.first_failure.get_or_insert_with(|| member.host.clone());
    }
}

fn count(rollout: &mut Rollout, member: &Member) {
    rollout.failures += 1;
    *rollout.failures_in.entry(member.zone.clone()).or_default() += 1;
}

/// As much of a failure as a record keeps.
pub fn cut(mut failure: Failure) -> Failure {
    let over = failure.log_tail.len().saturating_sub(LOG_KEPT_BYTES_MAX);
    if over > 0 {
        let mut start = over;
        while !failure.log_tail.is_char_boundary(start) {
            start += 1;
        }
        failure.log_tail.drain(..start);
    }
    failure
}
