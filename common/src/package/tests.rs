use proptest::prelude::*;

use super::*;
use crate::manifest::Entry;

const FULL: &str = r#"
name = "hello"
version = "1.2.3"
restart_with = ["libgreet"]

[hooks.check]
command = ["hooks/check", "--fast"]
timeout = "30s"

[hooks.drain]
command = ["hooks/drain"]
timeout = "90s"
user = "hello"
rerun = false

[[services]]
name = "web"
command = ["bin/hello", "--port", "8080"]
user = "hello"
restart = "on-failure"
ports = [8080]
stop_grace = "20s"

[services.limits]
open_files = 65536
memory = "512MiB"
core = "0B"

[[services.health]]
http = { port = 8080, path = "/healthz?deep=1", expect_body = "ok" }
interval = "1s"
timeout = "500ms"
healthy_after = 1
unhealthy_after = 5
start_grace = "10s"

[[services.health]]
command = ["bin/hello", "--self-test"]

[[services]]
name = "worker"
command = ["sleep", "infinity"]
health = "process-only"

[settings]
GREETING = { default = "hello" }
DATABASE = { required = true }

[secrets]
TLS_KEY_FILE = { file = "/etc/hello/tls.key" }
"#;

const LEAST: &str = "name = \"a\"\nversion = \"1\"\n";

fn parse(text: &str) -> Result<PackageFile, Refusal> {
    PackageFile::parse(text.as_bytes())
}

fn service(lines: &str) -> String {
    format!("{LEAST}[[services]]\nname = \"s\"\ncommand = [\"s\"]\n{lines}\n")
}

fn check(lines: &str) -> String {
    service(&format!("[[services.health]]\n{lines}"))
}

#[track_caller]
fn refused(text: &str, code: Code, part: &str) {
    let refusal = parse(text).expect_err(text);
    assert_eq!(refusal.code, code, "{refusal}\n{text}");
    assert!(refusal.to_string().contains(part), "{refusal} lacks {part:?}");
    assert!(refusal.to_string().chars().all(crate::id::is_plain), "{refusal:?}");
}

fn words(program: &str, arguments: &[&str]) -> Command {
    Command {
        program: program.to_owned(),
        arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
    }
}

fn full_web() -> Service {
    let seconds = Duration::from_secs;
    Service {
        name: "web".parse().expect("name"),
        command: words("bin/hello", &["--port", "8080"]),
        user: Some("hello".to_owned()),
        restart: Restart::OnFailure,
        ports: vec![8080],
        limits: Limits {
            open_files: Some(65536),
            processes: None,
            memory_bytes: Some(512 << 20),
            core_bytes: Some(0),
        },
        stop_grace: seconds(20),
        health: Health::Checks(vec![
            HealthCheck {
                probe: Probe::Http {
                    port: 8080,
                    path: "/healthz?deep=1".to_owned(),
                    expect_body: Some("ok".to_owned()),
                },
                interval: seconds(1),
                timeout: Duration::from_millis(500),
                healthy_after: 1,
                unhealthy_after: 5,
                start_grace: seconds(10),
            },
            HealthCheck {
                probe: Probe::Command(words("bin/hello", &["--self-test"])),
                interval: seconds(5),
                timeout: seconds(2),
                healthy_after: 2,
                unhealthy_after: 3,
                start_grace: seconds(0),
            },
        ]),
    }
}

fn full_worker() -> Service {
    Service {
        name: "worker".parse().expect("name"),
        command: words("sleep", &["infinity"]),
        user: None,
        restart: Restart::Always,
        ports: Vec::new(),
        limits: Limits::default(),
        stop_grace: Duration::from_secs(10),
        health: Health::ProcessOnly,
    }
}

#[test]
fn every_key_is_read() {
    let package = parse(FULL).expect("valid");
    let seconds = Duration::from_secs;
    let hook = |command, timeout, user: Option<&str>, rerun| Hook {
        command,
        timeout: Some(timeout),
        user: user.map(str::to_owned),
        rerun,
    };
    let expected = PackageFile {
        name: "hello".parse().expect("name"),
        version: "1.2.3".parse().expect("version"),
        hooks: BTreeMap::from([
            (HookPhase::Check, hook(words("hooks/check", &["--fast"]), seconds(30), None, true)),
            (HookPhase::Drain, hook(words("hooks/drain", &[]), seconds(90), Some("hello"), false)),
        ]),
        services: vec![full_web(), full_worker()],
        settings: vec![
            SettingNeed { key: "DATABASE".parse().expect("key"), default: None },
            SettingNeed { key: "GREETING".parse().expect("key"), default: Some("hello".to_owned()) },
        ],
        secrets: vec![SecretNeed {
            variable: "TLS_KEY_FILE".parse().expect("key"),
            file: "/etc/hello/tls.key".to_owned(),
        }],
        restart_with: vec!["libgreet".parse().expect("name")],
    };
    assert_eq!(package, expected);
}

#[test]
fn the_documented_example_is_valid() {
    let documentation = include_str!("../../../docs/package.md");
    let (_, after) = documentation.split_once("```toml\n").expect("an example");
    let (example, _) = after.split_once("```").expect("its end");
    let package = parse(example).expect("valid");
    let of_tree = ["hooks/check", "hooks/drain", "hooks/resume", "bin/hello"];
    let mut others = vec![("bin", Node::Directory), ("hooks", Node::Directory)];
    others.extend(of_tree.map(|path| (path, program(FileMode::Executable))));
    assert_eq!(check_tree(&tree(example, &others), example.as_bytes()), Ok(package));
}

#[test]
fn the_least_package_has_a_name_and_a_version() {
    let package = parse(LEAST).expect("valid");
    assert!(package.hooks.is_empty() && package.services.is_empty());
    refused("version = \"1\"\n", Code::PackageValue, "name");
    refused("name = \"a\"\n", Code::PackageValue, "version");
}

#[test]
fn wrong_syntax_says_where() {
    refused("name = \"a\"\nversion = 1.2.\n", Code::PackageSyntax, "houston.toml:2:");
    refused("name = \"a\"\nname = \"b\"\n", Code::PackageSyntax, "houston.toml:2:1");
    let phase = "[hooks.check]\ncommand = [\"a\"]\n";
    refused(&format!("{LEAST}{phase}{phase}"), Code::PackageSyntax, "houston.toml:5:");
    assert_eq!(PackageFile::parse(b"name = \"\xff\"").expect_err("not UTF-8").code, Code::PackageSyntax);
    refused(&" ".repeat(PACKAGE_FILE_BYTES_MAX + 1), Code::PackageSyntax, "more than 65536 bytes");
    let padded = |length: usize| format!("{LEAST}{}", "#".repeat(length - LEAST.len()));
    parse(&padded(PACKAGE_FILE_BYTES_MAX)).expect("at the limit");
    refused(&format!("a = {}", "[".repeat(10_000)), Code::PackageSyntax, "houston.toml:1:");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    refused(&format!("{LEAST}vershion = \"2\"\n"), Code::PackageKey, "did you mean \"version\"?");
    refused(
        &format!("{LEAST}[hooks.chekc]\ncommand = [\"a\"]\n"),
        Code::PackageKey,
        "there is no key \"chekc\" at houston.toml:3:8; did you mean \"check\"?",
    );
    refused(
        &format!("{LEAST}[hooks.zebra]\n"),
        Code::PackageKey,
        "known here: check, drain, stop, start, resume, cleanup",
    );
    refused(
        &service("helth = \"process-only\""),
        Code::PackageKey,
        "houston.toml:6:1; did you mean \"health\"?",
    );
    refused(&check("tcp = { port = 1, host = \"x\" }"), Code::PackageKey, "houston.toml:7:19");
    refused(&format!("{LEAST}\"a\\u001bb\" = 1\n"), Code::PackageKey, "a\\u{1b}b");
}

#[test]
fn wrong_types_and_names_are_refused() {
    refused("name = \"A\"\nversion = \"1\"\n", Code::PackageValue, "houston.toml:1:8");
    refused("name = \"a\"\nversion = \"../1\"\n", Code::PackageValue, "houston.toml:2:11");
    refused("name = \"a\"\nversion = 1\n", Code::PackageValue, "houston.toml:2:11");
    refused(&format!("{LEAST}[hooks]\ncheck = \"sh\"\n"), Code::PackageValue, "houston.toml:4:9");
    refused(
        &format!("{LEAST}[hooks.check]\ncommand = \"sh -c x\"\n"),
        Code::PackageValue,
        "houston.toml:4:11",
    );
    refused(&format!("{LEAST}[hooks.check]\nuser = \"a\"\n"), Code::PackageValue, "command");
    for user in ["", "0", "1000", "a b", "Root", "a:b", "-a", &"a".repeat(33)] {
        let text = format!("{LEAST}[hooks.check]\ncommand = [\"a\"]\nuser = \"{user}\"\n");
        refused(&text, Code::PackageValue, "houston.toml:5:8");
    }
    refused(
        &format!("restart_with = [\"a\"]\n{LEAST}"),
        Code::PackageValue,
        "itself or twice at houston.toml:1:17",
    );
    refused(&format!("restart_with = [\"b\", \"b\"]\n{LEAST}"), Code::PackageValue, "houston.toml:1:22");
}

#[test]
fn programs_are_paths_of_the_tree_or_of_the_host() {
    let with = |command: &str| format!("{LEAST}[hooks.check]\ncommand = {command}\n");
    for bad in [
        "[]",
        "[\"\"]",
        "[\"./a\"]",
        "[\"../a\"]",
        "[\"/\"]",
        "[\"/usr/../a\"]",
        "[\"a/\"]",
        "[\"a//b\"]",
        "[\"//a\"]",
        "[\"a\\u0000\"]",
        "[\"a\", \"\\u0000\"]",
        "[\"a\\\\b\"]",
        "[\"bin/\\u202ea\"]",
    ] {
        refused(&with(bad), Code::PackageValue, "houston.toml:4:11");
    }
    for good in ["[\"sh\"]", "[\"bin/a\"]", "[\"/usr/bin/env\", \"x\"]", "[\"a\", \"\", \"*\\n\"]"] {
        parse(&with(good)).expect(good);
    }
    let of_length = |length: usize| with(&format!("[\"a\", \"{}\"]", "x".repeat(length - 1)));
    parse(&of_length(COMMAND_BYTES_MAX)).expect("at the limit");
    refused(&of_length(COMMAND_BYTES_MAX + 1), Code::PackageValue, "more than 16384 bytes");
}

#[test]
fn timeouts_are_within_the_cap() {
    let with = |lines: &str| format!("{LEAST}[hooks.check]\ncommand = [\"a\"]\n{lines}\n");
    for bad in ["0s", "-1s", "61m", "3601s", "5", "", "5 minutes"] {
        refused(&with(&format!("timeout = \"{bad}\"")), Code::HookTimeoutValue, "houston.toml:5:11");
    }
    for good in ["1ms", "3599s", "60m"] {
        parse(&with(&format!("timeout = \"{good}\""))).expect(good);
    }
    refused(&with("rerun = false"), Code::HookTimeoutValue, "say how long it may take with timeout");
    let hook = parse(&with("")).expect("valid").hooks.remove(&HookPhase::Check).expect("declared");
    assert_eq!((hook.timeout, hook.rerun), (None, true));
}

#[test]
fn services_are_refused_when_they_contradict_each_other() {
    let two = format!(
        "{}[[services]]\nname = \"s\"\ncommand = [\"s\"]\nhealth = \"process-only\"\n",
        service("health = \"process-only\"")
    );
    refused(&two, Code::PackageValue, "service \"s\" is declared twice");
    for (bad, place) in [("0", "6:10"), ("70000", "6:10"), ("-1", "6:10"), ("1, 1", "6:13")] {
        let text = service(&format!("ports = [{bad}]\nhealth = \"process-only\""));
        refused(&text, Code::PackageValue, &format!("houston.toml:{place}"));
    }
    for bad in [
        "restart = \"no\"",
        "stop_grace = \"11m\"",
        "limits = { memory = \"1GB\" }",
        "limits = { memory = 1 }",
        "limits = { open_files = 0 }",
        "limits = { memory = \"99999999999GiB\" }",
        "limits = { core = \"-1B\" }",
    ] {
        refused(
            &service(&format!("{bad}\nhealth = \"process-only\"")),
            Code::PackageValue,
            "houston.toml:6:",
        );
    }
    let many = |count: usize| {
        let one =
            |i| format!("[[services]]\nname = \"s{i}\"\ncommand = [\"s\"]\nhealth = \"process-only\"\n");
        format!("{LEAST}{}", (0..count).map(one).collect::<String>())
    };
    parse(&many(SERVICES_MAX)).expect("at the limit");
    refused(&many(SERVICES_MAX + 1), Code::PackageValue, "33 services, at most 32");
}

#[test]
fn a_service_says_how_it_is_known_to_be_well() {
    refused(&service(""), Code::HealthNone, "service \"s\" declares no health check at houston.toml:3:1");
    refused(&service("health = []"), Code::HealthNone, "process-only");
    refused(&service("health = \"none\""), Code::HealthValue, "houston.toml:6:10");
    refused(&service("health = 1"), Code::PackageValue, "houston.toml:6:10");
    for bad in [
        "",
        "interval = \"5s\"",
        "tcp = { port = 1 }\ncommand = [\"a\"]",
        "tcp = { port = 0 }",
        "tcp = { port = 70000 }",
        "http = { port = 1, path = \"http://elsewhere/\" }",
        "http = { port = 1, path = \"//elsewhere/\" }",
        "http = { port = 1, path = \"\" }",
        "http = { port = 1, path = \"/a b\" }",
        "http = { port = 1, path = \"/\\r\\nX:\" }",
        "http = { port = 1, path = \"/\", expect_body = \"\" }",
        "tcp = { port = 1 }\ninterval = \"99ms\"",
        "tcp = { port = 1 }\ninterval = \"301s\"",
        "tcp = { port = 1 }\ntimeout = \"0s\"",
        "tcp = { port = 1 }\ntimeout = \"61s\"",
        "tcp = { port = 1 }\nhealthy_after = 0",
        "tcp = { port = 1 }\nunhealthy_after = 101",
        "tcp = { port = 1 }\nunhealthy_after = -1",
        "tcp = { port = 1 }\nstart_grace = \"11m\"",
        "tcp = { port = 1 }\ninterval = \"60s\"\nunhealthy_after = 10",
    ] {
        refused(&check(bad), Code::HealthValue, "houston.toml:");
    }
    parse(&check("tcp = { port = 1 }\ninterval = \"100ms\"\nhealthy_after = 100\ntimeout = \"1s\""))
        .expect("valid");
}

#[test]
fn variables_cannot_take_over_a_process() {
    for bad in [
        "LD_PRELOAD",
        "PATH",
        "HOUSTON_HOST",
        "BASH_ENV",
        "BASHOPTS",
        "IFS",
        "\"A=B\"",
        "\"\"",
        "1A",
        "\"A\\u0000\"",
        "NOTIFY_SOCKET",
    ] {
        let setting = format!("{LEAST}[settings]\n{bad} = {{ required = true }}\n");
        refused(&setting, Code::HookEnvironment, "houston.toml:4:1");
        let secret = format!("{LEAST}[secrets]\n{bad} = {{ file = \"/a\" }}\n");
        refused(&secret, Code::HookEnvironment, "houston.toml:4:1");
    }
    for bad in
        ["{}", "{ required = false }", "{ required = true, default = \"x\" }", "{ default = \"a\\u0000\" }"]
    {
        refused(&format!("{LEAST}[settings]\nA = {bad}\n"), Code::PackageValue, "houston.toml:4:5");
    }
    for bad in ["a", "", "/", "/a/../b", "/a//b", "/a/", "/a\\nb"] {
        refused(
            &format!("{LEAST}[secrets]\nA = {{ file = \"{bad}\" }}\n"),
            Code::PackageValue,
            "houston.toml:4:14",
        );
    }
    refused(
        &format!("{LEAST}[settings]\nA = {{ required = true }}\n[secrets]\nA = {{ file = \"/a\" }}\n"),
        Code::PackageValue,
        "a setting and a secret",
    );
    let with = |length: usize| format!("{LEAST}[settings]\nA = {{ default = \"{}\" }}\n", "x".repeat(length));
    parse(&with(SETTING_DEFAULT_BYTES_MAX)).expect("at the limit");
    refused(&with(SETTING_DEFAULT_BYTES_MAX + 1), Code::PackageValue, "at most 4096 bytes");
}

fn tree(package_file: &str, others: &[(&str, Node)]) -> Manifest {
    let node = Node::File {
        mode: FileMode::Plain,
        length: package_file.len() as u64,
        digest: FileDigest(Digest::of(package_file.as_bytes())),
    };
    let mut entries = vec![Entry { path: PACKAGE_FILE.to_owned(), node }];
    entries.extend(others.iter().map(|(path, node)| Entry { path: (*path).to_owned(), node: node.clone() }));
    Manifest::from_entries(entries).expect("a valid tree")
}

fn program(mode: FileMode) -> Node {
    Node::File { mode, length: 0, digest: FileDigest(Digest::of(b"")) }
}

#[test]
fn a_tree_keeps_the_word_of_its_file() {
    let text = format!("{LEAST}[hooks.check]\ncommand = [\"hooks/check\"]\n");
    let link = |target: &str| Node::Link { target: target.to_owned() };
    let directory = ("hooks", Node::Directory);
    let good: [&[(&str, Node)]; 2] = [
        &[directory.clone(), ("hooks/check", program(FileMode::Executable))],
        &[("v1", Node::Directory), ("v1/check", program(FileMode::Executable)), ("hooks", link("v1"))],
    ];
    for others in good {
        check_tree(&tree(&text, others), text.as_bytes()).expect("valid");
    }
    let bad: [(&[(&str, Node)], &str); 3] = [
        (&[], "is not in the tree"),
        (&[directory.clone(), ("hooks/check", program(FileMode::Plain))], "is not executable"),
        (&[directory, ("hooks/check", Node::Directory)], "is not a file"),
    ];
    for (others, part) in bad {
        let refusal = check_tree(&tree(&text, others), text.as_bytes()).expect_err(part);
        assert_eq!(refusal.code, Code::HookMissing);
        assert!(refusal.to_string().contains(part), "{refusal}");
    }
}

#[test]
fn services_and_probes_are_checked_like_hooks() {
    let executable = [("app", program(FileMode::Executable)), ("tool", program(FileMode::Plain))];
    for (program, fits) in
        [("app", true), ("tool", false), ("of-the-host", true), ("/bin/true", true), ("bin/x", false)]
    {
        let service = format!(
            "{LEAST}[[services]]\nname = \"s\"\ncommand = [\"{program}\"]\nhealth = \"process-only\"\n"
        );
        let probe = check(&format!("command = [\"{program}\"]"));
        for text in [service, probe] {
            let code =
                check_tree(&tree(&text, &executable), text.as_bytes()).err().map(|refusal| refusal.code);
            assert_eq!(code, if fits { None } else { Some(Code::HookMissing) }, "{text}");
        }
    }
}

#[test]
fn the_file_is_the_one_that_the_manifest_names() {
    let manifest = tree(LEAST, &[]);
    let code = |result: Result<PackageFile, Refusal>| result.expect_err("refused").code;
    check_tree(&manifest, LEAST.as_bytes()).expect("valid");
    assert_eq!(code(check_tree(&manifest, format!("{LEAST}#").as_bytes())), Code::FileDigest);
    assert_eq!(code(check_tree(&manifest, LEAST.replace('1', "2").as_bytes())), Code::FileDigest);
    let none = Manifest::from_entries(Vec::new()).expect("valid");
    assert_eq!(code(check_tree(&none, LEAST.as_bytes())), Code::PackageSyntax);
    let directory = vec![Entry { path: PACKAGE_FILE.to_owned(), node: Node::Directory }];
    let directory = Manifest::from_entries(directory).expect("valid");
    assert_eq!(code(check_tree(&directory, LEAST.as_bytes())), Code::PackageSyntax);
}

proptest! {
    #[test]
    fn damaged_files_never_panic(at in any::<prop::sample::Index>(), byte: u8) {
        let mut text = FULL.as_bytes().to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        if let Err(refusal) = PackageFile::parse(&text) {
            prop_assert!(refusal.to_string().chars().all(crate::id::is_plain), "{refusal}");
        }
    }
}
