//! How hosts come in, and how they renew their certificates.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use std::fmt;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::HOST_ENVIRONMENTS_MAX;
use houston_common::id::{HostId, Zone, quoted};

use super::super::views::labels_text;
use crate::access::Token;
use crate::engine::core::{Decided, Note};
use crate::fleet::{Entry, Host};
use crate::state::{Edit, State};

/// A machine's request to become a host, its key proved by its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrollment {
    /// The token's public half.
    pub token: String,
    /// SHA-256 of the token's secret half.
    pub secret: Digest,
    /// What the machine would like to be called.
    pub suggested: Option<HostId>,
    /// Random: makes the name an id that was never given. Of `[a-z0-9]`, at most 16.
    pub suffix: String,
    /// SHA-256 of the public key.
    pub key: Digest,
    /// The public key, DER.
    pub key_der: Vec<u8>,
    /// Of the certificate that will be issued.
    pub certificate_expires: WallTime,
}

/// What the host's certificate is issued for, once this is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub host: HostId,
    pub zone: Zone,
}

/// Why a token was not accepted. For the audit log alone: whoever shows a token learns nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenRefused {
    Unknown,
    Secret,
    Expired,
    Used,
}

impl fmt::Display for TokenRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "never made, revoked, or expired and forgotten",
            Self::Secret => "wrong secret",
            Self::Expired => "expired",
            Self::Used => "used up",
        })
    }
}

/// The name of hosts that suggest none.
const UNNAMED: &str = "host";
/// A host id's longest text.
const HOST_ID_CHARS_MAX: usize = 63;

/// Takes a new host in: its record, its memberships and one use of the token in one commit. A machine
/// that asks again with the same key, because it never heard the answer, is the host that it was.
///
/// A token that is not accepted comes as a decision too, since the audit log says why: the inner
/// result is E-TOKEN, the same for every reason.
pub fn enroll(
    state: &State,
    request: &Enrollment,
    now: FleetTime,
    wall: WallTime,
) -> Result<Decided<Result<Joined, Refusal>>, Refusal> {
    let token = match judge(state, request, now, wall) {
        Ok(token) => token,
        Err(refused) => return Ok(refuse(request, refused)),
    };
    if let Some(known) = known_by_key(state, request, token) {
        return Ok(again(known, request, wall));
    }
    if token.uses_left == 0 {
        return Ok(refuse(request, TokenRefused::Used));
    }
    let host = Host {
        id: named(state, request)?,
        zone: token.zone.clone(),
        labels: token.labels.clone(),
        key: request.key,
        key_der: request.key_der.clone(),
        certificate_expires: request.certificate_expires,
        enrolled_at: wall,
        ephemeral: token.ephemeral,
        revoked: false,
        drained: false,
        held: None,
        start: None,
    };
    let members = state.memberships(&host);
    if members.len() > HOST_ENVIRONMENTS_MAX {
        let what = format!("{} would belong to {} environments", host.id, members.len());
        return Err(Refusal::new(Code::Limit, what, format!("at most {HOST_ENVIRONMENTS_MAX} are allowed")));
    }
    let note = Note {
        who: format!("host/{}", host.id),
        what: format!("host.enroll {}", host.id),
        why: format!("join token {}", token.id),
        before: String::new(),
        after: format!("zone {}, labels {}, key {}", host.zone, labels_text(&host.labels), host.key),
    };
    let reply = Joined { host: host.id.clone(), zone: host.zone.clone() };
    // A token without uses left is kept until it expires, so that the log can say what became of it.
    let token = Token { uses_left: token.uses_left - 1, ..token.clone() };
    let mut edits = vec![Edit::Host(host)];
    edits.extend(members.into_iter().map(Edit::Member));
    edits.push(Edit::Token(token));
    Ok(Decided { edits, note: Some(note), reply: Ok(reply) })
}

fn judge<'a>(
    state: &'a State,
    request: &Enrollment,
    now: FleetTime,
    wall: WallTime,
) -> Result<&'a Token, TokenRefused> {
    let token = state.access.tokens.get(&request.token).ok_or(TokenRefused::Unknown)?;
    // Digests of random secrets: how long their comparison takes tells nothing of either secret.
    if token.secret != request.secret {
        Err(TokenRefused::Secret)
    } else if token.has_expired(now, wall) {
        Err(TokenRefused::Expired)
    } else {
        Ok(token)
    }
}

fn refuse(request: &Enrollment, refused: TokenRefused) -> Decided<Result<Joined, Refusal>> {
    let note = Note {
        who: "houston".to_owned(),
        what: "host.enroll_refused".to_owned(),
        why: format!("join token \"{}\": {refused}", quoted(&request.token)),
        before: String::new(),
        after: format!("key {}", request.key),
    };
    let refusal = Refusal::new(
        Code::Token,
        "the join token was not accepted",
        "make a new one with `houston token create`",
    );
    Decided { edits: Vec::new(), note: Some(note), reply: Err(refusal) }
}

/// The host that has this key already, if the token could have let it in.
fn known_by_key<'a>(state: &'a State, request: &Enrollment, token: &Token) -> Option<&'a Entry> {
    let mut known = state.fleet.with_key(&request.key);
    known.find(|entry| !entry.host.revoked && entry.host.zone == token.zone)
}

fn again(known: &Entry, request: &Enrollment, wall: WallTime) -> Decided<Result<Joined, Refusal>> {
    if is_as_before(&known.host, request.certificate_expires, wall) {
        let reply = Joined { host: known.host.id.clone(), zone: known.host.zone.clone() };
        return Decided::nothing(Ok(reply));
    }
    let host = Host { certificate_expires: request.certificate_expires, ..known.host.clone() };
    let note = Note {
        who: format!("host/{}", host.id),
        what: format!("host.enroll {}", host.id),
        why: format!("join token {}, again with the same key", request.token),
        before: String::new(),
        after: String::new(),
    };
    let reply = Joined { host: host.id.clone(), zone: host.zone.clone() };
    Decided { edits: vec![Edit::Host(host)], note: Some(note), reply: Ok(reply) }
}

/// An id that no host has: the suggested name, cut so that the suffix fits.
fn named(state: &State, request: &Enrollment) -> Result<HostId, Refusal> {
    let name = request.suggested.as_ref().map_or(UNNAMED, HostId::as_str);
    let room = HOST_ID_CHARS_MAX.saturating_sub(request.suffix.len() + 1);
    let name = name[..name.len().min(room)].trim_end_matches('-');
    let id = format!("{name}-{}", request.suffix);
    let id: HostId = id.parse().map_err(|error| Refusal::internal(format!("{error}")))?;
    if state.fleet.get(&id).is_some() {
        // Somebody else drew the same suffix.
        return Err(Refusal::new(Code::Busy, format!("host id {id} is taken"), "try again"));
    }
    Ok(id)
}

/// Lets a host renew its certificate with the key that it enrolled. The one refusal for every reason
/// is E-AUTH.
pub fn renew(
    state: &State,
    host: &HostId,
    key: &Digest,
    certificate_expires: WallTime,
    wall: WallTime,
) -> Result<Decided<Joined>, Refusal> {
    let before = &known(state, host)?.host;
    if before.key != *key {
        return Err(not_renewed(host));
    }
    let reply = Joined { host: host.clone(), zone: before.zone.clone() };
    if is_as_before(before, certificate_expires, wall) {
        return Ok(Decided::nothing(reply));
    }
    let note = Note {
        who: format!("host/{host}"),
        what: format!("host.renew {host}"),
        why: String::new(),
        before: before.certificate_expires.0.to_string(),
        after: certificate_expires.0.to_string(),
    };
    let after = Host { certificate_expires, ..before.clone() };
    Ok(Decided { edits: vec![Edit::Host(after)], note: Some(note), reply })
}

/// Whether a new certificate ends about when the host's newest does: it asks again because it never heard
/// the answer, or because it means harm. It gets its answer, and nothing is written.
fn is_as_before(host: &Host, certificate_expires: WallTime, wall: WallTime) -> bool {
    let (stored, new) = (host.certificate_expires, certificate_expires);
    new.since(stored).max(stored.since(new)) < new.since(wall) / 16
}

/// The public key (DER) by which an enrolled host whose certificate has expired must sign. E-AUTH.
pub fn renewal_key(state: &State, host: &HostId) -> Result<Vec<u8>, Refusal> {
    known(state, host).map(|entry| entry.host.key_der.clone())
}

fn known<'a>(state: &'a State, host: &HostId) -> Result<&'a Entry, Refusal> {
    state.fleet.get(host).filter(|entry| !entry.host.revoked).ok_or_else(|| not_renewed(host))
}

fn not_renewed(host: &HostId) -> Refusal {
    let what = format!("{host} may not renew its certificate: it is unknown, revoked or has another key");
    Refusal::new(Code::Unauthenticated, what, "enroll the host again with a join token")
}
