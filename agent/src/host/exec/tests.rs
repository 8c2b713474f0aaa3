use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use houston_common::digest::{Digest, ReleaseDigest};
use houston_common::id::SettingKey;
use houston_common::package::{PackageFile, SettingNeed};
use houston_common::release::Settings;

use super::super::process::{ProcessId, all};
use super::super::variables::Place;
use super::*;

/// The test binary stands in for `houston-agent`: started with this argument it becomes the child.
const MARK: &str = "houston-exec-child";

#[test]
fn exec_child() {
    if std::env::args().any(|argument| argument == MARK) {
        std::process::exit(if run() == ExitCode::SUCCESS { 0 } else { i32::from(EXIT_NOT_EXECUTABLE) });
    }
}

fn arguments() -> Vec<String> {
    ["--exact", "host::exec::tests::exec_child", "--test-threads=1", MARK].map(str::to_owned).to_vec()
}

pub(crate) fn program() -> ExecProgram {
    ExecProgram::with_arguments(std::env::current_exe().unwrap(), arguments())
}

/// One that starts with signals ignored, as from a careless parent.
pub(crate) fn program_ignoring_signals() -> ExecProgram {
    let script = "trap '' HUP USR1 INT; exec \"$0\" \"$@\"".to_owned();
    let exe = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    ExecProgram::with_arguments("/bin/sh", [vec!["-c".to_owned(), script, exe], arguments()].concat())
}

pub(crate) fn variables(settings: &[(&str, &str)]) -> Variables {
    let settings: BTreeMap<SettingKey, String> =
        settings.iter().map(|(key, value)| (key.parse().unwrap(), (*value).to_owned())).collect();
    let package = PackageFile {
        name: "web".parse().unwrap(),
        version: "1".parse().unwrap(),
        hooks: BTreeMap::new(),
        services: Vec::new(),
        settings: settings.keys().map(|key| SettingNeed { key: key.clone(), default: None }).collect(),
        secrets: Vec::new(),
        restart_with: Vec::new(),
    };
    let place = Place {
        host: "h-1".parse().unwrap(),
        zone: "a".parse().unwrap(),
        environment: "prod".parse().unwrap(),
        release: ReleaseDigest(Digest::of(b"release")),
        data: "/data".into(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    Variables::of(&place, &package, &Settings(settings)).unwrap()
}

pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    Command { program: program.to_owned(), arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
}

pub(crate) fn shell(script: &str) -> Command {
    command("sh", &["-c", script])
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes that run with this text in their command line.
pub(crate) fn running_with(text: &str) -> Vec<ProcessId> {
    let runs = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    all().into_iter().map(|stat| stat.id).filter(|id| runs(id.pid)).collect()
}

#[test]
fn a_child_that_is_told_nothing_starts_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let mark = temp.path().join("started");
    let spec = Spec {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), format!("touch {}", mark.display())],
        directory: "/".into(),
        user: None,
        limits: Bounds::default(),
        guard: None,
    };
    let mut line = Vec::new();
    tell(&mut line, &spec).unwrap();
    for told in [0, 10, line.len() - 1] {
        let mut child = program().spawn(&variables(&[]), Stdio::inherit()).unwrap();
        io::Write::write_all(&mut child.stdin.take().unwrap(), &line[..told]).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!mark.exists(), "{told}");
    }
    let mut child = program().spawn(&variables(&[]), Stdio::inherit()).unwrap();
    tell(&mut child.stdin.take().unwrap(), &spec).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(mark.exists());
}

#[test]
fn a_hook_ends_with_its_agent() {
    let spec = Spec {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), "setsid sleep 7301.1 & sleep 7301.2".into()],
        directory: "/".into(),
        user: None,
        limits: Bounds::default(),
        guard: Some(Watch { timeout_ms: 60_000, grace_ms: 0, cgroup: None }),
    };
    let mut guard = program().spawn(&variables(&[]), Stdio::null()).unwrap();
    let mut stdin = guard.stdin.take().unwrap();
    tell(&mut stdin, &spec).unwrap();
    wait_until("both run", || running_with("sleep 7301.").iter().filter(|id| id.runs()).count() >= 2);
    // What the kernel does when the agent is killed.
    drop(stdin);
    guard.wait().unwrap();
    assert_eq!(running_with("sleep 7301."), []);
}

#[test]
fn reserved_and_broken_variables_are_refused() {
    for (name, value, code) in [
        ("LD_PRELOAD", "/tmp/x.so", Code::HookEnvironment),
        ("PATH", "/tmp", Code::HookEnvironment),
        ("HOUSTON_HOST", "other", Code::HookEnvironment),
        ("GCONV_PATH", "/tmp", Code::HookEnvironment),
        ("OK", "a\0b", Code::HookEnvironment),
        ("OK", &"x".repeat(5000), Code::HookEnvironment),
    ] {
        let refused = std::panic::catch_unwind(|| variables(&[(name, value)]));
        let message = *refused.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("HookEnvironment"), "{code}: {message}");
    }
}

#[test]
fn programs_are_found_in_the_tree_before_the_path() {
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(resolve(&command("sh", &[]), temp.path()).unwrap().file_name().unwrap(), "sh");
    assert!(!resolve(&command("sh", &[]), temp.path()).unwrap().starts_with(temp.path()));
    std::fs::write(temp.path().join("sh"), "").unwrap();
    assert_eq!(resolve(&command("sh", &[]), temp.path()).unwrap(), temp.path().join("sh"));
    assert_eq!(resolve(&command("/bin/sh", &[]), temp.path()).unwrap(), Path::new("/bin/sh"));
    assert_eq!(resolve(&command("no-such-program", &[]), temp.path()).unwrap_err().code, Code::HookExec);
}
