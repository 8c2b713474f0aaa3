//! The standing lane: hosts that joined, or that missed a change, get the baked release. Floors and a
//! cap on retries, no bakes; what fails here holds the host and never touches the environment.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use houston_common::release::Release;

use super::floors::Floors;
use super::{Change, GRANTS_PER_PLAN, Grant, PREPARES_PER_PLAN, Plan};
use crate::environment::Environment;
use crate::environment::index::{Class, Reach};
use crate::environment::member::{Lane, Member};

pub(super) fn standing(environment: &Environment, plan: &mut Plan) {
    let index = environment.index();
    let baked = environment.definition.baked;
    let unprepared = [Reach::Up, Reach::Down, Reach::Busy]
        .into_iter()
        .flat_map(|reach| index.all(Class::LaneUnprepared(reach)));
    for host in unprepared.take(PREPARES_PER_PLAN) {
        let Some(live) = environment.member(host) else { continue };
        plan.changes.push(Change::Prepare {
            host: host.clone(),
            lane: Lane::Standing,
            release: baked,
            way_back: way_back(&live.member),
        });
    }
    let policy = &environment.definition.policy;
    let size = policy.batch.at_most_of(index.total().hosts);
    let room = size.saturating_sub(index.count_all(Class::LaneOpen)) as usize;
    let mut floors = Floors::new(environment, policy, None);
    for reach in [Reach::Down, Reach::Up] {
        for (zone, _) in index.zones() {
            for host in index.hosts(zone, Class::LaneReady(reach)) {
                if plan.grants.len() == room.min(GRANTS_PER_PLAN) {
                    return;
                }
                let Some(live) = environment.member(host) else { continue };
                if live.may_serve()
                    && let Err(waiting) = floors.take(live)
                {
                    if environment.rollout.is_none() && plan.waiting.is_empty() {
                        plan.waiting.push(waiting);
                    }
                    // The floor of one zone holds up nobody in another.
                    break;
                }
                plan.grants.push(grant(&live.member, baked, live.is_unhealthy()));
            }
        }
    }
}

fn grant(member: &Member, baked: Release, was_down: bool) -> Grant {
    Grant {
        host: member.host.clone(),
        lane: Lane::Standing,
        release: baked,
        way_back: way_back(member),
        was_down,
        taking_back: false,
    }
}

/// Back to what it ran, or to nothing.
fn way_back(member: &Member) -> Release {
    member.settled.unwrap_or_else(Release::empty)
}
