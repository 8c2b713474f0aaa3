//! The environment of hooks and services: exactly the allow-list, nothing of the agent's own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use houston_common::digest::ReleaseDigest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{EnvironmentName, HostId, Zone, quoted};
use houston_common::package::{PackageFile, is_reserved};
use houston_common::release::{SETTING_BYTES_MAX, Settings};

/// Where programs are looked up that are named without a path.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name of the variable that changes with every release, also for a package that does not.
pub const RELEASE: &str = "HOUSTON_RELEASE";

/// What a package's programs are told of where they run.
#[derive(Debug, Clone)]
pub struct Place {
    pub host: HostId,
    pub zone: Zone,
    pub environment: EnvironmentName,
    pub release: ReleaseDigest,
    /// The package's writable directory.
    pub data: PathBuf,
    /// Where the host's services listen and are probed.
    pub address: IpAddr,
}

/// Names with values; the names are not reserved and the values hold no NUL.
#[derive(Clone, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Collects what the package declares, from the settings, its defaults and the host's secret
    /// files, whose paths alone are passed on. Refused: a setting that is missing, reserved, too
    /// long or not a C string, and a secret file that is not there.
    pub fn of(place: &Place, package: &PackageFile, settings: &Settings) -> Result<Self, Refusal> {
        let data = place.data.to_str().ok_or_else(|| {
            Refusal::new(Code::State, "the state directory's path is not UTF-8", "choose another directory")
        })?;
        let mut variables = BTreeMap::from([
            ("PATH".to_owned(), PATH.to_owned()),
            ("HOUSTON_HOST".to_owned(), place.host.to_string()),
            ("HOUSTON_ZONE".to_owned(), place.zone.to_string()),
            ("HOUSTON_ENVIRONMENT".to_owned(), place.environment.to_string()),
            (RELEASE.to_owned(), place.release.to_string()),
            ("HOUSTON_DATA".to_owned(), data.to_owned()),
            ("HOUSTON_ADDRESS".to_owned(), place.address.to_string()),
        ]);
        for need in &package.settings {
            let value = settings.0.get(&need.key).or(need.default.as_ref()).ok_or_else(|| {
                let what = format!("package {} needs the setting {}", package.name, need.key);
                Refusal::new(Code::SettingMissing, what, "set it in the environment's settings")
            })?;
            check(need.key.as_str(), value)?;
            variables.insert(need.key.to_string(), value.clone());
        }
        for need in &package.secrets {
            check(need.variable.as_str(), &need.file)?;
            if !Path::new(&need.file).is_file() {
                let what = format!("package {} needs the secret file {}", package.name, quoted(&need.file));
                return Err(Refusal::new(Code::SecretMissing, what, "put the file on the host"));
            }
            variables.insert(need.variable.to_string(), need.file.clone());
        }
        Ok(Self(variables))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Values may be nobody's business: only names are shown.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn check(name: &str, value: &str) -> Result<(), Refusal> {
    let what = if is_reserved(name) {
        format!("the variable {name} is reserved")
    } else if value.contains('\0') {
        format!("the value of {name} has a NUL byte")
    } else if value.len() > SETTING_BYTES_MAX {
        format!("the value of {name} has {} bytes, above {SETTING_BYTES_MAX}", value.len())
    } else {
        return Ok(());
    };
    Err(Refusal::new(Code::HookEnvironment, what, "choose another name or value"))
}
