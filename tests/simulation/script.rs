//! Releases with a script: what each version does to a host, as real package files that the agent reads
//! by its real parser.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use houston_common::digest::{Digest, TreeDigest};
use houston_common::id::Platform;
use houston_common::package::PackageFile;
use houston_common::release::PackageVersion;

use super::name;
use super::random::Random;

/// How a version of the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Fine,
    /// Its health check fails from the start.
    SickAtOnce,
    /// The same, in one zone alone.
    SickIn(usize),
    /// It is well, and turns bad so many milliseconds after each start.
    SickAfter(u64),
    /// The service cannot be started.
    StartFails,
    /// Its start hook never ends by itself.
    StartHangs,
    /// Its check hook refuses every host.
    CheckRefuses,
    /// Its stop hook fails: whatever replaces it must pass.
    StopFails,
}

impl Manner {
    /// Whether no host can settle on it.
    pub(super) fn is_bad_everywhere(self) -> bool {
        match self {
            Self::SickAtOnce | Self::StartFails | Self::StartHangs => true,
            Self::Fine | Self::SickIn(_) | Self::SickAfter(_) | Self::CheckRefuses | Self::StopFails => false,
        }
    }
}

/// A version as it was built.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) manner: Manner,
    pub(super) package: PackageVersion,
    file: PackageFile,
}

/// Everything that can be deployed. The first version of each package is good.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) versions: Vec<Version>,
    by_tree: BTreeMap<TreeDigest, usize>,
}

/// The package whose versions differ, and the one that is the same in all version sets.
pub(super) const PACKAGE: &str = "web";
pub(super) const STEADY: &str = "store";

/// Versions of [`PACKAGE`], beside those that are always good.
const SCRIPTED: usize = 6;
/// Good versions: the first few, and a last one for the end.
const GOOD: usize = 4;

impl Library {
    pub(super) fn new(random: &mut Random, zones: usize) -> Self {
        let mut library = Self { versions: Vec::new(), by_tree: BTreeMap::new() };
        library.add(STEADY, 1, Manner::Fine, random);
        for number in 1..=GOOD {
            library.add(PACKAGE, number, Manner::Fine, random);
        }
        for number in GOOD + 1..=GOOD + SCRIPTED {
            let manner = match random.below(8) {
                0 => Manner::SickAtOnce,
                1 | 2 => Manner::SickIn(random.below(zones as u64) as usize),
                3 | 4 => Manner::SickAfter(random.between(20_000, 400_000)),
                5 => Manner::StartFails,
                6 => Manner::StartHangs,
                _ => {
                    if random.chance(50) {
                        Manner::CheckRefuses
                    } else {
                        Manner::StopFails
                    }
                }
            };
            library.add(PACKAGE, number, manner, random);
        }
        library
    }

    fn add(&mut self, package: &str, number: usize, manner: Manner, random: &mut Random) {
        let file =
            PackageFile::parse(text(package, number, manner, random).as_bytes()).expect("a package file");
        let tree = TreeDigest(Digest::of(format!("{package} {number}").as_bytes()));
        let trees = BTreeMap::from([(Platform::any(), tree)]);
        let package = PackageVersion { name: name(package), version: name(&number.to_string()), trees };
        self.by_tree.insert(tree, self.versions.len());
        self.versions.push(Version { manner, package, file });
    }

    pub(super) fn file(&self, tree: &TreeDigest) -> Option<&PackageFile> {
        self.by_tree.get(tree).map(|index| &self.versions[*index].file)
    }

    pub(super) fn manner(&self, tree: &TreeDigest) -> Manner {
        self.by_tree.get(tree).map_or(Manner::Fine, |index| self.versions[*index].manner)
    }

    /// Names of the version sets: one for each version of [`PACKAGE`].
    pub(super) fn sets(&self) -> impl Iterator<Item = (String, &Version)> {
        let versions = self.versions.iter().filter(|version| version.package.name.as_str() == PACKAGE);
        versions.map(|version| (format!("v{}", version.package.version), version))
    }

    /// A good set, a different one for each number.
    pub(super) fn good(number: u64) -> String {
        format!("v{}", 1 + number % GOOD as u64)
    }

    pub(super) fn any(random: &mut Random) -> String {
        format!("v{}", random.between(1, (GOOD + SCRIPTED) as u64))
    }
}

/// The file's text. Hooks differ from version to version; some must not run twice. All that they ask for
/// together fits into the shortest deadline, or a host would not begin.
fn text(package: &str, number: usize, manner: Manner, random: &mut Random) -> String {
    let mut text = format!("name = \"{package}\"\nversion = \"{number}\"\n");
    let mut hook = |phase: &str, timeout: u32, rerun: bool| {
        let _ = write!(
            text,
            "\n[hooks.{phase}]\ncommand = [\"hooks/{phase}\"]\ntimeout = \"{timeout}s\"\nrerun = {rerun}\n"
        );
    };
    if manner == Manner::CheckRefuses || random.chance(30) {
        hook("check", 3, true);
    }
    for phase in ["drain", "resume", "cleanup"] {
        if random.chance(30) {
            hook(phase, 3, random.chance(70));
        }
    }
    if manner == Manner::StopFails || random.chance(40) {
        hook("stop", 3, random.chance(70));
    }
    if manner == Manner::StartHangs || random.chance(70) {
        hook("start", 5, random.chance(50));
    }
    let _ = write!(
        text,
        "\n[[services]]\nname = \"{package}\"\ncommand = [\"bin/{package}\"]\nstop_grace = \"2s\"\n\
         \n[[services.health]]\nhttp = {{ port = 8080, path = \"/\" }}\n\
         interval = \"5s\"\ntimeout = \"1s\"\nhealthy_after = 2\nunhealthy_after = 2\n\
         \n[settings]\nMODE = {{ default = \"fine\" }}\n"
    );
    text
}
