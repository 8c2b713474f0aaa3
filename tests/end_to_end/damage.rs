//! Bytes that rot: in the coordinator's files, and in a host's records.

use std::fs;
use std::path::{Path, PathBuf};

use houston_common::digest::Digest;
use houston_tests::fleet::{Fleet, Hook, NO_BAKES, POLICY, Package, QUICK, until};

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("written");
}

/// The coordinator's stored form of a file of a package.
fn object(fleet: &Fleet, set: &str, file: &str) -> PathBuf {
    let contents = fs::read(fleet.place().join("packages").join(set).join(file)).expect("a file");
    let digest = Digest::of(&contents).to_string();
    fleet.coordinator_dir().join("files/objects").join(&digest[..2]).join(format!("{digest}.zst"))
}

#[test]
fn a_damaged_file_is_named_and_not_served_and_a_push_mends_it() {
    let fleet = Fleet::start(&[("a", 2)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    fleet.wait_until_cleaned("1");
    let traces: Vec<_> = fleet.agents().map(houston_tests::fleet::Agent::trace).collect();

    let damaged = object(&fleet, &sets[1], "bin/serve");
    flip(&damaged, 60);
    fleet.begin_rollout("prod", &sets[1]);
    let status = until("the rollout does not go on", || {
        let status = fleet.status("prod");
        (status["state"] == "halted").then_some(status)
    });
    assert_eq!(status["cause"]["kind"], "lost_budget", "{status}");
    for exception in status["exceptions"].as_array().expect("a list") {
        assert_eq!(exception["exception"], "prepare_failed", "{status}");
    }
    let failure = &status["notable"][0]["failure"];
    assert!(matches!(failure["code"].as_str(), Some("E-ART-DAMAGED" | "E-ART-MISSING")), "{status}");
    assert_eq!(fleet.end_of_rollout("prod").code, 1);
    assert!(!damaged.exists(), "it is not offered any more");
    let aside = fleet.coordinator_dir().join("files/damaged").join(damaged.file_name().expect("a name"));
    assert!(aside.exists(), "it is set aside");
    assert!(fleet.coordinator_log().contains("E-ART-DAMAGED"));
    // A prepare that fails disturbs nobody.
    assert_eq!(fleet.agents().map(houston_tests::fleet::Agent::trace).collect::<Vec<_>>(), traces);

    let directory = fleet.place().join("packages").join(&sets[1]).display().to_string();
    let pushed = fleet.json(&["package", "push", &directory]);
    assert_eq!(pushed["uploaded_files"], 1, "only what was lost: {pushed}");
    fleet.ok(&["rollout", "start", "prod", &sets[1], "--supersede"]);
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 0, "{ended:?}\n{}", fleet.status("prod"));
    assert!(fleet.agents().all(|agent| agent.traced("serve 2") == 1));
}

#[test]
fn a_damaged_journal_is_set_aside_and_nothing_restarts() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    fleet.wait_until_cleaned("1");
    let floor = fs::read(fleet.agent_ref("a1").environment_dir("prod").join("floor")).expect("a floor");

    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("a flipped bit", |journal| flip(journal, 100)),
        ("half of it", |journal| {
            let bytes = fs::read(journal).expect("a journal");
            fs::write(journal, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("nothing in it", |journal| fs::write(journal, "").expect("written")),
        ("no file at all", |journal| fs::remove_file(journal).expect("removed")),
    ];
    for (what, harm) in harms {
        let (trace, pid) = (fleet.agent_ref("a1").trace(), fleet.agent_ref("a1").service_pid());
        fleet.agent("a1").kill();
        harm(&fleet.agent_ref("a1").environment_dir("prod").join("journal"));
        fleet.agent("a1").start();
        fleet.wait_until_heard("a1");
        until(&format!("{what}: it is well again"), || {
            let host = fleet.host("a1");
            let environment = &host["environments"][0];
            let well = environment["health"]["state"] == "healthy" && host["presence"] == "seen";
            (well && environment["running"]["version_set"] == "web-1").then_some(())
        });
        let agent = fleet.agent_ref("a1");
        assert_eq!((agent.trace(), agent.service_pid()), (trace, pid), "{what}");
        let kept = fs::read(agent.environment_dir("prod").join("floor")).expect("a floor");
        assert_eq!(kept, floor, "{what}: the floor is a file of its own");
        let journal = agent.environment_dir("prod").join("journal");
        until(&format!("{what}: it has a journal again"), || journal.exists().then_some(()));
    }
    let aside = fs::read_dir(fleet.agent_ref("a1").environment_dir("prod")).expect("listed").flatten();
    let aside = aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("journal.damaged-"));
    assert_eq!(aside.count(), 3);

    // It takes the next release like any other host.
    fleet.roll("prod", &sets[1], 0);
    assert_eq!(fleet.agent_ref("a1").traced("serve 2"), 1);
}

#[test]
fn a_journal_that_is_lost_in_the_middle_is_a_failure_and_the_host_is_taken_back() {
    let mut fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version)));
    fleet.roll("prod", &sets[0], 0);
    // After the switch, before the new version has been started and proved.
    fleet.agent_ref("a1").hold("start");
    fleet.begin_rollout("prod", &sets[1]);
    until("it is half way", || (fleet.agent_ref("a1").traced("start 2 begin") > 0).then_some(()));
    fleet.agent("a1").kill();
    flip(&fleet.agent_ref("a1").environment_dir("prod").join("journal"), 100);
    fleet.agent_ref("a1").let_go("start");
    fleet.agent("a1").start();
    let ended = fleet.end_of_rollout("prod");
    let status = fleet.status("prod");
    assert_eq!((ended.code, status["state"].as_str()), (1, Some("rolled_back")), "{ended:?}\n{status}");
    assert_eq!(status["notable"][0]["failure"]["code"], "E-JOURNAL", "{status}");
    let host = fleet.host("a1");
    assert_eq!(host["environments"][0]["running"]["version_set"], "web-1", "{host}");
    assert!(fleet.agent_ref("a1").service_pid().is_some());
}

#[test]
fn a_tree_that_was_changed_on_the_host_is_laid_out_anew_before_it_is_used() {
    let fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let sets = ["1", "2"].map(|version| fleet.push(&Package::web(version).with(Hook::new("check", ""))));
    fleet.roll("prod", &sets[0], 0);
    // Version 2 differs in houston.toml and its scripts. One byte of what both share, in place.
    let trees = fleet.agent_ref("a1").directory().join("trees");
    let tree = fs::read_dir(trees).expect("trees").flatten().map(|entry| entry.path());
    let tree = tree.filter(|path| path.is_dir()).find(|path| path.join("bin/serve").exists());
    let file = tree.expect("a laid-out tree").join("bin/serve");
    let mut permissions = fs::metadata(&file).expect("a file").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&file, permissions).expect("writable");
    let text = fs::read_to_string(&file).expect("a script");
    fs::write(&file, text + "# tampered with\n").expect("written");
    fleet.roll("prod", &sets[1], 0);
    let serve =
        fs::read_to_string(fleet.agent_ref("a1").environment_dir("prod").join("current/web/bin/serve"));
    let serve = serve.expect("what runs");
    assert!(!serve.contains("tampered") && serve.contains("serve 2"), "{serve}");
}
