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
batch = 2
fleet_floor = "75%"
zone_floor = "50%"
health_window = "20s"
apply_deadline = "5m"
start_within = "15s"
failure_budget = "2%"
lost_budget = 3
on_failure = "halt"
rollback_batch = "50%"
retries = 2
[policy.bake]
one_box = "5m"
first_zone = "0s"
later_zones = "1d"
"#;

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
        batch: Share::Hosts(2),
        fleet_floor: Share::Percent(75),
        zone_floor: Some(Share::Percent(50)),
        bake: Bakes { one_box: seconds(300), first_zone: seconds(0), later_zones: seconds(86_400) },
        health_window: seconds(20),
        apply_deadline: seconds(300),
        start_within: seconds(15),
        failure_budget: Share::Percent(2),
        lost_budget: Share::Hosts(3),
        on_failure: OnFailure::Halt,
        rollback_batch: Share::Percent(50),
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
            "[policy]\npacing = \"striped\"\n",
            "E-CFG-VALUE: pacing is \"striped\" at prod.toml:4:10; allowed: zonal",
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
