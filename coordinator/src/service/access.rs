//! Join tokens and operators.
#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

#[cfg(test)]
mod tests;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{AddOperator, CreateToken, RevokeOperator, RevokeToken};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::{EnvironmentName, quoted};
use houston_common::view::{OperatorView, Role, RoleBinding, TokenView};

use super::{Caller, Change, environment, views};
use crate::access::{Operator, Token};
use crate::engine::core::Decided;
use crate::state::{Edit, State};

/// Tokens that can be used at one time: a list of them fits one answer. Who needs more wants tokens
/// with more uses.
pub const TOKENS_MAX: usize = 1000;
/// Operators, the revoked ones included: a list of them fits one answer.
pub const OPERATORS_MAX: usize = 1000;
/// Spent tokens forgotten with each new one: two for one keeps their number falling.
const TOKENS_FORGOTTEN: usize = 2;

/// What is random in a token, made outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenParts {
    /// The public half.
    pub id: String,
    /// SHA-256 of the secret half, of at least 128 random bits.
    pub secret: Digest,
}

/// E-LIMIT.
pub fn create_token(
    state: &State,
    caller: &Caller,
    request: &CreateToken,
    parts: TokenParts,
    now: FleetTime,
    wall: WallTime,
) -> Result<Decided<TokenView>, Refusal> {
    if usable_tokens(state, now, wall).count() >= TOKENS_MAX {
        let what = format!("there are {TOKENS_MAX} join tokens that can be used");
        return Err(Refusal::new(Code::Limit, what, "revoke some with `houston token revoke`"));
    }
    if state.access.tokens.contains_key(&parts.id) {
        return Err(Refusal::internal("two join tokens with one id"));
    }
    let CreateToken { zone, labels, uses, valid_for, ephemeral, reason } = request;
    let token = Token {
        id: parts.id,
        secret: parts.secret,
        zone: zone.clone(),
        labels: labels.clone(),
        uses_left: *uses,
        expires: now.plus(*valid_for),
        expires_at: wall.plus(*valid_for),
        ephemeral: *ephemeral,
        created_by: caller.name.clone(),
    };
    let expired = state.access.tokens.values().filter(|token| token.has_expired(now, wall));
    let mut edits: Vec<Edit> =
        expired.take(TOKENS_FORGOTTEN).map(|token| Edit::ForgetToken(token.id.clone())).collect();
    let view = views::token(&token, now, wall);
    let change = Change {
        what: format!("token.create {}", token.id),
        why: reason,
        before: String::new(),
        after: format!(
            "zone {zone}, {uses} uses, labels {}{}",
            views::labels_text(labels),
            if *ephemeral { ", ephemeral" } else { "" }
        ),
    };
    edits.push(Edit::Token(token));
    Ok(caller.change(edits, change, view))
}

/// Those that can still be used.
pub fn list_tokens(state: &State, now: FleetTime, wall: WallTime) -> Vec<TokenView> {
    usable_tokens(state, now, wall).map(|token| views::token(token, now, wall)).collect()
}

fn usable_tokens(state: &State, now: FleetTime, wall: WallTime) -> impl Iterator<Item = &Token> {
    state.access.tokens.values().filter(move |token| token.uses_left > 0 && !token.has_expired(now, wall))
}

/// E-TOKEN-UNKNOWN.
pub fn revoke_token(state: &State, caller: &Caller, request: &RevokeToken) -> Result<Decided<()>, Refusal> {
    let Some(token) = state.access.tokens.get(&request.id) else {
        let what = format!("no join token \"{}\"", quoted(&request.id));
        return Err(Refusal::new(Code::TokenUnknown, what, "list them with `houston token list`"));
    };
    let change = Change {
        what: format!("token.revoke {}", token.id),
        why: &request.reason,
        before: format!("zone {}, {} uses left", token.zone, token.uses_left),
        after: String::new(),
    };
    Ok(caller.change(vec![Edit::ForgetToken(token.id.clone())], change, ()))
}

/// Enters an operator who will speak with this key. A revoked operator's name may be given again, with
/// another key. E-OPERATOR-EXISTS, E-CSR, E-ENV-UNKNOWN, E-LIMIT.
pub fn add_operator(
    state: &State,
    caller: &Caller,
    request: &AddOperator,
    key: Digest,
    certificate_expires: WallTime,
) -> Result<Decided<()>, Refusal> {
    let AddOperator { name, roles, csr: _, reason } = request;
    let before = state.access.operators.get(name);
    match before {
        Some(before) if !before.revoked => {
            let next = "choose another name, or revoke this one first";
            return Err(Refusal::new(Code::OperatorExists, format!("operator \"{name}\" exists"), next));
        }
        // Who was revoked may have lost the key to somebody else.
        Some(before) if before.key == key => {
            let what = format!("this key of operator \"{name}\" was revoked");
            return Err(Refusal::new(Code::Csr, what, "make a new key"));
        }
        None if state.access.operators.len() >= OPERATORS_MAX => {
            let what = format!("there are {OPERATORS_MAX} operators");
            return Err(Refusal::new(Code::Limit, what, "give people the name of one that was revoked"));
        }
        Some(_) | None => {}
    }
    for name in roles.iter().filter_map(|binding| binding.environment.as_ref()) {
        environment(state, name)?;
    }
    let operator =
        Operator { name: name.clone(), roles: roles.clone(), key, certificate_expires, revoked: false };
    let change = Change {
        what: format!("operator.add {name}"),
        why: reason,
        before: before.map(|_| "revoked".to_owned()).unwrap_or_default(),
        after: roles_text(roles),
    };
    Ok(caller.change(vec![Edit::Operator(operator)], change, ()))
}

pub fn list_operators(state: &State) -> Vec<OperatorView> {
    state.access.operators.values().map(views::operator).collect()
}

/// E-OPERATOR-UNKNOWN, E-LAST-ADMIN. Who is revoked already stays so.
pub fn revoke_operator(
    state: &State,
    caller: &Caller,
    request: &RevokeOperator,
) -> Result<Decided<()>, Refusal> {
    let Some(operator) = state.access.operators.get(&request.name) else {
        let known = state.access.operators.keys().map(|name| name.as_str());
        let next = match nearest(request.name.as_str(), known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "list them with `houston operator list`".to_owned(),
        };
        return Err(Refusal::new(Code::OperatorUnknown, format!("no operator \"{}\"", request.name), next));
    };
    if operator.revoked {
        return Ok(Decided::nothing(()));
    }
    let mut admins = state.access.operators.values().filter(|other| other.may(Role::Admin, None));
    if operator.may(Role::Admin, None) && admins.nth(1).is_none() {
        return Err(Refusal::new(
            Code::LastAdmin,
            format!("{} is the last operator with the role admin everywhere", request.name),
            "add another one with `houston operator add` first",
        ));
    }
    let revoked = Operator { revoked: true, ..operator.clone() };
    let change = Change {
        what: format!("operator.revoke {}", request.name),
        why: &request.reason,
        before: roles_text(&operator.roles),
        after: "revoked".to_owned(),
    };
    Ok(caller.change(vec![Edit::Operator(revoked)], change, ()))
}

fn roles_text(roles: &[RoleBinding]) -> String {
    let role = |binding: &RoleBinding| {
        let place = binding.environment.as_ref().map_or("all environments", EnvironmentName::as_str);
        format!("{} in {place}", binding.role.as_str())
    };
    roles.iter().map(role).collect::<Vec<_>>().join(", ")
}
