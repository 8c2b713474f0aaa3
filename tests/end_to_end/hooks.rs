//! Hooks that misbehave in every way that hooks do: each ends in its time with its code, leaves nothing
//! behind, and does not take the agent with it.

use houston_common::id::is_plain;
use houston_tests::fleet::{Fleet, Hook, NO_BAKES, POLICY, Package, QUICK, until};

/// A8: whatever hooks print or start, the agent stays below this.
const AGENT_KIB_MAX: u64 = 64 << 10;

struct Misbehaviour {
    version: &'static str,
    /// Of the start hook.
    body: &'static str,
    timeout: &'static str,
    /// How the rollout ends.
    exit: i32,
    /// Absent where the hook ends well.
    code: Option<&'static str>,
    /// In the failure's message or log.
    says: &'static str,
}

const MISBEHAVIOURS: [Misbehaviour; 8] = [
    Misbehaviour {
        version: "hangs",
        body: "echo about to wait; exec sleep 1000",
        timeout: "1s",
        exit: 1,
        code: Some("E-HOOK-TIMEOUT"),
        says: "about to wait",
    },
    Misbehaviour {
        version: "ignores-term",
        body: "trap '' TERM; while :; do sleep 1000; done",
        timeout: "1s",
        exit: 1,
        code: Some("E-HOOK-TIMEOUT"),
        says: "did not end within 1s",
    },
    Misbehaviour {
        version: "leaves-a-daemon",
        body: "setsid sh -c 'trap \"\" TERM HUP; exec sleep 1000' & echo left",
        timeout: "5s",
        exit: 0,
        code: None,
        says: "",
    },
    Misbehaviour {
        version: "floods",
        body: "head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; echo the end >&2; exit 3",
        timeout: "60s",
        exit: 1,
        code: Some("E-HOOK-EXIT"),
        says: "the end",
    },
    Misbehaviour {
        version: "steers",
        body: "printf 'a\\033[2J\\033]0;owned\\007b\\302\\233c\\342\\200\\256d\\377e\\r\\n'; exit 4",
        timeout: "5s",
        exit: 1,
        code: Some("E-HOOK-EXIT"),
        says: "\\u{1b}[2J",
    },
    Misbehaviour {
        version: "crashes",
        body: "kill -SEGV $$",
        timeout: "5s",
        exit: 1,
        code: Some("E-HOOK-SIGNAL"),
        says: "SIGSEGV",
    },
    Misbehaviour {
        version: "kills-its-parent",
        body: "kill -9 $PPID; sleep 1000",
        timeout: "5s",
        exit: 1,
        code: Some("E-HOOK-SIGNAL"),
        says: "",
    },
    Misbehaviour {
        version: "asks",
        body: "printf 'Continue? '; read answer || { echo nobody answers; exit 9; }",
        timeout: "5s",
        exit: 1,
        code: Some("E-HOOK-EXIT"),
        says: "nobody answers",
    },
];

#[test]
fn a_hook_that_misbehaves_ends_in_its_time_with_its_code() {
    let fleet = Fleet::start(&[("a", 1)], QUICK);
    let policy = format!("{}{NO_BAKES}", POLICY.replace("25%", "0%").replace("60s", "100s"));
    fleet.environment("prod", "Hello", &policy);
    let good = fleet.push(&Package::web("good"));
    fleet.roll("prod", &good, 0);
    let agent = fleet.agent_ref("a1");
    for Misbehaviour { version, body, timeout, exit, code, says } in MISBEHAVIOURS {
        let hook = Hook { timeout, ..Hook::new("start", body) };
        let set = fleet.push(&Package::web(version).with(hook));
        // What is not ended in its own time ends with the deadline, which has another code.
        fleet.roll("prod", &set, exit);
        assert_eq!(agent.traced(&format!("start {version} begin")), 1, "{version}");
        // What still runs is the service alone, of the release that it should be.
        let pid = until("the service runs", || agent.service_pid());
        until(&format!("{version}: nothing is left behind"), || (agent.processes() == [pid]).then_some(()));
        let Some(code) = code else { continue };
        let status = fleet.houston(&["rollout", "status", "prod", "--output", "json"]);
        let view = status.json();
        let failure = &view["notable"][0]["failure"];
        assert_eq!(failure["code"], code, "{version}: {view}");
        let (message, log) = (failure["message"].as_str(), failure["log_tail"].as_str());
        let (message, log) = (message.unwrap_or_default(), log.unwrap_or_default());
        assert!(message.contains(says) || log.contains(says), "{version}: {failure}");
        assert!(log.len() <= 16 << 10, "{version}: {}", log.len());
        // What a terminal is shown is plain.
        let shown = fleet.ok(&["rollout", "status", "prod"]).stdout;
        let odd = |c: &char| !is_plain(*c) && *c != '\n' && *c != '\t';
        assert_eq!(shown.chars().find(odd), None, "{version}: {shown:?}");
        assert_eq!(log.chars().chain(message.chars()).find(odd), None, "{version}: {failure}");
    }
    let peak = agent.peak_memory_kib();
    assert!(peak < AGENT_KIB_MAX, "{peak} KiB");
}

#[test]
fn a_drain_hook_of_the_old_release_cannot_block_its_replacement() {
    let fleet = Fleet::start(&[("a", 1)], QUICK);
    fleet.environment("prod", "Hello", &format!("{}{NO_BAKES}", POLICY.replace("25%", "0%")));
    let hook = Hook { timeout: "1s", ..Hook::new("drain", "exec sleep 1000") };
    let stuck = fleet.push(&Package::web("1").with(hook).with(Hook::new("stop", "exit 7")));
    fleet.roll("prod", &stuck, 0);
    let fix = fleet.push(&Package::web("2"));
    fleet.roll("prod", &fix, 0);
    let agent = fleet.agent_ref("a1");
    assert_eq!((agent.traced("drain 1 begin"), agent.traced("serve 2")), (1, 1), "{:#?}", agent.trace());
    let failure = &fleet.host("a1")["environments"][0]["failure"];
    assert_eq!(failure["code"], "E-HOOK-TIMEOUT", "it says so all the same: {}", fleet.host("a1"));
}
