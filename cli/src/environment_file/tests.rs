use std::time::Duration;

use houston_common::clock::WallTime;
use houston_common::policy::gate::{Before, Comparison, Condition, Days, Gate, Metric, Window};
use houston_common::policy::{Bakes, Growth, OnFailure, Pacing, Share};

use super::*;

const FULL: &str = r#"
name = "prod"
[selector]
role = "web"
[settings]
LISTEN = "0.0.0.0:80"
[policy]
pacing = "zonal"
zone_order = ["b", "a"]
zones_at_once = 2
batch = 2
growth = { factor = "150%", most = "50%", carries = true }
fleet_floor = "75%"
zone_floor = "50%"
health_window = "20s"
apply_deadline = "5m"
start_within = "15s"
failure_budget = "2%"
zone_failure_budget = 2
lost_budget = 3
on_failure = "halt"
rollback_batch = "50%"
retries = 2
[policy.bake]
one_box = "5m"
first_zone = "0s"
later_zones = "1d"
[[policy.gate]]
name = "seen"
before = "first_wave"
approval = { by_another = true }
within = "2d"
[[policy.gate]]
name = "office"
before = "each_wave"
window = { time_zone = "Europe/Berlin", days = ["mon", "fri"], from = "09:00", until = "16:30" }
[[policy.gate]]
name = "holidays"
before = "one_box"
freeze = { from = "2026-12-20T18:00[Europe/Berlin]", until = "2027-01-03T00:00:00Z" }
[[policy.gate]]
name = "errors"
before = "end"
metric = { query = "sum(errors)", at_most = 0.5, fresh = "30s" }
[[policy.gate]]
name = "schema"
before = "first_wave"
every_host = { package = "schema", at_least = "2.1" }
[[policy.gate]]
name = "proof"
before = "each_wave"
evidence = { passes = 100 }
"#;

fn gates() -> Vec<Gate> {
    let gate = |called: &str, before, condition| Gate {
        name: called.parse().expect("a name"),
        before,
        condition,
        within: None,
    };
    let office = Window {
        time_zone: "Europe/Berlin".to_owned(),
        days: Days::from_bits(0b001_0001).expect("days"),
        from: 540,
        until: 990,
    };
    let errors = Metric {
        query: "sum(errors)".to_owned(),
        is: Comparison::AtMost,
        value: "0.5".parse().expect("a number"),
        fresh: Duration::from_secs(30),
    };
    // 17:00 and midnight in UTC.
    let (from, until) = (WallTime(1_797_786_000_000), WallTime(1_798_934_400_000));
    let (package, at_least) = ("schema".parse().expect("a name"), "2.1".parse().expect("a version"));
    vec![
        Gate {
            within: Some(Duration::from_secs(2 * 86_400)),
            ..gate("seen", Before::FirstWave, Condition::Approval { by_another: true })
        },
        gate("office", Before::EachWave, Condition::Window(office)),
        gate("holidays", Before::OneBox, Condition::Freeze { from, until }),
        gate("errors", Before::End, Condition::Metric(errors)),
        gate("schema", Before::FirstWave, Condition::EveryHost { package, at_least }),
        gate("proof", Before::EachWave, Condition::Evidence { passes: 100 }),
    ]
}

#[test]
fn gates_are_refused_by_their_place() {
    let refused = |gate: &str| refused(&format!("[[policy.gate]]\n{gate}\n")).to_string();
    for (gate, says) in [
        ("name = \"a\"\nbefore = \"end\"", "a gate has 0 conditions"),
        (
            "name = \"a\"\nbefore = \"end\"\napproval = {}\nevidence = { passes = 1 }",
            "a gate has 2 conditions",
        ),
        ("name = \"a\"\nbefore = \"lunch\"\napproval = {}", "before is \"lunch\""),
        ("name = \"bake\"\nbefore = \"end\"\napproval = {}", "cannot be called \"bake\""),
        ("name = \"a\"\nbefore = \"end\"\nevidence = { passes = 0 }", "1 to 1000000000 are allowed"),
        ("name = \"a\"\nbefore = \"end\"\nmetric = { query = \"up\" }", "a metric has 0 limits"),
        ("name = \"a\"\nbefore = \"end\"\nmetric = { query = \"\", above = 1 }", "the query has 0 bytes"),
        ("name = \"a\"\nbefore = \"end\"\nmetric = { query = \"up\", above = \"NaN\" }", "write a number"),
        (
            "name = \"a\"\nbefore = \"end\"\nwindow = { time_zone = \"Europe/Berlyn\", from = \"09:00\", until = \"10:00\" }",
            "no time zone",
        ),
        (
            "name = \"a\"\nbefore = \"end\"\nwindow = { time_zone = \"UTC\", from = \"9\", until = \"10:00\" }",
            "hours and minutes",
        ),
        (
            "name = \"a\"\nbefore = \"end\"\nwindow = { time_zone = \"UTC\", days = [], from = \"09:00\", until = \"10:00\" }",
            "names no day",
        ),
        (
            "name = \"a\"\nbefore = \"end\"\nfreeze = { from = \"2027-01-01T00:00:00Z\", until = \"2026-01-01T00:00:00Z\" }",
            "ends before it begins",
        ),
        (
            "name = \"a\"\nbefore = \"end\"\nfreeze = { from = \"tomorrow\", until = \"2026-01-01T00:00:00Z\" }",
            "from is \"tomorrow\"",
        ),
    ] {
        let message = refused(gate);
        assert!(message.contains(says), "{gate}: {message}");
    }
}

#[test]
fn a_file_says_all_of_an_environment() {
    let file = parse("prod.toml", FULL).expect("parsed");
    assert_eq!(file.name.as_str(), "prod");
    assert_eq!(
        file.selector,
        BTreeMap::from([("role".parse().expect("key"), "web".parse().expect("value"))])
    );
    assert_eq!(file.settings.0.values().collect::<Vec<_>>(), ["0.0.0.0:80"]);
    let seconds = Duration::from_secs;
    let expected = Policy {
        pacing: Pacing::Zonal,
        zone_order: vec!["b".parse().expect("zone"), "a".parse().expect("zone")],
        zones_at_once: 2,
        batch: Share::Hosts(2),
        growth: Some(Growth { percent: 150, most: Share::Percent(50), carries: true }),
        fleet_floor: Share::Percent(75),
        zone_floor: Some(Share::Percent(50)),
        bake: Bakes { one_box: seconds(300), first_zone: seconds(0), later_zones: seconds(86_400) },
        health_window: seconds(20),
        apply_deadline: seconds(300),
        start_within: seconds(15),
        failure_budget: Share::Percent(2),
        zone_failure_budget: Some(Share::Hosts(2)),
        lost_budget: Share::Hosts(3),
        on_failure: OnFailure::Halt,
        rollback_batch: Share::Percent(50),
        gates: gates(),
        retries: 2,
    };
    assert_eq!(file.policy, expected);
}

#[test]
fn retries_are_few() {
    for bad in ["6", "-1", "\"many\"", "1.5"] {
        let text = format!("name = \"prod\"\n[selector]\n[policy]\nretries = {bad}\n");
        let refusal = parse("prod.toml", &text).expect_err(bad);
        assert_eq!(refusal.code, Code::ConfigValue, "{refusal}");
    }
}

#[test]
fn what_is_left_out_is_as_by_default() {
    let file = parse("prod.toml", "name = \"prod\"\n[selector]\n").expect("parsed");
    assert_eq!(file.policy, Policy::default());
    assert_eq!(file.settings, Settings::default());
    assert!(file.selector.is_empty());
}

/// The file `name = "prod"`, an empty selector, and then `rest`.
fn refused(rest: &str) -> Refusal {
    let text = format!("name = \"prod\"\n[selector]\n{rest}");
    parse("prod.toml", &text).expect_err(rest)
}

#[test]
fn refusals_name_the_place_and_the_next_step() {
    let cases: &[(&str, &str)] = &[
        (
            "[policy]\nbach = 2\n",
            "E-CFG-KEY: there is no key \"bach\" in [policy] at prod.toml:4:1; did you mean \"batch\"?",
        ),
        (
            "[policy]\none_box = \"1h\"\n",
            "E-CFG-KEY: there is no key \"one_box\" in [policy] at prod.toml:4:1; it belongs in [policy.bake]",
        ),
        ("[polcy]\n", "E-CFG-KEY: there is no key \"polcy\" at prod.toml:3:2; did you mean \"policy\"?"),
        (
            "[policy]\nbatch = 2\nbatch = 3\n",
            "E-CFG-KEY: the key \"batch\" is there twice at prod.toml:5:1; keep one",
        ),
        (
            "[policy]\nbatch = true\n",
            "E-CFG-VALUE: batch is true or false, not a text in quotes or a whole number at prod.toml:4:9",
        ),
        (
            "[policy]\npacing = \"stripes\"\n",
            "E-CFG-VALUE: pacing is \"stripes\" at prod.toml:4:10; allowed: zonal, striped",
        ),
        (
            "[policy]\nprofile = \"fsat\"\n",
            "E-CFG-VALUE: no profile \"fsat\" at prod.toml:4:11; did you mean \"fast\"?",
        ),
        (
            "[policy]\ngrowth = { factor = \"100%\", most = 3 }\n",
            "E-CFG-VALUE: factor is \"100%\" at prod.toml:4:21; write 150% for half as many again; 101% to 1000% are allowed",
        ),
        (
            "[policy]\nzones_at_once = 0\n",
            "E-CFG-VALUE: zones_at_once is \"0\" at prod.toml:4:17; 1 to 64 are allowed",
        ),
        (
            "[policy]\nzone_order = [\"a\", \"a\"]\n",
            "E-ZONE-TWICE: zone_order names the zone \"a\" twice at prod.toml:4:20; name it once",
        ),
        (
            "[policy]\nzone_order = [\"A\"]\n",
            "E-NAME: zone_order: a zone must match [a-z0-9-]{1,63}, got \"A\" at prod.toml:4:15",
        ),
        ("[settings]\nPORT = 80\n", "E-CFG-VALUE: PORT is a number, not a text in quotes at prod.toml:4:8"),
        (
            "[settings]\n\"a-b\" = \"1\"\n",
            "E-NAME: a setting's key must match [A-Za-z_][A-Za-z0-9_]{0,62}, got \"a-b\" at prod.toml:4:1",
        ),
        (
            "[policy]\nhealth_window = \"10m\"\n",
            "E-CFG-CONFLICT: health_window (10m) is not shorter than apply_deadline (10m): no host could settle in time at prod.toml:4:17; shorten health_window or lengthen apply_deadline",
        ),
    ];
    for (rest, expected) in cases {
        assert_eq!(refused(rest).to_string(), *expected);
    }
}

#[test]
fn shares_out_of_range_are_refused_with_the_range() {
    for bad in
        ["0", "\"0%\"", "-1", "\"101%\"", "\"ten\"", "1e9", "0.5", "18446744073709551616", "nan", "\"\""]
    {
        let refusal = refused(&format!("[policy]\nbatch = {bad}\n"));
        assert_eq!(refusal.code, Code::Budget, "{bad}: {refusal}");
        assert!(refusal.what.contains("100%"), "{refusal}");
    }
    for key in ["fleet_floor", "zone_floor"] {
        let text = format!("name = \"prod\"\n[selector]\n[policy]\n{key} = 0\n");
        assert!(parse("prod.toml", &text).is_ok(), "a floor of nobody is a floor");
    }
}

#[test]
fn durations_need_their_unit() {
    for bad in ["5", "\"5\"", "\"5 minutes\"", "\"-1s\"", "\"1y\"", "\"0s\""] {
        let refusal = refused(&format!("[policy]\napply_deadline = {bad}\n"));
        assert_eq!(refusal.code, Code::Duration, "{bad}: {refusal}");
        assert!(refusal.next.contains("5s, 5m or 5h"), "{refusal}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let refusal = parse("x.toml", "[selector]\n").expect_err("no name");
    assert_eq!(refusal.to_string(), "E-CFG-VALUE: the file lacks the key \"name\" at x.toml:1:1; add it");
    let refusal = parse("x.toml", "name = \"prod\"\n").expect_err("no selector");
    assert_eq!(refusal.to_string(), "E-CFG-VALUE: the file lacks the key \"selector\" at x.toml:1:1; add it");
}

#[test]
fn broken_syntax_shows_the_line() {
    let refusal = parse("x.toml", "name = \"prod\"\n[selector\n").expect_err("broken");
    assert_eq!(refusal.code, Code::ConfigSyntax);
    assert!(refusal.what.contains("\"[selector\" at x.toml:2:"), "{refusal}");
}

#[test]
fn nothing_from_the_file_reaches_the_terminal_raw() {
    let refusal = refused("\"a\u{1b}[31m\u{202e}\" = 1\n");
    assert!(refusal.to_string().chars().all(houston_common::id::is_plain), "{refusal}");
}

#[test]
fn settings_have_limits() {
    let long = format!("[settings]\nA = \"{}\"\n", "x".repeat(SETTING_BYTES_MAX + 1));
    assert_eq!(refused(&long).code, Code::ConfigValue);
    let many: String = (0..=SETTINGS_MAX).map(|i| format!("A{i} = \"\"\n")).collect();
    assert_eq!(refused(&format!("[settings]\n{many}")).code, Code::ConfigValue);
}
