//! Who owns a service name or a port on this host: one small file for each, so that two environments
//! cannot take the same one.

use std::collections::BTreeSet;
use std::io;

use houston_common::error::{Code, Refusal};
use houston_common::id::EnvironmentName;

use super::dir::{Dir, refused};
use super::service::ServiceKey;

/// An environment's name.
const CLAIM_BYTES_MAX: u64 = 64;

#[derive(Debug)]
pub struct Claims {
    dir: Dir,
}

/// What only one environment of a host can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// By the name of its unit, which two environments could share.
    Service(String),
    /// TCP.
    Port(u16),
}

impl Claim {
    pub fn service(key: &ServiceKey) -> Self {
        Self::Service(key.to_string())
    }

    fn file(&self) -> String {
        match self {
            Self::Service(unit) => format!("service.{unit}"),
            Self::Port(port) => format!("port.{port}"),
        }
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(unit) => write!(f, "the service {unit}"),
            Self::Port(port) => write!(f, "port {port}"),
        }
    }
}

impl Claims {
    pub fn open(state: &Dir) -> Result<Self, Refusal> {
        let dir = state.ensure("claims", 0o700).map_err(|e| refused("opening the claims", &e))?;
        Ok(Self { dir })
    }

    /// Takes all of them for an environment, beside what it has, or none: `E-SERVICE-OWNED` names
    /// the owner of the first that is taken. For one caller at a time.
    pub fn take(&self, environment: &EnvironmentName, wanted: &BTreeSet<Claim>) -> Result<(), Refusal> {
        let mut free = Vec::new();
        for claim in wanted {
            match self.owner(claim)? {
                Some(owner) if owner == *environment => {}
                Some(owner) => {
                    let what = format!("{claim} belongs to the environment \"{owner}\" on this host");
                    let next =
                        "give the service another name or port, or take the host out of one of the two";
                    return Err(Refusal::new(Code::ServiceOwned, what, next));
                }
                None => free.push(claim),
            }
        }
        for claim in free {
            self.dir
                .replace(claim.file(), environment.as_str().as_bytes())
                .map_err(|e| refused(format!("claiming {claim}"), &e))?;
        }
        Ok(())
    }

    /// Gives up all that an environment has, but for these.
    pub fn keep(&self, environment: &EnvironmentName, kept: &BTreeSet<Claim>) -> Result<(), Refusal> {
        let releasing = |e: io::Error| refused("giving up claims", &e);
        let kept: BTreeSet<String> = kept.iter().map(Claim::file).collect();
        for name in self.dir.names().map_err(releasing)? {
            let Some(name) = name.to_str() else { continue };
            if !kept.contains(name) && self.read(name).map_err(releasing)?.as_ref() == Some(environment) {
                self.dir.remove(name).map_err(releasing)?;
            }
        }
        self.dir.sync().map_err(releasing)
    }

    pub fn owner(&self, claim: &Claim) -> Result<Option<EnvironmentName>, Refusal> {
        self.read(&claim.file()).map_err(|e| refused(format!("asking who has {claim}"), &e))
    }

    /// A file that no name can be read from claims nothing.
    fn read(&self, file: &str) -> io::Result<Option<EnvironmentName>> {
        let bytes = self.dir.read(file, CLAIM_BYTES_MAX)?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_environments_until_it_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        let claims = Claims::open(&Dir::open(temp.path()).unwrap()).unwrap();
        let (prod, test): (EnvironmentName, EnvironmentName) =
            ("prod".parse().unwrap(), "test".parse().unwrap());
        let set = |ports: &[u16]| ports.iter().map(|port| Claim::Port(*port)).collect::<BTreeSet<_>>();
        claims.take(&prod, &set(&[80, 81])).unwrap();
        claims.take(&prod, &set(&[80, 81])).unwrap();
        let refusal = claims.take(&test, &set(&[79, 81])).unwrap_err();
        assert_eq!(refusal.code, Code::ServiceOwned);
        assert!(refusal.what.contains("port 81") && refusal.what.contains("\"prod\""), "{refusal}");
        assert_eq!(claims.owner(&Claim::Port(79)).unwrap(), None, "taken in part");
        claims.keep(&prod, &set(&[80])).unwrap();
        claims.take(&test, &set(&[79, 81])).unwrap();
        assert_eq!(claims.owner(&Claim::Port(80)).unwrap(), Some(prod));
    }
}
