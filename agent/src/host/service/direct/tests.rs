use houston_common::package::Restart;

use super::super::super::exec::tests::{command, program, running_with, shell, variables, wait_until};
use super::*;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Bench {
    state: tempfile::TempDir,
    cgroups: Cgroups,
    direct: Direct,
}

impl Bench {
    fn with(cgroups: impl Fn(&Path) -> Cgroups) -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("environments")).unwrap();
        let cgroups = cgroups(state.path());
        let direct = Direct::open(state.path(), program(), cgroups.clone(), ADDRESS).unwrap();
        Self { state, cgroups, direct }
    }

    fn new() -> Self {
        Self::with(Cgroups::open)
    }

    fn both() -> [Self; 2] {
        [Self::new(), Self::with(|_| Cgroups::none())]
    }

    fn spec(&self, script: &str, restart: Restart) -> ServiceSpec {
        ServiceSpec {
            key: key(),
            command: shell(script),
            user: None,
            restart,
            ports: Vec::new(),
            limits: houston_common::package::Limits::default(),
            stop_grace: Duration::from_secs(10),
            tree: self.state.path().to_owned(),
            variables: variables(&[]),
        }
    }

    /// As after the agent was killed and started again.
    fn restart_agent(&mut self) {
        self.direct = Direct::open(self.state.path(), program(), self.cgroups.clone(), ADDRESS).unwrap();
    }

    fn pid(&self) -> i32 {
        match self.direct.status(&key()) {
            Status::Running { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.direct.stop(&key(), Duration::ZERO);
        self.cgroups.remove();
    }
}

fn key() -> ServiceKey {
    ServiceKey::from_dotted("prod.web.http").unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_service_outlives_the_agent_and_is_found_again() {
    for (number, mut bench) in Bench::both().into_iter().enumerate() {
        let mark = format!("sleep 740{number}.1");
        let spec = bench.spec(&format!("echo up; setsid {mark} & {mark}"), Restart::Always);
        bench.direct.start(&spec).unwrap();
        let pid = bench.pid();
        wait_until("it runs", || running_with(&mark).len() >= 2);
        bench.direct.start(&spec).unwrap();
        assert_eq!(bench.pid(), pid, "started twice");
        bench.restart_agent();
        assert_eq!(bench.direct.known().unwrap(), [key()]);
        assert_eq!(bench.pid(), pid);
        bench.direct.start(&spec).unwrap();
        assert_eq!(bench.pid(), pid, "started again by the next agent");
        assert_eq!(bench.direct.log_tail(&key(), 5, 1000), "up");
        bench.direct.stop(&key(), 10 * SECOND).unwrap();
        assert_eq!(bench.direct.status(&key()), Status::Stopped);
        assert_eq!(bench.direct.known().unwrap(), []);
        // Without groups, what has left the session with its parent alive cannot be followed.
        if number == 0 && bench.cgroups.make("probe").is_some() {
            assert_eq!(running_with(&mark), []);
        }
        running_with(&mark).into_iter().for_each(|process| process.signal(Signal::KILL));
        bench.direct.stop(&key(), SECOND).unwrap();
    }
}

#[test]
fn another_spec_replaces_what_runs_but_another_release_does_not() {
    let bench = Bench::new();
    let spec = bench.spec("sleep 7410.1; :", Restart::Always);
    bench.direct.start(&spec).unwrap();
    let first = bench.pid();
    let changed = ServiceSpec { variables: variables(&[("COLOUR", "red")]), ..spec.clone() };
    assert_ne!(changed.digest(), spec.digest());
    bench.direct.start(&changed).unwrap();
    assert_ne!(bench.pid(), first);
    assert!(ProcessId::of(first).is_none_or(|process| !process.runs()));
}

#[test]
fn a_service_that_ignores_term_is_killed() {
    for bench in Bench::both() {
        let spec = bench.spec("trap '' TERM; echo up; while :; do sleep 0.1; done", Restart::Never);
        bench.direct.start(&spec).unwrap();
        wait_until("it ignores TERM", || bench.direct.log_tail(&key(), 1, 100) == "up");
        let pid = bench.pid();
        bench.direct.stop(&key(), Duration::from_millis(200)).unwrap();
        assert!(ProcessId::of(pid).is_none());
    }
}

#[test]
fn what_cannot_be_executed_fails_at_once() {
    let bench = Bench::new();
    let mut spec = bench.spec("", Restart::Always);
    std::fs::write(bench.state.path().join("program"), "#!/no/such\n").unwrap();
    for (program, words) in
        [("./program", "not executable"), ("bin/none", "no such file"), ("none", "neither")]
    {
        spec.command = command(program, &[]);
        let refusal = bench.direct.start(&spec).unwrap_err();
        assert_eq!(refusal.code, Code::ServiceStart);
        assert!(refusal.what.contains(words), "{refusal}");
        assert_eq!(bench.direct.status(&key()), Status::Stopped);
        assert_eq!(bench.direct.known().unwrap(), []);
    }
    spec.command = shell("true");
    spec.user = Some("no-such-user".to_owned());
    assert_eq!(bench.direct.start(&spec).unwrap_err().code, Code::HookUser);
}

#[test]
fn what_ends_is_started_again_by_its_policy() {
    let bench = Bench::new();
    let spec = bench.spec("echo run; exit 3", Restart::OnFailure);
    bench.direct.start(&spec).unwrap();
    let mut now = SECOND;
    tick_until(&bench, &mut now, "two restarts", |status| {
        matches!(status, Status::Restarting { exit: Exit::Code(3), restarts: 2 })
    });
    let spec = bench.spec("exit 0", Restart::OnFailure);
    bench.direct.start(&spec).unwrap();
    tick_until(&bench, &mut now, "it stays down", |status| *status == Status::Ended(Exit::Code(0)));
    let spec = bench.spec("kill -9 $$", Restart::Never);
    bench.direct.start(&spec).unwrap();
    tick_until(&bench, &mut now, "it stays down", |status| *status == Status::Ended(Exit::Signal(9)));
}

/// Ticks until the service does this.
fn tick_until(bench: &Bench, now: &mut Duration, what: &str, wanted: impl Fn(&Status) -> bool) {
    wait_until(what, || {
        *now += SECOND;
        bench.direct.tick(*now);
        wanted(&bench.direct.status(&key()))
    });
}

#[test]
fn what_has_ended_for_good_does_not_run_again_with_the_next_agent() {
    for (policy, script, was_seen, runs) in [
        (Restart::Never, "echo run; exit 0", true, 1),
        (Restart::Never, "echo run; exit 1", false, 1),
        (Restart::OnFailure, "echo run; exit 0", true, 1),
        // How it ended while no agent ran is not known: nothing says that it went well.
        (Restart::OnFailure, "echo run; [ -e again ] && exec sleep 7440.1; touch again; exit 0", false, 2),
        (Restart::Always, "echo run; [ -e again ] && exec sleep 7440.1; touch again; exit 0", false, 2),
    ] {
        let (mut bench, mut now) = (Bench::new(), SECOND);
        let spec = bench.spec(script, policy);
        bench.direct.start(&spec).unwrap();
        let has_ended = || bench.direct.records.running(&key()).is_none();
        if was_seen {
            tick_until(&bench, &mut now, "it ends", |status| matches!(status, Status::Ended(_)));
        } else {
            wait_until("it ends", has_ended);
            // An agent that was not its parent learns no more.
            bench.direct.records.read(&key()).unwrap().process.reap();
        }
        bench.direct.start(&spec).unwrap();
        bench.restart_agent();
        bench.direct.start(&spec).unwrap();
        tick_until(&bench, &mut now, "its policy is kept", |status| match runs {
            1 => matches!(status, Status::Ended(_)),
            _ => matches!(status, Status::Running { .. }),
        });
        let text = |bench: &Bench| {
            std::fs::read_to_string(bench.state.path().join("environments/prod/logs/web.http.log")).unwrap()
        };
        wait_until("it has said so", || text(&bench).lines().count() >= runs);
        assert_eq!(text(&bench).lines().count(), runs, "{policy:?} {script}");
        bench.direct.stop(&key(), SECOND).unwrap();
        bench.direct.start(&spec).unwrap();
        wait_until("a stop and a start run it anew", || text(&bench).lines().count() == runs + 1);
    }
}

#[test]
fn a_reused_process_id_is_not_mistaken() {
    let bench = Bench::with(|_| Cgroups::none());
    let mut other = std::process::Command::new("sleep").arg("7420.1").spawn().unwrap();
    let other_id = ProcessId::of(other.id() as i32).unwrap();
    let record = Record {
        version: RECORD_VERSION,
        process: ProcessId { start: other_id.start - 1, ..other_id },
        boot: bench.direct.records.boot.clone(),
        cgroup: None,
        digest: bench.spec("true", Restart::Never).digest().to_string(),
        log_from: 0,
        exit: None,
    };
    for boot in [record.boot.clone(), "another-boot/1".to_owned()] {
        // After a reboot even the start time may be the same.
        let process = if boot == record.boot { record.process } else { other_id };
        let record = Record { boot, process, ..record.clone() };
        bench.direct.records.write(&key(), &record).unwrap();
        assert_eq!(bench.direct.status(&key()), Status::Stopped);
        bench.direct.stop(&key(), SECOND).unwrap();
        assert!(other.try_wait().unwrap().is_none(), "somebody else was killed");
    }
    other_id.signal(Signal::KILL);
    other.wait().unwrap();
}

#[test]
fn a_damaged_record_does_not_lead_to_two_processes() {
    let mut bench = Bench::new();
    if bench.cgroups.make("probe").is_none() {
        return; // Then only the record knows of the process.
    }
    let spec = bench.spec("sleep 7430.1; :", Restart::Always);
    bench.direct.start(&spec).unwrap();
    wait_until("it runs", || running_with("sleep 7430.1").len() >= 2);
    bench.direct.records.directory.replace(key().dotted(), b"{ damaged").unwrap();
    bench.restart_agent();
    bench.direct.start(&spec).unwrap();
    let pid = bench.pid();
    wait_until("only one", || {
        let running = running_with("sleep 7430.1");
        running.len() == 2 && running.iter().any(|process| process.pid == pid)
    });
}

#[test]
fn logs_are_cut_in_place() {
    let bench = Bench::new();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo ready; while [ ! -e go ]; do sleep 0.05; done; \
                  echo after; sleep 60";
    bench.direct.start(&bench.spec(script, Restart::Always)).unwrap();
    wait_until("it has written", || bench.direct.log_tail(&key(), 1, 100) == "ready");
    bench.direct.tick(SECOND);
    let logs = bench.direct.logs(&key()).unwrap();
    let length = |name: &str| logs.file(name).unwrap().metadata().unwrap().len();
    assert_eq!((length("web.http.log"), length("web.http.log.1")), (0, log::LOG_BYTES));
    std::fs::write(bench.state.path().join("go"), "").unwrap();
    wait_until("it goes on at the new end", || bench.direct.log_tail(&key(), 1, 100) == "after");
    assert_eq!(length("web.http.log"), 6);
}

#[test]
fn a_log_is_bounded_during_a_long_stop_and_where_its_copy_has_no_room() {
    let bench = Bench::new();
    let script = "trap '' TERM; head -c 3000000 /dev/zero; echo; echo ready; while :; do sleep 0.05; done";
    bench.direct.start(&bench.spec(script, Restart::Always)).unwrap();
    wait_until("it has written", || bench.direct.log_tail(&key(), 1, 100) == "ready");
    // Nothing can take this name.
    let logs = bench.state.path().join("environments/prod/logs");
    std::fs::create_dir_all(logs.join("web.http.log.1/full")).unwrap();
    let acting = bench.direct.act();
    bench.direct.table().remove(&key());
    bench.direct.tick(SECOND);
    assert_eq!(std::fs::metadata(logs.join("web.http.log")).unwrap().len(), 0);
    drop(acting);
}

#[test]
fn a_port_that_is_held_is_named() {
    let bench = Bench::new();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let spec = ServiceSpec { ports: vec![port], ..bench.spec("sleep 60", Restart::Always) };
    let refusal = bench.direct.start(&spec).unwrap_err();
    assert!(refusal.what.contains(&format!("port {port} is held by process")), "{refusal}");
}
