//! Hosts that failed in a zone's wave and went back by themselves, and are tried again at its end: as
//! often as the policy says, while the failure budget holds. A first batch has no budget, so where it
//! fails nothing comes this far.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::id::Zone;

use super::{CLOSED_PER_PLAN, Change};
use crate::environment::index::Class;
use crate::environment::member::{Lane, Step};
use crate::environment::{Environment, Live};
use crate::fleet::{Entry, Fleet};
use crate::rollout::Rollout;

/// That the failures so far are within their budget has been judged before.
pub(super) fn retries(
    environment: &Environment,
    rollout: &Rollout,
    zone: &Zone,
    fleet: &Fleet,
) -> Vec<Change> {
    if rollout.policy.retries == 0 {
        return Vec::new();
    }
    let ended = environment.index().hosts(zone, Class::Ended);
    let again = ended.filter(|host| {
        let (live, entry) = (environment.member(host), fleet.get(host));
        live.zip(entry).is_some_and(|(live, entry)| entry.is_seen() && left(rollout, live, entry) > 0)
    });
    again.take(CLOSED_PER_PLAN).map(|host| Change::Retry { host: host.clone() }).collect()
}

/// Retries that a host has before it at the end of its wave, while the rollout is not stopped.
pub(in crate::rollout) fn left(rollout: &Rollout, live: &Live, entry: &Entry) -> u32 {
    let member = &live.member;
    let failed = member.lane == Lane::Rollout(rollout.id) && member.step == Step::Reverted;
    let is_held = member.is_boxed() || entry.host.held.is_some() || entry.host.revoked;
    if failed && !is_held { rollout.policy.retries.saturating_sub(member.retries) } else { 0 }
}
