//! The rules of docs/architecture.md that a compiler does not hold. Each says what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of code in a file, its tests apart. A file that outgrows it has taken on a second decision.
const FILE_LINES_MAX: usize = 420;
const CRATES: [&str; 5] = ["common", "agent", "coordinator", "cli", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// All Rust files, as paths from the workspace's root with `/`, and their text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = CRATES.iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).expect("a source file")));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the sources were not found");
    found
}

fn is_test(path: &str) -> bool {
    // Modules that are compiled for tests alone, whatever they are called.
    let alone = ["sample.rs", "samples.rs", "fixture.rs", "laws.rs", "world.rs"];
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || alone.iter().any(|name| path.ends_with(&format!("/{name}")))
}

/// The part of a file before its unit tests.
fn code_of(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |start| &text[..start])
}

/// Files that decide say so in their first line.
fn decides(text: &str) -> bool {
    text.starts_with("//! **Decision.**")
}

#[test]
fn code_is_formatted() {
    let output =
        Command::new("cargo").args(["fmt", "--check"]).current_dir(root()).output().expect("cargo fmt");
    assert!(output.status.success(), "run `cargo fmt`:\n{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn files_stay_readable_in_one_sitting() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, code_of(text).lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines}"))
        .collect();
    assert!(long.is_empty(), "split along the decision that does not belong: {long:#?}");
}

#[test]
fn no_drawers() {
    let drawers = ["utils", "util", "helpers", "misc", "types", "constants", "common"];
    for (path, _) in sources() {
        let name = Path::new(&path).file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(!drawers.contains(&name.as_str()), "{path}: name it for what it holds");
        assert!(!path.ends_with("/mod.rs"), "{path}: `foo.rs` beside `foo/`, never `mod.rs`");
    }
}

#[test]
fn decisions_do_no_io() {
    let mut seen = 0;
    for (path, text) in sources().iter().filter(|(_, text)| decides(text)) {
        seen += 1;
        for banned in ["tokio::", "tonic", "sled::", "std::fs", "std::net", "std::process", "rustls"] {
            assert!(!code_of(text).contains(banned), "{path} decides, and must not use {banned}");
        }
        assert!(
            text.contains("#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]"),
            "{path} decides: deny clocks and catch-all arms at its top"
        );
    }
    assert!(seen > 15, "the decision files were not found");
}

#[test]
fn libraries_stay_behind_their_one_door() {
    let doors: [(&str, &[&str]); 4] = [
        ("sled::", &["coordinator/src/store/sled"]),
        ("rustls::", &["common/src/tls"]),
        ("rcgen::", &["coordinator/src/ca", "common/src/identity"]),
        ("wire::", &["common/src/api", "coordinator/src/grpc"]),
    ];
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        for (library, allowed) in doors {
            let uses = text.lines().any(|line| {
                let line = line.trim_start();
                line.starts_with(&format!("use {library}")) || line.contains(&format!(" {library}"))
            });
            let here = allowed.iter().any(|door| path.starts_with(door));
            assert!(!uses || here, "{path}: {library} belongs to {allowed:?} alone");
        }
    }
}

#[test]
fn programs_do_not_depend_on_each_other() {
    for (name, others) in [
        ("agent", ["houston-coordinator", "houston-cli"]),
        ("coordinator", ["houston-agent", "houston-cli"]),
        ("cli", ["houston-agent", "houston-coordinator"]),
    ] {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        for other in others {
            assert!(!manifest.contains(other), "{name} depends on {other}: what both need belongs in common");
        }
    }
}

/// The names of a manifest's dependencies, of all kinds.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if inside && let Some(end) = line.find(['.', ' ', '=']) {
            names.extend(Some(&line[..end]).filter(|name| !name.starts_with('#')));
        }
    }
    names
}

/// Whether a text names a crate, in a path or as what is imported whole.
fn names_crate(text: &str, library: &str) -> bool {
    text.match_indices(library).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + library.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && (after.starts_with("::") || (text[..at].ends_with("use ") && after.starts_with([';', ' '])))
    })
}

#[test]
fn dependencies_are_used() {
    // Only what is generated at build time names it.
    const GENERATED: [&str; 1] = ["tonic-prost"];
    let sources = sources();
    let mut used = std::collections::BTreeSet::new();
    for name in CRATES {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let dependencies = dependencies(&manifest);
        assert!(dependencies.len() > 5, "{name}: the dependencies were not found");
        for dependency in dependencies {
            used.insert(dependency.to_owned());
            let library = dependency.replace('-', "_");
            let own = sources.iter().filter(|(path, _)| path.starts_with(&format!("{name}/")));
            let is_named = own.into_iter().any(|(_, text)| names_crate(text, &library));
            assert!(
                is_named || GENERATED.contains(&dependency),
                "{name} does not use {dependency}: remove it from {name}/Cargo.toml"
            );
        }
    }
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    for dependency in dependencies(&workspace) {
        assert!(used.contains(dependency), "no crate uses {dependency}: remove it from Cargo.toml");
    }
}

#[test]
fn every_crate_inherits_the_lints() {
    for name in CRATES {
        let manifest = std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}/Cargo.toml");
    }
}

#[test]
fn the_changelog_speaks_of_this_version() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).expect("CHANGELOG.md");
    assert!(changelog.contains(&format!("## {}", env!("CARGO_PKG_VERSION"))), "add an entry to CHANGELOG.md");
}

#[test]
fn the_code_map_stays_a_map() {
    let map = std::fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    assert!(map.lines().count() <= 200, "docs/architecture.md is the map, not the land");
}

/// Licences that go with ours, for everything that is linked into a program.
#[test]
fn licences_are_known_and_compatible() {
    let allowed = [
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "ISC",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "0BSD",
        "Zlib",
        "Unicode-3.0",
        "Unlicense",
        "CC0-1.0",
        "MIT-0",
        "CDLA-Permissive-2.0",
        "BSL-1.0",
        "OpenSSL",
    ];
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        // An expression holds if one alternative of it has only allowed parts.
        let holds = licence.replace('/', " OR ").split(" OR ").any(|alternative| {
            let parts = alternative.replace(['(', ')'], "");
            parts.split(" AND ").all(|part| allowed.contains(&part.trim()))
        });
        assert!(holds, "{} {}: licence {licence}", package["name"], package["version"]);
    }
}
