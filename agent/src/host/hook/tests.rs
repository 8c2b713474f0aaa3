use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use houston_common::package::Command;

use super::super::exec::tests::{
    command, program, program_ignoring_signals, running_with, shell, variables, wait_until,
};
use super::*;

struct Bench {
    tree: tempfile::TempDir,
    runner: Runner,
    timeout: Duration,
    grace: Duration,
}

impl Bench {
    fn with(cgroups: impl Fn(&Path) -> Cgroups) -> Self {
        let tree = tempfile::tempdir().unwrap();
        let cgroups = cgroups(tree.path());
        let runner = Runner { exec: program(), cgroups };
        Self { tree, runner, timeout: Duration::from_secs(60), grace: Duration::from_secs(10) }
    }

    fn new() -> Self {
        Self::with(Cgroups::open)
    }

    /// With groups, where this user may make them, and without.
    fn both() -> [Self; 2] {
        [Self::new(), Self::with(|_| Cgroups::none())]
    }

    fn run(&self, command: &Command) -> HookRun {
        self.run_as(command, None, &[])
    }

    fn run_as(&self, command: &Command, user: Option<&str>, settings: &[(&str, &str)]) -> HookRun {
        let call = Call {
            command,
            user,
            timeout: self.timeout,
            grace: self.grace,
            tree: self.tree.path(),
            variables: &variables(settings),
        };
        self.runner.run(&call).unwrap()
    }

    fn script(&self, name: &str, text: &[u8], mode: u32) -> Command {
        let path = self.tree.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        command(name, &[])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runner.cgroups.remove();
    }
}

fn lines(run: &HookRun) -> Vec<String> {
    run.output.text().lines().map(str::to_owned).collect()
}

#[test]
fn exits_and_signals_are_told_apart() {
    for bench in Bench::both() {
        let run = bench.run(&shell("echo out; echo err >&2; echo out"));
        assert_eq!(
            (&run.outcome, lines(&run)),
            (&HookOutcome::Ok, ["out", "err", "out"].map(String::from).to_vec())
        );
        assert_eq!(run.left_behind, 0);
        for code in [1, 125, 126, 127, 255] {
            assert_eq!(bench.run(&shell(&format!("exit {code}"))).outcome, HookOutcome::Exit(code));
        }
        let killed = bench.run(&shell("kill -SEGV $$"));
        assert_eq!(killed.outcome, HookOutcome::Signal("SIGSEGV".into()));
        let refusal = killed.check("the hook \"start\" of package web", bench.timeout).unwrap_err();
        assert_eq!(refusal.code, Code::HookSignal);
    }
}

#[test]
fn the_environment_is_exactly_the_allow_list() {
    let bench = Bench::new();
    let run = bench.run_as(&command("/usr/bin/env", &[]), None, &[("COLOUR", "blue"), ("EMPTY", "")]);
    let names: BTreeSet<String> =
        lines(&run).iter().map(|l| l.split('=').next().unwrap().to_owned()).collect();
    let expected = [
        "COLOUR",
        "EMPTY",
        "HOUSTON_ADDRESS",
        "HOUSTON_DATA",
        "HOUSTON_ENVIRONMENT",
        "HOUSTON_HOST",
        "HOUSTON_RELEASE",
        "HOUSTON_ZONE",
        "PATH",
    ];
    assert_eq!(names, expected.map(String::from).into());
    assert!(lines(&run).contains(&"COLOUR=blue".to_owned()));
}

#[test]
fn nothing_else_is_inherited() {
    let mut bench = Bench::new();
    bench.runner.exec = program_ignoring_signals();
    // Without CLOEXEC, as a careless library would.
    let leak = rustix::fs::open("/dev/zero", OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let run = bench.run(&command("/bin/ls", &["-l", "/proc/self/fd"]));
    let targets: Vec<String> =
        lines(&run).iter().filter_map(|line| Some(line.split_once(" -> ")?.1.to_owned())).collect();
    drop(leak);
    // The fourth is the directory that ls lists.
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert_eq!(targets[0], "/dev/null");
    assert!(targets[1].starts_with("pipe:") && targets[1] == targets[2], "{targets:?}");
    let script = "cut -d' ' -f6 /proc/$$/stat; echo $$; umask; pwd -P; \
                  grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2; ulimit -c";
    let run = bench.run(&shell(script));
    let found = lines(&run);
    assert_eq!(found[0], found[1], "it leads its session");
    assert_eq!(found[2], "0022");
    assert_eq!(Path::new(&found[3]), bench.tree.path().canonicalize().unwrap());
    let mask = |text: &str| u64::from_str_radix(text, 16).unwrap();
    // Above 31 are the C library's own: an ancestor may have ignored those, and nobody can reset them.
    assert_eq!([mask(&found[4]), mask(&found[5]) & 0x7fff_ffff], [0, 0], "blocked, ignored: {found:?}");
    assert_eq!(found[6], "0", "core");
}

#[test]
fn a_hook_that_hangs_is_ended_with_all_that_it_started() {
    for (number, mut bench) in Bench::both().into_iter().enumerate() {
        let mark = format!("sleep 730{}.3", number + 2);
        // Nobody here waits for that long.
        (bench.timeout, bench.grace) = (Duration::from_millis(500), Duration::from_secs(300));
        let script = shell(&format!("echo before; {mark} & setsid {mark} & {mark}"));
        let run = std::thread::scope(|scope| {
            let run = scope.spawn(|| bench.run(&script));
            wait_until("it obeys TERM", || run.is_finished());
            run.join().unwrap()
        });
        assert!(matches!(run.outcome, HookOutcome::TimedOut { killed } if killed >= 2), "{:?}", run.outcome);
        assert_eq!(lines(&run)[0], "before");
        assert_eq!(running_with(&mark), []);
        let refusal = run.check("the hook \"stop\"", bench.timeout).unwrap_err();
        assert!(refusal.what.contains("did not end within 500ms; killed "), "{refusal}");
    }
}

#[test]
fn a_hook_that_ignores_term_is_killed_after_its_grace() {
    for (number, mut bench) in Bench::both().into_iter().enumerate() {
        (bench.timeout, bench.grace) = (Duration::from_millis(500), Duration::from_millis(300));
        let mark = format!("sleep 731{number}.4");
        let run = bench.run(&shell(&format!("trap '' TERM; setsid {mark} & {mark}; {mark}")));
        assert!(matches!(run.outcome, HookOutcome::TimedOut { .. }), "{:?}", run.outcome);
        assert_eq!(running_with(&mark), []);
    }
}

#[test]
fn a_daemon_that_keeps_standard_output_open_neither_hangs_nor_stays() {
    for (number, bench) in Bench::both().into_iter().enumerate() {
        let mark = format!("sleep 732{number}.5");
        // Forks, leaves the session, loses its parent, keeps the pipe.
        let script = format!(
            "setsid sh -c '(trap \"\" HUP TERM; {mark}) & (setsid {mark} &) ' & sleep 0.2; echo done"
        );
        let run = bench.run(&shell(&script));
        assert_eq!(run.outcome, HookOutcome::Ok, "its end was seen, not its timeout");
        assert_eq!(lines(&run), ["done"]);
        assert!(run.left_behind >= 2, "{run:?}");
        assert_eq!(running_with(&mark), []);
    }
}

#[test]
fn a_flood_of_output_stays_bounded() {
    let mut bench = Bench::new();
    bench.timeout = Duration::from_secs(1);
    bench.grace = Duration::ZERO;
    let run = bench.run(&shell("echo first; yes flood"));
    assert!(matches!(run.outcome, HookOutcome::TimedOut { .. }));
    assert!(run.output.cut_bytes() > 1 << 20, "{}", run.output.cut_bytes());
    assert!(run.output.text().starts_with("first\nflood\n") && run.output.text().len() < 70_000);
    bench.timeout = Duration::from_secs(60);
    let run = bench.run(&shell("head -c 50000000 /dev/zero; echo last"));
    assert_eq!((&run.outcome, run.output.cut_bytes()), (&HookOutcome::Ok, 50_000_005 - 65_536));
    assert!(run.output.text().ends_with("last\n"));
}

#[test]
fn what_cannot_be_executed_is_explained() {
    let bench = Bench::new();
    let busy = bench.script("busy", b"#!/bin/sh\n", 0o755);
    let writer = std::fs::OpenOptions::new().append(true).open(bench.tree.path().join("busy")).unwrap();
    std::fs::create_dir(bench.tree.path().join("folder")).unwrap();
    let cases = [
        (bench.script("crlf", b"#!/bin/sh\r\nexit 0\r\n", 0o755), "carriage return"),
        (bench.script("interpreter", b"#!/no/such/python -u\n", 0o755), "interpreter \"/no/such/python\""),
        (bench.script("plain", b"#!/bin/sh\n", 0o644), "not executable"),
        (bench.script("text", b"echo hello\n", 0o755), "no first line"),
        (bench.script("nothing", b"", 0o755), "it is empty"),
        (busy, "text file busy"),
        (command("folder", &[]), "directory"),
        (command("bin/missing", &[]), "no such file"),
        (command("missing", &[]), "neither in the tree nor in"),
    ];
    for (command, words) in cases {
        let run = bench.run(&command);
        let HookOutcome::NotExecutable(why) = &run.outcome else { panic!("{command:?}: {:?}", run.outcome) };
        assert!(why.contains(words), "{why} lacks {words}");
        assert_eq!(run.check("the hook", bench.timeout).unwrap_err().code, Code::HookExec);
    }
    drop(writer);
    let run = bench.run_as(&shell("true"), Some("no-such-user"), &[]);
    assert!(matches!(&run.outcome, HookOutcome::NotExecutable(why) if why.contains("no-such-user")));
}

#[test]
fn a_hook_runs_as_its_user() {
    let bench = Bench::new();
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    let name = if own.uid.is_root() { "nobody" } else { &own.name };
    std::fs::set_permissions(bench.tree.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = bench.run_as(&shell("id -un; id -u"), Some(name), &[]);
    let user = exec::user(name).unwrap();
    assert_eq!(lines(&run), [name.to_owned(), user.uid.to_string()]);
    if own.uid.is_root() {
        let groups = bench.run_as(&shell("id -G; grep ^CapEff /proc/self/status"), Some(name), &[]);
        assert_eq!(lines(&groups), [user.gid.to_string(), "CapEff:\t0000000000000000".to_owned()]);
        // What the agent may do, its hook may not: the directory is judged by the user.
        std::fs::set_permissions(bench.tree.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let refused = bench.run_as(&shell("true"), Some(name), &[]);
        assert!(
            matches!(&refused.outcome, HookOutcome::NotExecutable(why) if why.contains("directory")),
            "{refused:?}"
        );
    }
}

#[test]
fn a_hook_that_kills_its_guard_fails_and_still_leaves_nothing() {
    let bench = Bench::new();
    if bench.runner.cgroups.make("probe").is_none() {
        return; // Without groups such a hook's children cannot be told from others.
    }
    let run = bench.run(&shell("setsid sleep 7330.6 & kill -9 $PPID; sleep 7330.6"));
    assert_eq!(run.outcome, HookOutcome::Signal("SIGKILL".into()));
    wait_until("all gone", || running_with("sleep 7330.6").is_empty());
}

#[test]
fn sweeping_ends_what_an_agent_left() {
    let bench = Bench::new();
    let Some(group) = bench.runner.cgroups.make("hook-0-0") else { return };
    let mut child = std::process::Command::new("sleep").arg("7340.7").spawn().unwrap();
    group.add(child.id() as i32).unwrap();
    bench.runner.sweep();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn the_output_of_two_runs_is_kept() {
    let bench = Bench::new();
    let logs = Dir::open(bench.tree.path()).unwrap();
    for word in ["one", "two", "three"] {
        bench.run(&shell(&format!("echo {word}"))).save(&logs, "web-start").unwrap();
    }
    let read = |name: &str| String::from_utf8(logs.read(name, 1 << 20).unwrap().unwrap()).unwrap();
    assert!(read("web-start.log").ends_with("three\n"));
    assert!(read("web-start.log.1").ends_with("two\n"));
}
