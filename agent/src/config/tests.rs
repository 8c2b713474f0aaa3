use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn everything_has_a_default() {
    assert_eq!(Config::parse(""), Ok(Config::default()));
    let config =
        Config::parse("runner = \"direct\"\naddress = \"127.0.0.7\"\nlog = \"debug\"\n").expect("config");
    assert_eq!(config.address, IpAddr::from([127, 0, 0, 7]));
    assert_eq!(config.log, "debug");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, code, part) in [
        ("adress = \"127.0.0.1\"", Code::ConfigKey, "line 1, column 1: there is no key \"adress\""),
        ("\n address = \"localhost\"", Code::ConfigValue, "address is \"localhost\""),
        ("address = \"0.0.0.0\"", Code::ConfigValue, "address"),
        ("address = 5", Code::ConfigValue, "line 1"),
        ("runner = \"systemd\"", Code::ConfigValue, "runner"),
        ("log = \"a=b=c\"", Code::ConfigValue, "log"),
        ("log = ", Code::ConfigSyntax, "line 1"),
        ("log = \"info\"\nlog = \"info\"", Code::ConfigKey, "line 2"),
    ] {
        let refusal = Config::parse(text).expect_err(text);
        assert_eq!(refusal.code, code, "{text}: {refusal}");
        assert!(refusal.what.contains(part), "{text}: {refusal}");
    }
    let refusal = Config::parse("adress = \"127.0.0.1\"").expect_err("unknown");
    assert_eq!(refusal.next, "did you mean \"address\"?");
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let temp = tempfile::tempdir().expect("directory");
    let path = temp.path().join("agent.toml");
    assert_eq!(Config::read(&path).expect_err("missing").code, Code::ConfigFile);
    std::fs::write(&path, "log = \"warn\"").expect("file");
    for (mode, is_good) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("mode");
        let read = Config::read(&path);
        assert_eq!(read.is_ok(), is_good, "{mode:o}");
        if let Err(refusal) = read {
            assert_eq!(refusal.code, Code::ConfigPermission);
        }
    }
    assert_eq!(Config::read(temp.path()).expect_err("directory").code, Code::ConfigFile);
}
