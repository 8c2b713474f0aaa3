//! `houston-agent status`: what this host believes, read from its files. Asks nobody and changes nothing.

use std::fmt::Write as _;
use std::path::Path;

use houston_common::error::Refusal;
use houston_common::id::EnvironmentName;
use houston_common::release::ReleaseContent;

use crate::apply::failure::shown;
use crate::apply::journal::{self, RecordFiles};
use crate::host::Record;
use crate::host::linux::HEALTH;
use crate::host::release_dir::StateDir;
use crate::identity_dir;
use crate::lock::Lock;

const HEALTH_BYTES_MAX: u64 = 4 << 10;

/// A few lines for a person. E-STATE if no host is enrolled there.
pub fn status(directory: &Path) -> Result<String, Refusal> {
    let record = identity_dir::enrolled(directory)?;
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
    let runs =
        match dir.current().and_then(|current| current.map(|release| dir.content(&release)).transpose()) {
            Ok(content) => runs(content.as_ref()),
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

/// In the words of `houston version-set show` and `houston host show`.
fn runs(content: Option<&ReleaseContent>) -> String {
    let Some(content) = content.filter(|content| !content.version_set.packages.is_empty()) else {
        return "runs nothing".to_owned();
    };
    let packages = content.version_set.packages.iter();
    let packages: Vec<_> = packages.map(|package| format!("{}@{}", package.name, package.version)).collect();
    let release = content.release();
    let (set, settings) = (release.version_set.short(), release.settings.short());
    format!("runs {} (version set {set}, settings {settings})", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use houston_common::error::Code;
    use houston_common::release::{PackageVersion, Release, Settings, VersionSet};

    use super::*;

    #[test]
    fn where_no_host_is_enrolled_the_way_to_one_is_named_and_nothing_is_made() {
        let temp = tempfile::tempdir().expect("directory");
        for directory in [temp.path().to_owned(), temp.path().join("none")] {
            let refusal = status(&directory).expect_err("nobody is enrolled");
            assert_eq!(refusal.code, Code::State);
            assert!(refusal.what.contains("no host is enrolled in"), "{refusal}");
            assert!(refusal.next.contains("houston-agent enroll"), "{refusal}");
        }
        assert_eq!(std::fs::read_dir(temp.path()).expect("directory").count(), 0);
    }

    #[test]
    fn what_runs_is_named_as_operators_know_it() {
        let package = |name: &str, version: &str| PackageVersion {
            name: name.parse().expect("name"),
            version: version.parse().expect("version"),
            trees: BTreeMap::new(),
        };
        let packages = vec![package("web", "1.4.2"), package("proxy", "3.0")];
        let content = ReleaseContent {
            version_set: Arc::new(VersionSet { packages }),
            settings: Arc::new(Settings::default()),
        };
        let Release { version_set, settings } = content.release();
        let expected = format!(
            "runs web@1.4.2 proxy@3.0 (version set {}, settings {})",
            version_set.short(),
            settings.short()
        );
        assert_eq!(runs(Some(&content)), expected);
        assert_eq!(runs(Some(&ReleaseContent::empty())), "runs nothing");
        assert_eq!(runs(None), "runs nothing");
    }
}
