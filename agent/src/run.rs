//! `houston-agent run`: everything put together.

use std::path::Path;
use std::sync::Arc;

use houston_common::clock::WallTime;
use houston_common::error::Refusal;
use houston_common::tls::ClockFloor;
use tokio::runtime::Handle;

use crate::boot_clock::BootClock;
use crate::config::{Config, RunnerKind};
use crate::host::dir::{Dir, refused};
use crate::host::exec::ExecProgram;
use crate::host::linux::{Linux, Site};
use crate::identity_dir::{self, IdentityDir};
use crate::inventory;
use crate::lock::Lock;
use crate::random;
use crate::start::Start;
use crate::supervisor::Supervisor;
use crate::sync::credentials::Credentials;
use crate::sync::vouched::Vouched;
use crate::sync::{self, Sync};

/// What an agent that ends leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// What runs keeps running: services are the host's, not the agent's.
    Services,
    /// A trial's services end with it.
    Nothing,
}

/// Runs the agent of an enrolled host until `stop`. E-STATE if none is enrolled there. To be called on a runtime's only thread, which then
/// waits for the network alone. What runs keeps running when this returns.
pub async fn run(
    directory: &Path,
    config: &Config,
    exec: ExecProgram,
    leave: Leave,
    stop: impl Future<Output = ()>,
) -> Result<(), Refusal> {
    // Known before anything is made in the directory.
    identity_dir::enrolled(directory)?;
    let _lock = Lock::take(directory)?;
    let floor = ClockFloor::new();
    let identity = IdentityDir::open(directory)?;
    let vouched = Vouched::open(identity.dir()?, floor.clone())?;
    let credentials = Credentials::load(identity, floor)?;
    let clock = BootClock::new()?;
    let state = Dir::open(directory).map_err(|e| refused("opening the state directory", &e))?;
    let now = WallTime::from_system(std::time::SystemTime::now());
    let start = Start::next(&state, random::number(), now)?;
    let record = credentials.record();
    tracing::info!(host = %record.host, zone = %record.zone, coordinator = %record.coordinator, start = start.counter, "starting");
    let platforms = inventory::platforms();
    let site = Site {
        host: record.host.clone(),
        zone: record.zone.clone(),
        address: config.address,
        platforms: platforms.clone(),
    };
    let link = Arc::clone(credentials.link());
    let linux = match config.runner {
        RunnerKind::Direct => Linux::open(directory, site, exec, link, Handle::current())?,
    };
    // What should run runs from here on, whether or not there is a coordinator.
    let linux = Arc::new(linux);
    let supervisor = Supervisor::start(Arc::clone(&linux), clock)?;
    let own = Sync { supervisor, credentials, clock, vouched, start, platforms, state: directory.to_owned() };
    let ended = sync::run(own, stop).await;
    match leave {
        Leave::Services => ended,
        Leave::Nothing => linux.services().stop_all().and(ended),
    }
}

#[cfg(test)]
mod tests {
    use houston_common::error::Code;

    use super::*;

    #[tokio::test]
    async fn where_no_host_is_enrolled_nothing_is_run_or_made() {
        let temp = tempfile::tempdir().expect("directory");
        for directory in [temp.path().to_owned(), temp.path().join("none")] {
            let exec = ExecProgram::new("/proc/self/exe");
            let stop = std::future::ready(());
            let ran = run(&directory, &Config::default(), exec, Leave::Services, stop).await;
            let refusal = ran.expect_err("nobody is enrolled");
            assert_eq!(refusal.code, Code::State);
            assert!(refusal.what.contains("no host is enrolled in"), "{refusal}");
        }
        assert_eq!(std::fs::read_dir(temp.path()).expect("directory").count(), 0);
    }
}
