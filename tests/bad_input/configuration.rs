use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use houston_tests::coordinator::PATIENCE;
use tempfile::TempDir;

/// Beside this test's own binary, where `cargo build` puts them.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this test");
    let directory = own.parent().and_then(Path::parent).expect("the target directory");
    let program = directory.join(name);
    assert!(program.exists(), "build the programs first: cargo build --workspace --profile trial");
    program
}

/// Runs a program that is to refuse at once; its exit code, and the last line that it said.
#[track_caller]
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command
        .env_remove("HOUSTON_CONTEXT")
        .env_remove("HOUSTON_CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("waited").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it runs, and should have refused");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("its words");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said.lines().last().unwrap_or_default().to_owned())
}

/// A file's text, what the refusal begins with, and what else it says.
type Row = (&'static str, &'static str, &'static str);

/// The program that reads a file, as it is told of it.
type Reader = fn(&Path) -> Command;

fn coordinator(file: &Path) -> Command {
    let mut command = Command::new(program("houston-coordinator"));
    command.args(["run", "--config"]).arg(file);
    command
}

fn agent(file: &Path) -> Command {
    let mut command = Command::new(program("houston-agent"));
    command.args(["run", "--directory", "/nowhere/at/all", "--config"]).arg(file);
    command
}

fn contexts(file: &Path) -> Command {
    let mut command = Command::new(program("houston"));
    command.args(["whoami", "--config"]).arg(file);
    command
}

fn environment(file: &Path) -> Command {
    let mut command = Command::new(program("houston"));
    command.args(["environment", "apply"]).arg(file);
    command
}

/// B26 to B30, and B35.
const COORDINATOR: &[Row] = &[
    ("names = [", "E-CFG-SYNTAX", "line 1, column"),
    ("names = [\"a\"]\nhold = \"1s\" \"2s\"\n", "E-CFG-SYNTAX", "hold = \"1s\" \"2s\""),
    ("names = [\"a\"]\nhodl = \"1s\"\n", "E-CFG-KEY", "did you mean \"hold\"?"),
    ("names = [\"a\"]\nzebra = 1\n", "E-CFG-KEY", "known here: "),
    ("names = [\"a\"]\nnames = [\"b\"]\n", "E-CFG-KEY", "line 2"),
    ("names = [\"a\"]\n[policy]\nhold = \"1s\"\n", "E-CFG-KEY", "line 2"),
    ("", "E-CFG-KEY", "names"),
    ("names = [\"a\"]\nhold = 5\n", "E-CFG-VALUE", "hold = 5"),
    ("names = [\"a\"]\nhold = \"5\"\n", "E-CFG-VALUE", "5s"),
    ("names = [\"a\"]\nconnections_max = 18446744073709551616\n", "E-CFG-", "line 2"),
    ("names = [\"a\"]\nconnections_max = -1\n", "E-CFG-VALUE", "connections_max = -1"),
    ("names = [\"a\"]\nreserve_bytes = nan\n", "E-CFG-VALUE", "reserve_bytes = nan"),
    (
        "names = [\"a\"]\nhold = \"2m\"\nlost_after = \"1m\"\n",
        "E-CFG-CONFLICT",
        "lost_after (1m) is not above hold (2m)",
    ),
    ("names = [\"a b\"]\n", "E-CFG-VALUE", "names"),
    ("names = [\"a\"]\nagent_listen = \"localhost\"\n", "E-CFG-VALUE", "agent_listen"),
    ("names = [\"a\u{1b}[2J\"]\n", "E-CFG-", ""),
];

const AGENT: &[Row] = &[
    ("log = ", "E-CFG-SYNTAX", "line 1"),
    ("adress = \"127.0.0.1\"\n", "E-CFG-KEY", "did you mean \"address\"?"),
    ("log = \"info\"\nlog = \"info\"\n", "E-CFG-KEY", "line 2"),
    ("address = 5\n", "E-CFG-VALUE", "address = 5"),
    ("address = \"0.0.0.0\"\n", "E-CFG-VALUE", "address"),
    ("runner = \"docker\"\n", "E-CFG-VALUE", "\"direct\""),
    ("log = \"a=b=c\"\n", "E-CFG-VALUE", "log"),
];

const CONTEXTS: &[Row] = &[
    ("current = \n", "E-CFG-SYNTAX", "1:"),
    ("curent = \"a\"\n", "E-CFG-KEY", "did you mean \"current\"?"),
    ("current = \"a\"\n", "E-CFG-CONFLICT", "not in [contexts]"),
    ("current = 1\n", "E-CFG-VALUE", "not a text in quotes"),
    ("[contexts.a]\naddress = \"http://a:1\"\ncredential = \"c\"\n", "E-ADDR", "it has a scheme"),
    ("[contexts.a]\naddress = \"a\"\ncredential = \"c\"\n", "E-ADDR", "the port is missing"),
    ("[contexts.a]\naddress = \"a:1\"\n", "E-CFG-VALUE", "credential"),
    ("current = \"a\"\n[contexts.a]\naddress = \"a:1\"\ncredential = \"none\"\n", "E-CREDENTIAL", "none"),
];

const ENVIRONMENT: &[Row] = &[
    ("name = \"a\"\n[selector\n", "E-CFG-SYNTAX", "\"[selector\""),
    ("name = \"a\"\n[selector]\n[policy]\nbach = 2\n", "E-CFG-KEY", "did you mean \"batch\"?"),
    ("name = \"a\"\nbatch = 2\n[selector]\n", "E-CFG-KEY", "it belongs in [policy]"),
    ("name = \"../a\"\n[selector]\n", "E-NAME", "[a-z0-9-]{1,63}"),
    ("name = \"a\"\n", "E-CFG-VALUE", "selector"),
    // B11
    ("name = \"a\"\n[selector]\n[policy]\nbatch = 0\n", "E-BUDGET", "100%"),
    ("name = \"a\"\n[selector]\n[policy]\nfailure_budget = \"101%\"\n", "E-BUDGET", "100%"),
    ("name = \"a\"\n[selector]\n[policy]\nlost_budget = 0.5\n", "E-BUDGET", "100%"),
    // B14
    ("name = \"a\"\n[selector]\n[policy]\nzone_order = [\"a\", \"a\"]\n", "E-ZONE-TWICE", "name it once"),
    // B18
    ("name = \"a\"\n[selector]\n[policy]\nstart_within = \"1y\"\n", "E-DURATION", "5s, 5m or 5h"),
    ("name = \"a\"\n[selector]\n[policy.bake]\none_box = 5\n", "E-DURATION", "5s, 5m or 5h"),
    // B30
    ("name = \"a\"\n[selector]\n[policy]\napply_deadline = \"10s\"\n", "E-CFG-CONFLICT", "health_window"),
];

#[test]
fn what_a_file_says_wrongly_is_named_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let readers: [(Reader, &[Row]); 4] =
        [(coordinator, COORDINATOR), (agent, AGENT), (contexts, CONTEXTS), (environment, ENVIRONMENT)];
    for (read, rows) in readers {
        for (text, code, part) in rows {
            let file = directory.path().join("file.toml");
            std::fs::write(&file, text).expect("written");
            let (exit, said) = refused(&mut read(&file));
            assert!(said.starts_with(code), "{text:?}: {said}");
            assert_eq!(exit, Some(2), "{text:?}: {said}");
            assert!(said.contains(part), "{text:?}: {said} lacks {part}");
            assert!(said.chars().all(houston_common::id::is_plain), "{text:?}: {said:?}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 1, "nothing else was made");
}

/// B25
#[test]
fn what_is_no_file_or_anybodys_is_not_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("binary"), b"\xff\xfe\x00").expect("written");
    std::fs::write(at("huge"), vec![b'#'; 300 << 10]).expect("written");
    std::fs::write(at("open"), "").expect("written");
    std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o666)).expect("changed");
    std::os::unix::fs::symlink(at("nothing"), at("dangling")).expect("linked");
    // Nobody has to have contexts.
    let readers: [(Reader, &str); 4] = [
        (coordinator, "E-CFG-FILE"),
        (agent, "E-CFG-FILE"),
        (environment, "E-CFG-FILE"),
        (contexts, "E-CONTEXT"),
    ];
    for (read, without) in readers {
        for (name, code) in [
            ("missing", without),
            ("dangling", without),
            ("binary", "E-CFG-FILE"),
            ("huge", "E-CFG-FILE"),
            (".", "E-CFG-FILE"),
        ] {
            let (exit, said) = refused(&mut read(&at(name)));
            assert!(exit == Some(2) && said.starts_with(&format!("{code}: ")), "{name}: {said}");
        }
    }
    for read in [coordinator as Reader, agent, contexts] {
        let (exit, said) = refused(&mut read(&at("open")));
        assert!(exit == Some(2) && said.starts_with("E-CFG-PERM: "), "{said}");
        assert!(said.contains("0666") && said.contains("chmod"), "{said}");
    }
}

/// B36: who is to be corrected is the variable.
#[test]
fn a_variable_that_is_wrong_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let command = |name: &str| {
        let mut command = Command::new(program(name));
        command.env("HOME", home.path()).env_remove("XDG_CONFIG_HOME");
        command
    };
    let mut houston = command("houston");
    // `refused` takes the variables away, so the shell brings it back.
    let mut shell = Command::new("sh");
    let text = format!("HOUSTON_CONTEXT=../prod exec {} whoami", houston.get_program().to_string_lossy());
    shell.args(["-c", &text]).env("HOME", home.path());
    let (exit, said) = refused(&mut shell);
    assert!(said.starts_with("E-NAME: ") && said.contains("(from HOUSTON_CONTEXT)"), "{said}");
    assert_eq!(exit, Some(2));
    let (_, said) = refused(houston.arg("whoami"));
    assert!(said.starts_with("E-CONTEXT: "), "{said}");

    let file = home.path().join("coordinator.toml");
    std::fs::write(&file, "").expect("written");
    let (exit, said) = refused(coordinator(&file).env("HOUSTON_LOG", "a=b=c"));
    assert!(said.starts_with("E-CFG-VALUE: HOUSTON_LOG is \"a=b=c\""), "{said}");
    assert_eq!(exit, Some(2));
}

/// B31, B33: what is in a state directory, and what should be.
#[test]
fn a_state_directory_that_is_not_ours_is_left_as_it_is() {
    let run = |directory: &Path| {
        let mut command = Command::new(program("houston-agent"));
        command.args(["run", "--directory"]).arg(directory);
        refused(&mut command)
    };
    let state = |record: Option<&str>| -> TempDir {
        let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        if let Some(record) = record {
            std::fs::write(state.path().join("host.json"), record).expect("written");
        }
        state
    };
    let newer = r#"{"version":99,"host":"web-1-abcdef","zone":"a","coordinator":"c:1","enrollment":"c:2"}"#;
    for (record, code, part) in [
        (None, "E-STATE", "houston-agent enroll"),
        (Some("{"), "E-STATE", "damaged"),
        (Some(newer), "E-STATE-NEWER", "format 99"),
        (Some("\u{0}\u{0}"), "E-STATE", "damaged"),
    ] {
        let state = state(record);
        let (exit, said) = run(state.path());
        assert!(said.starts_with(&format!("{code}: ")) && said.contains(part), "{record:?}: {said}");
        assert_eq!(exit, Some(1), "{record:?}");
        let kept = std::fs::read_to_string(state.path().join("host.json")).ok();
        assert_eq!(kept.as_deref(), record, "nothing was overwritten");
    }
    let (exit, said) = run(Path::new("/nowhere/at/all"));
    assert!(exit == Some(1) && said.starts_with("E-STATE: ") && said.contains("/nowhere/at/all"), "{said}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let (exit, said) = run(file.path());
    assert!(exit == Some(1) && said.starts_with("E-STATE: "), "{said}");

    // A coordinator makes no store by being started where none is.
    let empty = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let toml = empty.path().join("coordinator.toml");
    std::fs::write(
        &toml,
        "names = [\"localhost\"]\nagent_listen = \"127.0.0.1:0\"\nenrollment_listen = \"127.0.0.1:0\"\n",
    )
    .expect("written");
    let (exit, said) = refused(&mut coordinator(&toml));
    assert!(exit != Some(0) && said.starts_with("E-"), "{said}");
    assert!(!empty.path().join("store").exists() && !empty.path().join("ca.pem").exists(), "{said}");
}
