//! The program itself: arguments, the line that others wait for, signals, exit codes.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use houston_common::api::client::OperatorClient;
use houston_common::tls::{Address, ClientSettings, ClockFloor, Trust};
use houston_tests::coordinator::read_credential;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Beside this test's own binary, where `cargo build` puts it.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this test");
    let directory = own.parent().and_then(|deps| deps.parent()).expect("the target directory");
    let program = directory.join("houston-coordinator");
    assert!(program.exists(), "build the programs first: cargo build --workspace --profile trial");
    program
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().expect("it runs")
}

/// Killed when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn init_then_run_then_stop() {
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let directory = parent.path().join("coordinator");
    let text = directory.to_str().expect("UTF-8");
    let init = ["init", "--directory", text, "--name", "127.0.0.1", "--operator", "ada"];
    let made = run(&init);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let credential = format!("{text}/operators/ada");
    assert_eq!(String::from_utf8_lossy(&made.stdout), format!("credential={credential}\n"));
    let next = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(next.contains(&format!("houston-coordinator run --directory {text}\n")), "{next}");
    assert!(next.contains(&format!("houston context add NAME --credential {credential}\n")), "{next}");
    let again = run(&init);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).starts_with("E-STATE: "), "{again:?}");

    let listen = ["--agent-listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0"];
    let mut command = Command::new(program());
    command.args(["run", "--directory", text]).args(listen).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = Killed(command.spawn().expect("it starts"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("its output")).lines();
    let ready = lines.next().expect("a line").expect("UTF-8");
    let words: Vec<&str> = ready.split(' ').collect();
    let ["ready", agents, enrollment] = words[..] else { panic!("{ready}") };
    let agents = agents.strip_prefix("agents=").expect("where hosts connect");
    let enrollment = enrollment.strip_prefix("enrollment=").expect("where machines enroll");
    let written = std::fs::read_to_string(directory.join("addresses")).expect("the addresses");
    assert_eq!(written, format!("agents={agents}\nenrollment={enrollment}\n"));

    let second = run(&[["run", "--directory", text].as_slice(), &listen].concat());
    assert_eq!(second.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&second.stderr).contains("E-LOCKED: "), "{second:?}");

    let ca = std::fs::read_to_string(directory.join("ca.pem")).expect("the authority");
    let ada = read_credential(&directory.join("operators/ada"));
    let settings =
        ClientSettings::new(Trust::Authorities(&ca), Some(&ada), &ClockFloor::new()).expect("settings");
    let address: Address = agents.parse().expect("an address");
    let client = OperatorClient::new(settings.connect(&address).await.expect("ada connects"));
    assert_eq!(client.who_am_i().await.expect("answered").operator.as_str(), "ada");

    let pid = Pid::from_raw(i32::try_from(child.0.id()).expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("told to stop");
    let status =
        tokio::task::spawn_blocking(move || child.0.wait()).await.expect("waited").expect("it ended");
    assert_eq!(status.code(), Some(0), "an orderly end");
    assert!(lines.next().is_none(), "the only line that it prints");
    assert_private(&directory);
}

/// That nobody but the owner may do anything with a path or what is below it.
fn assert_private(path: &Path) {
    let metadata = std::fs::symlink_metadata(path).expect("it is there");
    let mode = metadata.permissions().mode();
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).expect("listed") {
            assert_private(&entry.expect("an entry").path());
        }
    }
}

#[test]
fn a_wrong_configuration_is_told_before_anything_starts() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = directory.path().join("coordinator.toml");
    std::fs::write(&file, "names = [\"localhost\"]\nhodl = \"1s\"\n").expect("written");
    let output = run(&["run", "--config", file.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("E-CFG-KEY: ") && said.contains("line 2, column 1"), "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 1, "nothing was made");
}
