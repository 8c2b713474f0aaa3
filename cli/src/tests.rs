//! Whole commands that need no coordinator, as they are typed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use houston_common::id::is_plain;

use super::*;

struct Ended {
    code: u8,
    out: String,
    err: String,
}

/// Runs a command with a home of its own.
fn run_at(home: &Path, arguments: &[&str]) -> Ended {
    let surroundings = Surroundings {
        home: Some(home.to_owned()),
        config_home: None,
        plain_terminal: false,
        terminal: || None,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = std::iter::once("houston").chain(arguments.iter().copied()).map(OsString::from);
    let code = run(arguments, &surroundings, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code, out: text(out), err: text(err) }
}

fn run_nowhere(arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().expect("directory");
    run_at(home.path(), arguments)
}

#[test]
fn no_arguments_show_the_usage() {
    for arguments in [&[][..], &["rollout"], &["host"]] {
        let ended = run_nowhere(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""));
        assert!(ended.err.contains("Usage: houston"), "{}", ended.err);
    }
}

#[test]
fn help_that_was_asked_for_is_the_answer() {
    for arguments in [&["--help"][..], &["rollout", "start", "--help"], &["--version"]] {
        let ended = run_nowhere(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        assert!(!ended.out.is_empty());
    }
    assert!(run_nowhere(&["rollout", "start", "--help"]).out.contains("Example:"));
}

/// What is typed, and what the complaint begins with.
const TYPED_WRONG: &[(&[&str], &str)] = &[
    // B2
    (&["delpoy"], "E-CLI-VERB: unknown command \"delpoy\"; commands of houston: context, "),
    (&["rolout"], "E-CLI-VERB: unknown command \"rolout\"; did you mean \"rollout\"?\n"),
    (&["rollout", "strat", "prod"], "E-CLI-VERB: unknown command \"strat\"; did you mean \"start\"?\n"),
    // B3
    (
        &["rollout", "start", "prod", "v1", "--superseed"],
        "E-CLI-FLAG: unknown flag \"--superseed\"; did you mean \"--supersede\"?\n",
    ),
    (&["--outptu", "json", "whoami"], "E-CLI-FLAG: unknown flag \"--outptu\"; did you mean \"--output\"?\n"),
    (&["host", "list", "--zone"], "E-CLI-FLAG: --zone <ZONE> lacks its value; write it after the flag\n"),
    // B4
    (
        &["rollout", "start"],
        "E-CLI-MISSING: <ENVIRONMENT>, <VERSION_SET> are missing; usage: houston rollout start ",
    ),
    (&["rollout", "start", "prod"], "E-CLI-MISSING: <VERSION_SET> is missing; usage: houston rollout start "),
    (&["token", "create"], "E-CLI-MISSING: --zone <ZONE> is missing; usage: houston token create "),
    // B6
    (
        &["environment", "show", "../prod"],
        "E-NAME: an environment name must match [a-z0-9-]{1,63}, got \"../prod\"\n",
    ),
    (
        &["environment", "show", "a\nb"],
        "E-NAME: an environment name must match [a-z0-9-]{1,63}, got \"a\\u{a}b\"\n",
    ),
    (
        &["environment", "show", "a\0b"],
        "E-NAME: an environment name must match [a-z0-9-]{1,63}, got \"a\\u{0}b\"\n",
    ),
    (
        &["environment", "show", "a\u{202e}b"],
        "E-NAME: an environment name must match [a-z0-9-]{1,63}, got \"a\\u{202e}b\"\n",
    ),
    (&["environment", "show", ""], "E-NAME: an environment name must match [a-z0-9-]{1,63}, got \"\"\n"),
    (
        &["environment", "show", "--", "-prod"],
        "E-NAME: an environment name must match [a-z0-9-]{1,63}, got \"-prod\"\n",
    ),
    (&["rollout", "status", "Prod"], "E-NAME: an environment name must match "),
    // B18
    (
        &["rollout", "wait", "prod", "--timeout", "5"],
        "E-DURATION: write a duration as 500ms, 30s, 10m, 12h or 2d, got \"5\"; write 5s, 5m or 5h\n",
    ),
    (&["rollout", "wait", "prod", "--timeout", "5 minutes"], "E-DURATION: "),
    (&["rollout", "wait", "prod", "--timeout=-1s"], "E-DURATION: "),
    (&["token", "create", "--zone", "a", "--expires", "1y"], "E-DURATION: "),
    // B19
    (
        &["context", "add", "p", "--credential", "c", "--address", "http://c:1"],
        "E-ADDR: \"http://c:1\" is not HOST:PORT: it has a scheme; write c:1, without http://\n",
    ),
    (
        &["context", "add", "p", "--credential", "c", "--address", "c"],
        "E-ADDR: \"c\" is not HOST:PORT: the port is missing; add it, as in coordinator.example:7400\n",
    ),
    (&["context", "add", "p", "--credential", "c", "--address", "c:0"], "E-ADDR: "),
    // The rest.
    (
        &["token", "create", "--zone", "a", "--uses", "0"],
        "E-CLI-VALUE: --uses <USES> is \"0\": 0 is not in 1..=10000\n",
    ),
    (
        &["token", "create", "--zone", "a", "--label", "role"],
        "E-CLI-VALUE: \"role\" is no label; write KEY=VALUE\n",
    ),
    (
        &["host", "list", "--output", "jsn"],
        "E-CLI-VALUE: --output <FORM> is \"jsn\"; did you mean \"json\"?\n",
    ),
    (
        &["version-set", "create", "v", "web"],
        "E-CLI-VALUE: \"web\" is no package version; write NAME@VERSION\n",
    ),
    (
        &["operator", "add", "bob", "--role", "amdin"],
        "E-CLI-VALUE: there is no role \"amdin\"; did you mean \"admin\"?\n",
    ),
    (
        &["host", "drain", "web-1", "--reason", "a\nb"],
        "E-CLI-VALUE: the reason \"a\\u{a}b\" has characters that are not shown; write one line\n",
    ),
    (
        &["host", "remove", "web-1"],
        "E-CLI-MISSING: removing revokes the host and forgets it; add --yes to do it\n",
    ),
    (
        &["host", "label", "web-1"],
        "E-CLI-MISSING: there is nothing to change; give KEY=VALUE, --remove KEY or --zone ZONE\n",
    ),
    (
        &["operator", "revoke", "bob"],
        "E-CLI-MISSING: revoking ends the operator's access for good; add --yes to do it\n",
    ),
    (
        &["context", "remove", "prod"],
        "E-CLI-MISSING: the context's private key goes with it; add --yes to do it\n",
    ),
    (
        &["version-set", "create", "t", "web@1.0.0", "db@1", "web@2.0.0"],
        "E-CLI-VALUE: web@1.0.0 and web@2.0.0 are the same package; name one version of each package\n",
    ),
    (&["package", "push", "/nonexist"], "E-CLI-VALUE: tree any: \"/nonexist\" cannot be read: No such file"),
    (
        &["package", "push", "/dev/null"],
        "E-CLI-VALUE: tree any: \"/dev/null\" is no directory; name a directory",
    ),
    (
        &["package", "push", "/proc"],
        "E-PKG-SYNTAX: tree any: \"/proc\" has no houston.toml; name a directory",
    ),
    (
        &["--config", "c.toml", "rollout", "start"],
        "E-CLI-MISSING: <ENVIRONMENT>, <VERSION_SET> are missing; usage: houston rollout start [OPTIONS] <ENVIRONMENT> <VERSION_SET>\n",
    ),
    (
        &["--reason", "x", "host", "list"],
        "E-CLI-FLAG: unknown flag \"--reason\"; usage: houston host list [OPTIONS]\n",
    ),
    (
        &["--reason", "x", "host", "drain", "web-1"],
        "E-CLI-FLAG: unknown flag \"--reason\"; write it after \"drain\"\n",
    ),
    (
        &["host", "hold", "web-1"],
        "E-CLI-MISSING: --reason <TEXT> is missing; usage: houston host hold [OPTIONS] --reason <TEXT> <HOST>\n",
    ),
    (&["host", "hold", "web-1", "--reason", " "], "E-CLI-VALUE: "),
    (&["host", "hold", "web-1", "--reason", "x", "--for", "0s"], "E-DURATION: "),
    (&["rollout", "start", "prod", "v2", "--exclude", "Web_1"], "E-NAME: "),
    (&["whoami", "extra"], "E-CLI-VALUE: unexpected argument \"extra\"; usage: houston whoami"),
    (&["--context", "P", "whoami"], "E-NAME: a context's name must match [a-z0-9-]{1,63}, got \"P\"\n"),
];

#[test]
fn what_is_typed_wrong_is_refused_with_the_next_step() {
    for (arguments, expected) in TYPED_WRONG {
        let ended = run_nowhere(arguments);
        assert!(ended.err.starts_with(expected), "{arguments:?}\n     got {}expected {expected}", ended.err);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ended.err.trim_end().chars().all(is_plain), "{arguments:?} {:?}", ended.err);
    }
}

#[test]
fn long_input_is_cut() {
    let ended = run_nowhere(&["environment", "show", &"a".repeat(300)]);
    assert!(ended.err.starts_with("E-NAME: ") && ended.err.len() < 250, "{}", ended.err);
    assert_eq!(ended.code, 2);
}

#[test]
fn without_a_context_the_way_to_one_is_shown() {
    let ended = run_nowhere(&["host", "list"]);
    assert_eq!(
        (ended.code, ended.err.as_str()),
        (2, "E-CONTEXT: this machine knows no coordinator; houston context add NAME --credential DIR\n")
    );
    let ended = run_nowhere(&["context", "list"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "no contexts\n"));
    let ended = run_nowhere(&["context", "list", "--output", "json"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "{\n  \"contexts\": []\n}\n"));
}

#[test]
fn a_credential_that_is_not_usable_is_refused_before_anything_is_written() {
    let home = tempfile::tempdir().expect("directory");
    let add = |credential: &str| {
        run_at(home.path(), &["context", "add", "prod", "--address", "c:1", "--credential", credential])
    };
    let ended = add("/nowhere");
    assert_eq!(ended.code, 2);
    assert!(ended.err.starts_with("E-CREDENTIAL: cannot read the credential /nowhere: "), "{}", ended.err);

    let key = home.path().join("alice.pem");
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\n").expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let ended = add(&key.to_string_lossy());
    assert!(ended.err.starts_with("E-KEY-PERM: "), "{}", ended.err);

    std::fs::write(&key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let ended = add(&key.to_string_lossy());
    assert!(ended.err.starts_with("E-CREDENTIAL: ") && ended.err.contains("passphrase"), "{}", ended.err);
    assert!(!home.path().join(".config").exists());
}

#[test]
fn files_that_people_write_are_read_with_care() {
    let home = tempfile::tempdir().expect("directory");
    let file = home.path().join("prod.toml");
    let path = file.to_string_lossy().into_owned();
    let apply = |path: &str| run_at(home.path(), &["environment", "apply", path]);
    let starts = |ended: Ended, expected: &str| {
        assert!(ended.err.starts_with(expected), "{}", ended.err);
        assert_eq!(ended.code, 2);
    };
    // B25
    starts(apply("/nowhere.toml"), "E-CFG-FILE: cannot read /nowhere.toml: ");
    starts(apply(&home.path().to_string_lossy()), "E-CFG-FILE: cannot read ");
    std::fs::write(&file, "").expect("written");
    starts(apply(&path), "E-CFG-VALUE: the file lacks the key \"name\" at ");
    // B26
    std::fs::write(&file, "name = \n").expect("written");
    starts(apply(&path), "E-CFG-SYNTAX: ");
    // B11
    std::fs::write(&file, "name = \"p\"\n[selector]\n[policy]\nbatch = \"101%\"\n").expect("written");
    starts(apply(&path), "E-BUDGET: batch: write a share as a percentage from 0% to 100%");
    // A file that is right gets as far as the missing context.
    std::fs::write(&file, "name = \"p\"\n[selector]\n").expect("written");
    starts(apply(&path), "E-CONTEXT: ");
    // The operator's own file must be closed to others.
    let contexts = home.path().join("contexts.toml");
    std::fs::write(&contexts, "").expect("written");
    std::fs::set_permissions(&contexts, std::fs::Permissions::from_mode(0o666)).expect("changed");
    let contexts = contexts.to_string_lossy().into_owned();
    starts(run_at(home.path(), &["--config", &contexts, "whoami"]), "E-CFG-PERM: ");
}

#[test]
fn a_package_is_built_without_a_coordinator() {
    let home = tempfile::tempdir().expect("directory");
    let tree = home.path().join("web");
    std::fs::create_dir(&tree).expect("made");
    let path = tree.to_string_lossy().into_owned();
    let ended = run_at(home.path(), &["package", "build", &path]);
    assert_ne!(ended.code, 0, "a tree without houston.toml is no package");
    std::fs::write(tree.join("houston.toml"), "name = \"web\"\nversion = \"1.0\"\n").expect("written");
    let ended = run_at(home.path(), &["package", "build", &path]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(ended.out.starts_with("web@1.0\n  any "), "{}", ended.out);
    let ended = run_at(home.path(), &["package", "build", &path, "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!((json["name"].as_str(), json["trees"][0]["files"].as_u64()), (Some("web"), Some(1)));
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let home = tempfile::tempdir().expect("directory");
    let surroundings = Surroundings {
        home: Some(home.path().to_owned()),
        config_home: None,
        plain_terminal: false,
        terminal: || None,
    };
    let mut err = Vec::new();
    let code = run(["houston", "context", "list"].map(OsString::from), &surroundings, &mut Gone, &mut err);
    assert_eq!((code, err.as_slice()), (READER_GONE, &b""[..]));
}
