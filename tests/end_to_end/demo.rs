//! The demo keeps its word also when something dies in it.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use houston_tests::fleet::{processes_with, signal};
use nix::sys::signal::Signal;

/// Ends by itself, and what it has started with it: no rollout of it takes longer than it allows.
struct Demo {
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
    place: PathBuf,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn houston() -> PathBuf {
    let own = std::env::current_exe().expect("this test");
    own.parent().and_then(Path::parent).expect("the target directory").join("houston")
}

impl Demo {
    /// Returns when its coordinator listens.
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(houston());
        command
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let told = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut demo = Self { child, told, place: PathBuf::new() };
        let line = demo.hear("with its state in ");
        demo.place = line.split("with its state in ").last().expect("a path").into();
        demo
    }

    /// The next line of its story that holds the text.
    fn hear(&mut self, text: &str) -> String {
        let line = self.told.by_ref().map(|line| line.expect("UTF-8")).find(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("it never said {text:?}"))
    }

    /// The process that holds a lock in its directory.
    fn holder(&self, lock: &str) -> i32 {
        let text = std::fs::read_to_string(self.place.join(lock)).expect("a lock");
        text.split_whitespace().find_map(|word| word.parse().ok()).expect("a process")
    }

    fn services(&self) -> usize {
        processes_with(&format!("HOUSTON_DATA={}", self.place.display())).len()
    }

    /// How it ended, and what it complained of.
    fn ended(&mut self) -> (Option<i32>, String) {
        let mut complaint = String::new();
        let stderr = self.child.stderr.as_mut().expect("its complaints");
        stderr.read_to_string(&mut complaint).expect("UTF-8");
        (self.child.wait().expect("it ends").code(), complaint)
    }
}

#[test]
fn a_demo_whose_agent_was_killed_leaves_nothing_behind() {
    let mut demo = Demo::start(&["--hosts", "3", "--zones", "3"]);
    demo.hear("It is yours");
    let path = demo.hear("export PATH=");
    assert!(
        path.contains(&format!("{}:$PATH", houston().parent().expect("a directory").display())),
        "{path}"
    );
    demo.hear("An agent's log");
    assert_eq!(demo.services(), 3);
    signal(demo.holder("hosts/a1/lock"), Signal::SIGKILL);
    assert_eq!(demo.services(), 3, "a service outlives its agent");
    signal(demo.child.id() as i32, Signal::SIGINT);
    demo.hear("Nothing was left behind.");
    let (code, complaint) = demo.ended();
    assert_eq!(code, Some(0), "{complaint}");
    assert_eq!(demo.services(), 0);
    assert!(!demo.place.exists());
}

#[test]
fn a_demo_whose_coordinator_was_killed_says_so_and_fails() {
    let mut demo = Demo::start(&["--hosts", "3", "--zones", "1", "--exit"]);
    signal(demo.holder("coordinator/lock"), Signal::SIGKILL);
    let (code, complaint) = demo.ended();
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("E-DEMO: the coordinator has ended (signal: 9 (SIGKILL)"), "{complaint}");
    assert_eq!(demo.services(), 0);
    assert!(!demo.place.exists());
}
