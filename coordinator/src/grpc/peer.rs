//! From a connection's certificate to a caller. Judged for every request anew, not only when the
//! connection was made, so that revocation and expiry reach connections that are open.

use houston_common::clock::WallTime;
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, HostId, OperatorName};
use houston_common::identity::{Peer, PeerCertificate, Utc};
use houston_common::view::{Role, RoleBinding};
use tonic::{Request, Status};

use super::access::{Row, Scope, Who};
use super::refused;
use crate::access::Operator;
use crate::engine::core::unknown_host;
use crate::service::Caller;
use crate::state::State;

/// Who has been let in, as an extension of the request. [`judge`] makes those that name somebody.
#[derive(Debug, Clone)]
pub struct Admitted(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Stranger,
    Host(HostCaller),
    Operator(OperatorCaller),
}

impl Admitted {
    /// Through the enrollment listener: nobody is known there.
    pub fn stranger() -> Self {
        Self(Kind::Stranger)
    }
}

/// A host that has proved to be itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCaller {
    pub host: HostId,
    /// SHA-256 of the public key that it spoke with: the enrolled one.
    pub key: Digest,
    /// The life of the certificate that it spoke with.
    pub issued: WallTime,
    pub expires: WallTime,
}

/// An operator who has proved to be itself and has the call's role, at least somewhere.
#[derive(Debug, Clone)]
pub struct OperatorCaller {
    operator: Operator,
    role: Role,
    scope: Scope,
}

impl OperatorCaller {
    pub fn name(&self) -> &OperatorName {
        &self.operator.name
    }

    pub fn roles(&self) -> &[RoleBinding] {
        &self.operator.roles
    }

    /// For calls that are about no environment. An environment's call never gets a caller here.
    pub fn anywhere(&self) -> Result<Caller, Refusal> {
        match self.scope {
            Scope::Everywhere | Scope::Somewhere => Ok(Caller::new(self.operator.name.clone())),
            Scope::Environment => {
                Err(Refusal::internal("a call about an environment asked for no role in it"))
            }
        }
    }

    /// For calls about an environment: E-ROLE without the role there.
    pub fn within(&self, environment: &EnvironmentName) -> Result<Caller, Refusal> {
        self.must(self.role, Some(environment))?;
        Ok(Caller::new(self.operator.name.clone()))
    }

    /// What a call needs beyond its row.
    pub fn must(&self, role: Role, environment: Option<&EnvironmentName>) -> Result<(), Refusal> {
        if self.operator.may(role, environment) {
            return Ok(());
        }
        let place = environment.map_or_else(|| "in all environments".to_owned(), |name| format!("in {name}"));
        Err(lacks_role(&self.operator, role, &place))
    }

    /// Whether it may look at the environment.
    pub fn sees(&self, environment: &EnvironmentName) -> bool {
        self.operator.may(Role::Viewer, Some(environment))
    }
}

fn lacks_role(operator: &Operator, role: Role, place: &str) -> Refusal {
    let what = format!("operator {} is not {} {place}", operator.name, role.as_str());
    Refusal::new(Code::Role, what, "ask an admin for the role")
}

/// Whether the holder of the certificate may make the call of this row. A certificate is none of the
/// enrollment listener's concern, and required everywhere else.
pub fn judge(
    state: &State,
    certificate: Option<&PeerCertificate>,
    row: &Row,
    now: WallTime,
) -> Result<Admitted, Refusal> {
    if row.who == Who::Stranger {
        return Ok(Admitted::stranger());
    }
    let certificate = certificate.ok_or_else(|| {
        Refusal::new(Code::Unauthenticated, "this call needs a client certificate", "name a credential")
    })?;
    if !certificate.covers(now) {
        let what = format!(
            "the certificate of {} is valid from {} to {}; here it is {}",
            certificate.peer,
            Utc(certificate.not_before),
            Utc(certificate.not_after),
            Utc(now)
        );
        return Err(Refusal::new(Code::CertificateExpired, what, "renew it, or set the clock"));
    }
    match (&certificate.peer, row.who) {
        (Peer::Host(host), Who::Host) => judge_host(state, host, certificate).map(Kind::Host).map(Admitted),
        (Peer::Operator(name), Who::Operator(role, scope)) => {
            let operator = state.access.operators.get(name).filter(|operator| {
                !operator.revoked && operator.key == certificate.public_key.fingerprint().0
            });
            let operator =
                operator.ok_or_else(|| revoked(&certificate.peer, "ask an admin for a new credential"))?;
            let reaches = match scope {
                Scope::Everywhere => operator.may(role, None),
                Scope::Somewhere | Scope::Environment => operator.may_somewhere(role),
            };
            if !reaches {
                let place = if scope == Scope::Everywhere { "in all environments" } else { "anywhere" };
                return Err(lacks_role(operator, role, place));
            }
            Ok(Admitted(Kind::Operator(OperatorCaller { operator: operator.clone(), role, scope })))
        }
        (peer, _) => {
            let what = format!("{peer} may not make this call: it is not for its kind of caller");
            Err(Refusal::new(
                Code::Role,
                what,
                "hosts call the agent service, operators the operator service",
            ))
        }
    }
}

fn judge_host(state: &State, host: &HostId, certificate: &PeerCertificate) -> Result<HostCaller, Refusal> {
    let entry = state.fleet.get(host).ok_or_else(|| unknown_host(host))?;
    let key = certificate.public_key.fingerprint().0;
    if entry.host.revoked || entry.host.key != key {
        return Err(revoked(&certificate.peer, "enroll the host again"));
    }
    let (issued, expires) = (certificate.not_before, certificate.not_after);
    Ok(HostCaller { host: host.clone(), key, issued, expires })
}

fn revoked(peer: &Peer, next: &str) -> Refusal {
    Refusal::new(Code::Unauthenticated, format!("the certificate of {peer} is revoked or unknown"), next)
}

/// The host that the gate has let in.
pub fn host<T>(request: &Request<T>) -> Result<HostCaller, Status> {
    match request.extensions().get() {
        Some(Admitted(Kind::Host(caller))) => Ok(caller.clone()),
        _ => Err(refused(&not_admitted())),
    }
}

/// The operator that the gate has let in.
pub fn operator<T>(request: &Request<T>) -> Result<OperatorCaller, Status> {
    match request.extensions().get() {
        Some(Admitted(Kind::Operator(caller))) => Ok(caller.clone()),
        _ => Err(refused(&not_admitted())),
    }
}

fn not_admitted() -> Refusal {
    Refusal::new(Code::Unauthenticated, "the request has not passed the gate", "")
}

#[cfg(test)]
mod tests;
