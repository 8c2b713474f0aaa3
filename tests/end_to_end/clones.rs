//! One identity on two machines, and two agents on one disk.

use houston_tests::fleet::{Fleet, NO_BAKES, POLICY, Package, QUICK, until};

#[test]
fn two_agents_on_one_directory_are_one_too_many() {
    let fleet = Fleet::start(&[("a", 1)], QUICK);
    let pid = fleet.agent_ref("a1").pid();
    let second = fleet.agent_ref("a1").start_another();
    let said = second.stderr.lines().last().unwrap_or_default();
    assert!(second.code == 4 && said.starts_with("E-LOCKED: "), "{second:?}");
    assert!(said.contains(&pid.to_string()), "it names who has it: {said}");
    fleet.wait_until_seen(&["a1".to_owned()]);
}

#[test]
fn a_copied_disk_is_found_out_and_both_take_nothing_until_a_person_has_looked() {
    let mut fleet = Fleet::start(&[("a", 2)], QUICK);
    fleet.agent("a1").kill();
    fleet.clone_disk("a1", "copy");
    fleet.agent("a1").start();
    fleet.agent("copy").start();
    let held = until("the host is held", || fleet.host("a1")["held"]["kind"].as_str().map(str::to_owned));
    assert_eq!(held, "clone");
    until("one of them is told", || {
        ["a1", "copy"].iter().any(|name| fleet.agent_ref(name).log().contains("E-CLONE")).then_some(())
    });
    fleet.environment("prod", "Hello", &format!("{POLICY}{NO_BAKES}"));
    let set = fleet.push(&Package::web("1"));
    fleet.begin_rollout("prod", &set);
    assert_eq!(fleet.reasons("prod", Some("a1")), ["held"]);
    let ended = fleet.end_of_rollout("prod");
    assert_eq!(ended.code, 6, "{ended:?}\n{}", fleet.status("prod"));
    let status = fleet.status("prod");
    assert_eq!(status["exceptions"][0]["exception"], "held", "{status}");
    for name in ["a1", "copy"] {
        assert_eq!(fleet.agent_ref(name).traced("serve 1"), 0, "{name}");
    }

    // One becomes a host of its own; the other is let go, and both get what they missed.
    fleet.agent("copy").kill();
    fleet.enroll_anew("copy", "a");
    fleet.ok(&["host", "release", "a1", "--reason", "the copy is another host now"]);
    fleet.agent("copy").start();
    // Who was refused asks again after minutes; who starts asks at once.
    fleet.agent("a1").kill();
    fleet.agent("a1").start();
    for name in ["a1", "copy"] {
        until(&format!("{name} has caught up"), || {
            (fleet.reasons("prod", Some(name)) == ["up_to_date"]).then_some(())
        });
        assert_eq!(fleet.agent_ref(name).traced("serve 1"), 1, "{name}");
    }
    assert_eq!(fleet.host("a1")["held"], serde_json::Value::Null);
    assert_ne!(fleet.host("a1")["id"], fleet.host("copy")["id"]);
}
