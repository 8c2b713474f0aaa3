//! `houston-agent status`: what this host believes, read from its files. Asks nobody and changes nothing.

use std::fmt::Write as _;
use std::path::Path;

use houston_common::error::{Code, Refusal};
use houston_common::id::EnvironmentName;

use crate::apply::failure::shown;
use crate::apply::journal::{self, RecordFiles};
use crate::config;
use crate::host::Record;
use crate::host::dir::{Dir, refused};
use crate::host::linux::HEALTH;
use crate::host::release_dir::StateDir;
use crate::identity_dir;
use crate::lock::Lock;

const HEALTH_BYTES_MAX: u64 = 4 << 10;

/// A few lines for a person. E-STATE if no host is enrolled there.
pub fn status(directory: &Path) -> Result<String, Refusal> {
    let dir =
        Dir::open(directory).map_err(|e| refused(format!("opening {}", config::shown(directory)), &e))?;
    let record = identity_dir::read_record(&dir, directory)?.ok_or_else(|| {
        let what = format!("no host is enrolled in {}", config::shown(directory));
        Refusal::new(Code::State, what, "enroll it with `houston-agent enroll`")
    })?;
    let is_running = Lock::is_held(directory);
    let mut text = String::new();
    let agent = if is_running { "runs" } else { "does not run" };
    let _ = writeln!(text, "host {}, zone {}, coordinator {}", record.host, record.zone, record.coordinator);
    let _ = writeln!(text, "the agent {agent}");
    let state = StateDir::open(directory)?;
    for name in state.environments()? {
        text += &environment(&state, &name, is_running)?;
    }
    Ok(text)
}

fn environment(state: &StateDir, name: &EnvironmentName, is_running: bool) -> Result<String, Refusal> {
    let dir = state.environment(name)?;
    let runs = match dir.current() {
        Ok(Some(release)) => format!("runs {}", release.short()),
        Ok(None) => "runs nothing".to_owned(),
        Err(refusal) => refusal.what,
    };
    let journal = RecordFiles::open(dir.path())?.read(Record::Journal)?;
    let (phase, failure) = match journal.as_deref().map(journal::read_state) {
        None => ("idle".to_owned(), None),
        Some(Ok(state)) => {
            let (phase, failure) = state.report();
            (
                phase.as_str().to_owned(),
                failure.map(|failure| format!("{}: {}", failure.code, failure.message)),
            )
        }
        Some(Err(unreadable)) => ("unknown".to_owned(), Some(format!("the journal: {unreadable}"))),
    };
    let health = dir.dir().read(HEALTH, HEALTH_BYTES_MAX).ok().flatten().unwrap_or_default();
    let health = shown(String::from_utf8_lossy(&health).trim());
    let health = if is_running && !health.is_empty() { health } else { "health unknown".to_owned() };
    let mut text = format!("environment {name}: {phase}, {runs}, {health}\n");
    if let Some(failure) = failure {
        let _ = writeln!(text, "  {failure}");
    }
    Ok(text)
}
