//! Where a coordinator is, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Refusal};
use crate::id::quoted;

/// A DNS name or an IP address that a coordinator answers to; its certificate carries it.
/// An IPv6 address is written without brackets here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerName(rustls_pki_types::ServerName<'static>);

impl ServerName {
    pub(super) fn as_tls(&self) -> &rustls_pki_types::ServerName<'static> {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let name = rustls_pki_types::ServerName::try_from(text).map_err(|_| {
            let what = format!("\"{}\" is neither a DNS name nor an IP address", quoted(text));
            Refusal::new(Code::Address, what, "write a name as in coordinator.example, or an IP address")
        })?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    name: ServerName,
    port: u16,
}

impl Address {
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Address {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refuse = |reason: &str, next: &str| {
            Err(Refusal::new(Code::Address, format!("\"{}\" is not HOST:PORT: {reason}", quoted(text)), next))
        };
        if let Some((scheme, rest)) = text.split_once("://") {
            let next = format!("write {}, without {}://", quoted(rest.trim_end_matches('/')), quoted(scheme));
            return refuse("it has a scheme", &next);
        }
        let (name, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((name, port))) => (name, port.strip_prefix(':')),
            Some(None) => return refuse("a bracket is not closed", "write [::1]:7400"),
            None => match text.rsplit_once(':') {
                Some((name, _)) if name.contains(':') => {
                    return refuse("an IPv6 address stands in brackets", "write [::1]:7400");
                }
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let Some(port) = port else {
            return refuse("the port is missing", "add it, as in coordinator.example:7400");
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = match port.parse() {
            Ok(port) if digits && port != 0 => port,
            _ => return refuse("the port is not a number from 1 to 65535", ""),
        };
        if text.starts_with('[') && name.parse::<std::net::Ipv6Addr>().is_err() {
            return refuse("there is no IPv6 address in the brackets", "write [::1]:7400");
        }
        match name.parse() {
            Ok(name) => Ok(Self { name, port }),
            Err(_) => refuse("the host is neither a DNS name nor an IP address", ""),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.to_string();
        if name.contains(':') {
            write!(f, "[{name}]:{}", self.port)
        } else {
            write!(f, "{name}:{}", self.port)
        }
    }
}

impl TryFrom<String> for Address {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<std::net::SocketAddr> for Address {
    /// Port 0 cannot be connected to, but is kept: the socket address of a listener never has it.
    fn from(address: std::net::SocketAddr) -> Self {
        let ip = address.ip();
        Self { name: ServerName(rustls_pki_types::ServerName::IpAddress(ip.into())), port: address.port() }
    }
}
