//! **Decision.** Sorts each member into exactly one class by a plain function of its record, its last
//! report and what is known of its host.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::clock::FleetTime;
use houston_common::digest::Digest;
use houston_common::id::{HostId, RolloutId};
use houston_common::release::Release;
use houston_common::report::HealthReport;
use houston_common::rollout::{Away, Exception};

use super::member::{Lane, Member, Step};
use super::{Definition, Live};
use crate::fleet::Entry;
use crate::rollout::{Direction, Rollout, fold};

/// What a member is to the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    // In the scope of the active rollout and not begun.
    Unprepared(Reach),
    Preparing(Reach),
    Ready(Reach),
    Held,
    /// The operator who started the rollout left it out.
    Excluded,
    /// Granted by the active rollout.
    Open,
    /// Granted by another rollout or the standing lane: its end must come first.
    Finishing,
    Updated(Wellness),
    /// Moved by the change that is being taken back.
    ToTakeBack(Reach),
    /// Nothing more will be asked of it in this rollout.
    Ended,

    // Joins and catch-ups.
    LaneUnprepared(Reach),
    LanePreparing(Reach),
    LaneReady(Reach),
    LaneOpen,

    /// It is where it should be, or nobody's business.
    Rest,
}

/// Whether a host can be moved, and what that would cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Answers, and does not serve: moving it costs no capacity.
    Down,
    /// In service, and says it is healthy: moving it takes it away from the service.
    Up,
    /// In the middle of another environment's change.
    Busy,
    /// Lost, or not heard of yet.
    Away,
}

impl Reach {
    pub const ALL: [Self; 4] = [Self::Down, Self::Up, Self::Busy, Self::Away];
}

/// Of a host that runs the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wellness {
    Well,
    /// Its health is not known yet.
    Unknown,
    Lost,
}

/// What a member counts as, beside its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    pub member: bool,
    pub in_service: bool,
    pub available: bool,
    /// Why it is not, if it is in service.
    pub away: Option<Away>,
    /// In service, and not on the baked release.
    pub off_baked: bool,
    /// It is available, or says so and is perhaps in the middle of something.
    pub may_serve: bool,
    /// Of its open grant.
    pub deadline: Option<FleetTime>,
    /// Until it should have prepared, or should know whether it is well.
    pub answer_by: Option<FleetTime>,
    /// What it has settled on.
    pub settled: Option<Release>,
    /// Health checks that have passed on it, if it has been updated by the active rollout.
    pub passes: u64,
    /// The end of its time in the penalty box.
    pub boxed_until: Option<FleetTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sorted {
    pub class: Class,
    /// Place among equals: another one in each rollout, so that it is not always the same hosts
    /// that go first.
    pub order: u64,
    pub counted: Counted,
}
pub fn sort(definition: &Definition, rollout: Option<&Rollout>, live: &Live, entry: &Entry) -> Sorted {
    let member = &live.member;
    let in_service = member.in_service();
    let away = away(definition, live, entry).filter(|_| in_service);
    let may_serve = in_service && matches!(away, None | Some(Away::Finishing));
    let counted = Counted {
        member: !member.detached,
        in_service,
        available: in_service && away.is_none(),
        away,
        off_baked: in_service && member.settled != Some(definition.baked),
        may_serve,
        deadline: member.grant.map(|grant| grant.deadline),
        answer_by: None,
        settled: member.settled,
        passes: 0,
        boxed_until: member.boxed_until,
    };
    let reach = reach(definition, entry, may_serve);
    let class = match rollout {
        Some(rollout) if member.in_scope(rollout.id) => {
            if rollout.goes_back() {
                class_going_back(rollout, member, entry, reach)
            } else {
                class_going_forward(rollout, live, entry, reach)
            }
        }
        Some(_) | None => class_standing(definition, member, entry, reach),
    };
    let turn = rollout.map_or(RolloutId(0), |rollout| rollout.id);
    let prepares = member.step == Step::Preparing && member.grant.is_none();
    let is_asked = prepares || class == Class::Updated(Wellness::Unknown);
    let passes = match live.report.as_ref().map(|report| &report.health) {
        Some(HealthReport::Healthy { passes, .. }) if matches!(class, Class::Updated(_)) => *passes,
        _ => 0,
    };
    let counted = Counted { answer_by: member.answer_by.filter(|_| is_asked), passes, ..counted };
    Sorted { class, order: order(turn, &member.host), counted }
}

/// In service, heard of, healthy, and in the middle of nothing.
pub fn is_available(definition: &Definition, live: &Live, entry: &Entry) -> bool {
    live.member.in_service() && away(definition, live, entry).is_none()
}

/// What keeps a host from serving. By its own word alone, one that is only `Finishing` serves.
fn away(definition: &Definition, live: &Live, entry: &Entry) -> Option<Away> {
    let healthy =
        live.report.as_ref().is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }));
    let busy = entry.granted_in.as_ref().is_some_and(|granted| *granted != definition.name);
    let reasons = [
        (entry.contact.lost, Away::Lost),
        (!entry.is_seen(), Away::NotHeardYet),
        (live.member.grant.is_some() || busy, Away::Changing),
        (entry.host.drained, Away::Drained),
        (!healthy, Away::Unhealthy),
        (!has_come_to_rest(live), Away::Finishing),
    ];
    reasons.into_iter().find_map(|(holds, away)| holds.then_some(away))
}

/// Whether the report is later than anything the host was told to do to itself: a grant may have been
/// closed at its deadline, or with its rollout, and the host be in the middle of it all the same.
fn has_come_to_rest(live: &Live) -> bool {
    let Some(report) = &live.report else { return false };
    let said = report.stamp.map(|stamp| stamp.generation);
    let is_older = live.member.told.is_some_and(|told| told.is_activate() && said != Some(told.generation));
    fold::is_at_rest(report.phase) && !is_older
}

fn reach(definition: &Definition, entry: &Entry, may_serve: bool) -> Reach {
    if !entry.is_seen() {
        Reach::Away
    } else if entry.granted_in.as_ref().is_some_and(|granted| *granted != definition.name) {
        Reach::Busy
    } else if may_serve {
        Reach::Up
    } else {
        Reach::Down
    }
}

fn is_held(entry: &Entry) -> bool {
    entry.host.held.is_some() || entry.host.revoked
}

/// The penalty box keeps a host from what is new to it. A rollback asks for nothing new, and a host must
/// not stay on what is taken back for having failed on it.
fn is_held_or_boxed(member: &Member, entry: &Entry) -> bool {
    is_held(entry) || member.is_boxed()
}

fn class_going_forward(rollout: &Rollout, live: &Live, entry: &Entry, reach: Reach) -> Class {
    let member = &live.member;
    if member.grant.is_some() {
        return if member.lane == Lane::Rollout(rollout.id) { Class::Open } else { Class::Finishing };
    }
    match member.step_in(rollout.id) {
        Step::Settled => Class::Updated(wellness(live, entry)),
        Step::Reverted | Step::Failed | Step::TakingBack | Step::TakenBack | Step::Excepted(_) => {
            Class::Ended
        }
        Step::Waiting | Step::Preparing | Step::Ready | Step::Granted
            if rollout.excluded.contains(&member.host) =>
        {
            Class::Excluded
        }
        // It runs the target already and is well: nothing to prove again.
        Step::Waiting | Step::Preparing | Step::Ready | Step::Granted
            if member.settled == Some(rollout.target)
                && reach == Reach::Up
                && has_come_to_rest(live)
                && live.runs(&rollout.target) =>
        {
            Class::Updated(Wellness::Well)
        }
        _ if is_held_or_boxed(member, entry) => Class::Held,
        Step::Waiting | Step::Granted => Class::Unprepared(reach),
        Step::Preparing => Class::Preparing(reach),
        Step::Ready => Class::Ready(reach),
    }
}

fn wellness(live: &Live, entry: &Entry) -> Wellness {
    let healthy =
        live.report.as_ref().is_some_and(|report| matches!(report.health, HealthReport::Healthy { .. }));
    // A host from which everything was uninstalled has nothing that could be unwell.
    let runs_nothing = live.member.settled.is_some_and(|release| release.is_empty());
    if entry.contact.lost {
        Wellness::Lost
    } else if (healthy || runs_nothing) && entry.is_seen() {
        Wellness::Well
    } else {
        Wellness::Unknown
    }
}

fn class_going_back(rollout: &Rollout, member: &Member, entry: &Entry, reach: Reach) -> Class {
    let own = member.lane == Lane::Rollout(rollout.id);
    if member.grant.is_some() {
        return if own && member.step == Step::TakingBack { Class::Open } else { Class::Finishing };
    }
    if rollout.excluded.contains(&member.host) {
        return Class::Ended;
    }
    let started = match rollout.direction {
        Direction::Forward => member.started.is_some_and(|id| rollout.covers(id)),
        // A rollback of a success: whoever runs what it takes back.
        Direction::Back { .. } => member.settled == Some(rollout.way_back),
    };
    match member.step {
        Step::Reverted | Step::TakenBack if own => Class::Ended,
        Step::Failed | Step::Excepted(_) if own && rollout.direction != Direction::Forward => Class::Ended,
        // It has been named; it may come back with the change on it.
        Step::Excepted(_) if own && (!started || reach == Reach::Away || is_held(entry)) => Class::Ended,
        _ if started && is_held(entry) => Class::Held,
        _ if started => Class::ToTakeBack(reach),
        Step::Waiting
        | Step::Preparing
        | Step::Ready
        | Step::Granted
        | Step::Settled
        | Step::Reverted
        | Step::Failed
        | Step::TakingBack
        | Step::TakenBack
        | Step::Excepted(_) => Class::Rest,
    }
}

fn class_standing(definition: &Definition, member: &Member, entry: &Entry, reach: Reach) -> Class {
    if member.grant.is_some() {
        return if member.lane == Lane::Standing { Class::LaneOpen } else { Class::Finishing };
    }
    let failed = member.lane != Lane::Standing && matches!(member.step, Step::Reverted | Step::Failed);
    // On a change that nobody has ended: it stays there until somebody does.
    let unresolved = member.started.is_some_and(|id| definition.unresolved.contains(&id));
    // By an operator's word: until another rollout takes it along, or somebody releases it.
    let excluded = member.step == Step::Excepted(Exception::Excluded);
    let wanted = !member.detached
        && !excluded
        // With nothing baked there is nothing to get, but a straggler of an uninstall still has to go.
        && (!definition.baked.is_empty() || member.in_service())
        && member.settled != Some(definition.baked)
        && (member.owes || !failed && !unresolved)
        && !is_held_or_boxed(member, entry);
    if !wanted {
        return Class::Rest;
    }
    let told = member.told.is_some_and(|told| told.release == definition.baked);
    match (member.lane, member.step) {
        (Lane::Standing, Step::Ready) if told => Class::LaneReady(reach),
        (Lane::Standing, Step::Preparing) if told => Class::LanePreparing(reach),
        _ => Class::LaneUnprepared(reach),
    }
}

fn order(turn: RolloutId, host: &HostId) -> u64 {
    let mut text = turn.0.to_be_bytes().to_vec();
    text.extend_from_slice(host.as_str().as_bytes());
    let digest = Digest::of(&text);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(first)
}
