//! What operators ask about hosts, tokens and operators, and pages of lists.

use std::time::Duration;

use super::enrollment::secret_text;
use super::release::{labels, to_labels};
use super::report::store_id;
use super::view::{WORD_BYTES_MAX, roles};
use super::{
    CSR_BYTES_MAX, InvalidField, LABELS_MAX, LINE_CHARS_MAX, LIST_MAX, Wire, at_least_one, between, blob,
    distinct, line, list, name, names, nested, optional_name, required_duration, required_line, to_list,
    to_names, wall_time, word,
};
use crate::api::wire;
use crate::clock::{DURATION_MAX, millis};
use crate::command::{
    AddOperator, CreateToken, CreatedToken, DrainHost, EditHost, HoldHost, HostChange, HostFilter, ListHosts,
    PAGE_MAX, Page, Paged, RevokeOperator, RevokeToken, WhoAmI,
};
use crate::id::{LabelKey, Version};
use crate::view::{EnvironmentView, HostView, OperatorView, PackageView, TokenView, VersionSetView};

/// A token that is needed for longer is made anew: it opens the fleet to whoever finds it.
pub(super) const TOKEN_LIFE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Hosts that one token enrolls.
const TOKEN_USES_MAX: u32 = 10_000;
/// Longest token of a page: room for the last key of any list.
const PAGE_TOKEN_CHARS_MAX: usize = 256;

impl Wire for Page {
    type Message = wire::Page;

    fn to_wire(&self) -> wire::Page {
        let Self { size, token } = self;
        wire::Page { size: *size, token: token.clone() }
    }

    fn from_wire(message: wire::Page) -> Result<Self, InvalidField> {
        let wire::Page { size, token } = message;
        Ok(Self { size: between("size", size, 1, PAGE_MAX)?, token: page_token("token", token)? })
    }
}

fn page_token(field: &str, token: Option<String>) -> Result<Option<String>, InvalidField> {
    token.map(|token| required_line(field, token, PAGE_TOKEN_CHARS_MAX)).transpose()
}

/// A list's answer: its entries, and where the next page starts.
macro_rules! paged {
    ($($item:ident in $message:ident . $items:ident),* $(,)?) => {$(
        impl Wire for Paged<$item> {
            type Message = wire::$message;

            fn to_wire(&self) -> wire::$message {
                let Self { items, next } = self;
                wire::$message { $items: to_list(items), next_page: next.clone() }
            }

            fn from_wire(message: wire::$message) -> Result<Self, InvalidField> {
                let wire::$message { $items: items, next_page } = message;
                Ok(Self {
                    items: list(stringify!($items), items, PAGE_MAX as usize)?,
                    next: page_token("next_page", next_page)?,
                })
            }
        }
    )*};
}

paged! {
    HostView in ListHostsResponse.hosts,
    PackageView in ListPackagesResponse.packages,
    VersionSetView in ListVersionSetsResponse.version_sets,
    EnvironmentView in ListEnvironmentsResponse.environments,
}

impl Wire for Vec<TokenView> {
    type Message = wire::ListTokensResponse;

    fn to_wire(&self) -> wire::ListTokensResponse {
        wire::ListTokensResponse { tokens: to_list(self) }
    }

    fn from_wire(message: wire::ListTokensResponse) -> Result<Self, InvalidField> {
        let wire::ListTokensResponse { tokens } = message;
        list("tokens", tokens, LIST_MAX)
    }
}

impl Wire for Vec<OperatorView> {
    type Message = wire::ListOperatorsResponse;

    fn to_wire(&self) -> wire::ListOperatorsResponse {
        wire::ListOperatorsResponse { operators: to_list(self) }
    }

    fn from_wire(message: wire::ListOperatorsResponse) -> Result<Self, InvalidField> {
        let wire::ListOperatorsResponse { operators } = message;
        list("operators", operators, LIST_MAX)
    }
}

impl Wire for WhoAmI {
    type Message = wire::WhoAmIResponse;

    fn to_wire(&self) -> wire::WhoAmIResponse {
        let Self { operator, roles, coordinator_version, store, regressed, server_time } = self;
        wire::WhoAmIResponse {
            operator: operator.to_string(),
            roles: to_list(roles),
            coordinator_version: coordinator_version.clone(),
            store: store.0.to_vec().into(),
            regressed: *regressed,
            server_time_ms: server_time.0,
        }
    }

    fn from_wire(message: wire::WhoAmIResponse) -> Result<Self, InvalidField> {
        let wire::WhoAmIResponse {
            operator,
            roles: bindings,
            coordinator_version,
            store,
            regressed,
            server_time_ms,
        } = message;
        Ok(Self {
            operator: name("operator", &operator)?,
            roles: roles("roles", bindings)?,
            coordinator_version: name::<Version>("coordinator_version", &coordinator_version)?.to_string(),
            store: store_id("store", &store)?,
            regressed,
            server_time: wall_time("server_time_ms", server_time_ms)?,
        })
    }
}

impl Wire for CreateToken {
    type Message = wire::CreateTokenRequest;

    fn to_wire(&self) -> wire::CreateTokenRequest {
        let Self { zone, labels, uses, valid_for, ephemeral, reason } = self;
        wire::CreateTokenRequest {
            zone: zone.to_string(),
            labels: to_labels(labels),
            uses: *uses,
            valid_for_ms: millis(*valid_for),
            ephemeral: *ephemeral,
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::CreateTokenRequest) -> Result<Self, InvalidField> {
        let wire::CreateTokenRequest { zone, labels: pairs, uses, valid_for_ms, ephemeral, reason } = message;
        Ok(Self {
            zone: name("zone", &zone)?,
            labels: labels("labels", pairs)?,
            uses: between("uses", uses, 1, TOKEN_USES_MAX)?,
            valid_for: required_duration("valid_for_ms", valid_for_ms, TOKEN_LIFE_MAX)?,
            ephemeral,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
        })
    }
}

impl Wire for CreatedToken {
    type Message = wire::CreateTokenResponse;

    fn to_wire(&self) -> wire::CreateTokenResponse {
        let Self { secret, token } = self;
        wire::CreateTokenResponse { secret: secret.clone(), token: Some(token.to_wire()) }
    }

    fn from_wire(message: wire::CreateTokenResponse) -> Result<Self, InvalidField> {
        let wire::CreateTokenResponse { secret, token } = message;
        Ok(Self { secret: secret_text("secret", secret)?, token: nested("token", token)? })
    }
}

impl Wire for RevokeToken {
    type Message = wire::RevokeTokenRequest;

    fn to_wire(&self) -> wire::RevokeTokenRequest {
        let Self { id, reason } = self;
        wire::RevokeTokenRequest { id: id.clone(), reason: reason.clone() }
    }

    fn from_wire(message: wire::RevokeTokenRequest) -> Result<Self, InvalidField> {
        let wire::RevokeTokenRequest { id, reason } = message;
        Ok(Self { id: word("id", id, WORD_BYTES_MAX)?, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}

impl Wire for AddOperator {
    type Message = wire::AddOperatorRequest;

    fn to_wire(&self) -> wire::AddOperatorRequest {
        let Self { name, roles, csr, reason } = self;
        wire::AddOperatorRequest {
            name: name.to_string(),
            roles: to_list(roles),
            csr: csr.clone().into(),
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::AddOperatorRequest) -> Result<Self, InvalidField> {
        let wire::AddOperatorRequest { name: operator, roles: bindings, csr, reason } = message;
        Ok(Self {
            name: name("name", &operator)?,
            roles: at_least_one("roles", roles("roles", bindings)?)?,
            csr: blob("csr", &csr, CSR_BYTES_MAX)?,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
        })
    }
}

impl Wire for RevokeOperator {
    type Message = wire::RevokeOperatorRequest;

    fn to_wire(&self) -> wire::RevokeOperatorRequest {
        let Self { name, reason } = self;
        wire::RevokeOperatorRequest { name: name.to_string(), reason: reason.clone() }
    }

    fn from_wire(message: wire::RevokeOperatorRequest) -> Result<Self, InvalidField> {
        let wire::RevokeOperatorRequest { name: operator, reason } = message;
        Ok(Self { name: name("name", &operator)?, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}

impl Wire for ListHosts {
    type Message = wire::ListHostsRequest;

    fn to_wire(&self) -> wire::ListHostsRequest {
        let Self { filter: HostFilter { environment, zone, labels, held }, page } = self;
        wire::ListHostsRequest {
            environment: environment.as_ref().map(ToString::to_string),
            zone: zone.as_ref().map(ToString::to_string),
            labels: to_labels(labels),
            page: Some(page.to_wire()),
            held: *held,
        }
    }

    fn from_wire(message: wire::ListHostsRequest) -> Result<Self, InvalidField> {
        let wire::ListHostsRequest { environment, zone, labels: pairs, page, held } = message;
        let filter = HostFilter {
            environment: optional_name("environment", environment)?,
            zone: optional_name("zone", zone)?,
            labels: labels("labels", pairs)?,
            held,
        };
        Ok(Self { filter, page: nested("page", page)? })
    }
}

impl Wire for EditHost {
    type Message = wire::EditHostRequest;

    fn to_wire(&self) -> wire::EditHostRequest {
        let Self { host, zone, set_labels, remove_labels, reason } = self;
        wire::EditHostRequest {
            host: host.to_string(),
            zone: zone.as_ref().map(ToString::to_string),
            set_labels: to_labels(set_labels),
            remove_labels: to_names(remove_labels),
            reason: reason.clone(),
        }
    }

    fn from_wire(message: wire::EditHostRequest) -> Result<Self, InvalidField> {
        let wire::EditHostRequest { host, zone, set_labels, remove_labels, reason } = message;
        let set_labels = labels("set_labels", set_labels)?;
        let remove_labels: Vec<LabelKey> = names("remove_labels", &remove_labels, LABELS_MAX)?;
        distinct("remove_labels", set_labels.keys().chain(&remove_labels))?;
        Ok(Self {
            host: name("host", &host)?,
            zone: optional_name("zone", zone)?,
            set_labels,
            remove_labels,
            reason: line("reason", reason, LINE_CHARS_MAX)?,
        })
    }
}

impl Wire for DrainHost {
    type Message = wire::DrainHostRequest;

    fn to_wire(&self) -> wire::DrainHostRequest {
        let Self { host, drained, reason } = self;
        wire::DrainHostRequest { host: host.to_string(), drained: *drained, reason: reason.clone() }
    }

    fn from_wire(message: wire::DrainHostRequest) -> Result<Self, InvalidField> {
        let wire::DrainHostRequest { host, drained, reason } = message;
        Ok(Self { host: name("host", &host)?, drained, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}

impl Wire for HoldHost {
    type Message = wire::HoldHostRequest;

    fn to_wire(&self) -> wire::HoldHostRequest {
        let Self { host, reason, duration } = self;
        wire::HoldHostRequest { host: host.to_string(), reason: reason.clone(), for_ms: duration.map(millis) }
    }

    fn from_wire(message: wire::HoldHostRequest) -> Result<Self, InvalidField> {
        let wire::HoldHostRequest { host, reason, for_ms } = message;
        Ok(Self {
            host: name("host", &host)?,
            reason: required_line("reason", reason, LINE_CHARS_MAX)?,
            duration: for_ms.map(|ms| required_duration("for_ms", ms, DURATION_MAX)).transpose()?,
        })
    }
}

impl Wire for HostChange {
    type Message = wire::HostChangeRequest;

    fn to_wire(&self) -> wire::HostChangeRequest {
        let Self { host, reason } = self;
        wire::HostChangeRequest { host: host.to_string(), reason: reason.clone() }
    }

    fn from_wire(message: wire::HostChangeRequest) -> Result<Self, InvalidField> {
        let wire::HostChangeRequest { host, reason } = message;
        Ok(Self { host: name("host", &host)?, reason: line("reason", reason, LINE_CHARS_MAX)? })
    }
}
