//! Who may call what: one row for each call of the protocol. A call without a row is refused, and a
//! test fails for it. No I/O here; the gate asks.

use std::time::Duration;

use houston_common::api::client::UPLOAD_TIME_MAX;
use houston_common::command::ROLLOUT_WAIT_MAX;
use houston_common::view::Role;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody who reaches the enrollment listener; what the request holds decides.
    Stranger,
    /// A host, about itself.
    Host,
    Operator(Role, Scope),
}

/// Where an operator must have the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In all environments: what belongs to none of them, or could touch each.
    Everywhere,
    /// Anywhere: what belongs to none and harms none. Answers are limited to what the caller may see.
    Somewhere,
    /// In the environment that the request is about, which only the handler can tell.
    Environment,
}

/// How long a call may take until its answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Quick,
    /// Held by the coordinator for want of news.
    Held,
    /// As long as bytes arrive.
    Transfer,
}

/// A commit takes milliseconds, a certificate too; whatever takes this long hangs.
const QUICK_TIME_MAX: Duration = Duration::from_secs(15);

impl Pace {
    /// The time limit. `hold` is that of check-ins.
    pub fn limit(self, hold: Duration) -> Duration {
        match self {
            Self::Quick => QUICK_TIME_MAX,
            Self::Held => QUICK_TIME_MAX + hold.max(ROLLOUT_WAIT_MAX),
            Self::Transfer => UPLOAD_TIME_MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// As in a request's path, the first slash included.
    pub method: &'static str,
    pub who: Who,
    pub pace: Pace,
}

const fn row(method: &'static str, who: Who, pace: Pace) -> Row {
    Row { method, who, pace }
}

const fn operator(method: &'static str, role: Role, scope: Scope) -> Row {
    row(method, Who::Operator(role, scope), Pace::Quick)
}

use Role::{Admin, Approver, Deployer, Viewer};
use Scope::{Environment, Everywhere, Somewhere};

/// Packages and version sets belong to no environment: nothing runs them before a rollout, which needs
/// the role in its environment. Tokens and labels decide which hosts an environment gets: whoever could
/// change them in one environment could take hosts from another.
pub const TABLE: &[Row] = &[
    row("/houston.v1.Enrollment/Enroll", Who::Stranger, Pace::Quick),
    row("/houston.v1.Agent/Renew", Who::Host, Pace::Quick),
    row("/houston.v1.Agent/CheckIn", Who::Host, Pace::Held),
    row("/houston.v1.Agent/FetchManifest", Who::Host, Pace::Quick),
    row("/houston.v1.Agent/FetchFiles", Who::Host, Pace::Quick),
    operator("/houston.v1.Operator/WhoAmI", Viewer, Somewhere),
    operator("/houston.v1.Operator/CreateToken", Admin, Everywhere),
    operator("/houston.v1.Operator/ListTokens", Admin, Everywhere),
    operator("/houston.v1.Operator/RevokeToken", Admin, Everywhere),
    operator("/houston.v1.Operator/AddOperator", Admin, Everywhere),
    operator("/houston.v1.Operator/ListOperators", Admin, Everywhere),
    operator("/houston.v1.Operator/RevokeOperator", Admin, Everywhere),
    operator("/houston.v1.Operator/ListHosts", Viewer, Somewhere),
    operator("/houston.v1.Operator/GetHost", Viewer, Somewhere),
    operator("/houston.v1.Operator/EditHost", Admin, Everywhere),
    operator("/houston.v1.Operator/DrainHost", Deployer, Everywhere),
    operator("/houston.v1.Operator/HoldHost", Deployer, Everywhere),
    operator("/houston.v1.Operator/RemoveHost", Admin, Everywhere),
    // One whose identity is in doubt needs more: see the handler.
    operator("/houston.v1.Operator/ReleaseHost", Deployer, Everywhere),
    operator("/houston.v1.Operator/RevokeHost", Admin, Everywhere),
    row("/houston.v1.Operator/PackageStart", Who::Operator(Deployer, Somewhere), Pace::Transfer),
    row("/houston.v1.Operator/UploadFiles", Who::Operator(Deployer, Somewhere), Pace::Transfer),
    operator("/houston.v1.Operator/PackageFinish", Deployer, Somewhere),
    operator("/houston.v1.Operator/ListPackages", Viewer, Somewhere),
    operator("/houston.v1.Operator/RemovePackage", Deployer, Everywhere),
    operator("/houston.v1.Operator/CreateVersionSet", Deployer, Somewhere),
    operator("/houston.v1.Operator/ListVersionSets", Viewer, Somewhere),
    operator("/houston.v1.Operator/GetVersionSet", Viewer, Somewhere),
    // The selector needs the role everywhere besides: see the handler.
    operator("/houston.v1.Operator/ApplyEnvironment", Admin, Environment),
    operator("/houston.v1.Operator/ListEnvironments", Viewer, Somewhere),
    operator("/houston.v1.Operator/GetEnvironment", Viewer, Environment),
    operator("/houston.v1.Operator/PlanRollout", Viewer, Environment),
    operator("/houston.v1.Operator/StartRollout", Deployer, Environment),
    row("/houston.v1.Operator/GetRollout", Who::Operator(Viewer, Environment), Pace::Held),
    operator("/houston.v1.Operator/ListRollouts", Viewer, Somewhere),
    operator("/houston.v1.Operator/ControlRollout", Deployer, Environment),
    operator("/houston.v1.Operator/DecideGate", Approver, Environment),
    operator("/houston.v1.Operator/Explain", Viewer, Environment),
];

/// The row of a request's path.
pub fn row_of(method: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.method == method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_one_row() {
        for row in TABLE {
            assert_eq!(TABLE.iter().filter(|other| other.method == row.method).count(), 1, "{}", row.method);
            assert_eq!(row_of(row.method), Some(row));
        }
        for unknown in
            ["", "/", "/houston.v1.Operator/", "/houston.v1.Operator/WhoAmI/", "houston.v1.Operator/WhoAmI"]
        {
            assert_eq!(row_of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_held_call_outlasts_every_hold() {
        let hold = Duration::from_secs(600);
        assert!(Pace::Held.limit(hold) > hold);
        assert!(Pace::Held.limit(Duration::ZERO) > ROLLOUT_WAIT_MAX);
    }
}
