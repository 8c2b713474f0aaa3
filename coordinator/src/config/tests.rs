use std::os::unix::fs::PermissionsExt as _;

use super::*;

const NAMES: &str = "names = [\"localhost\"]\n";

fn parse(text: &str) -> Result<Config, Refusal> {
    Config::parse(text, Path::new("/somewhere"))
}

#[test]
fn what_init_writes_is_read_back() {
    let names: Vec<ServerName> =
        ["coordinator.example", "10.0.0.1", "::1"].map(|name| name.parse().expect(name)).into();
    let listen = ("127.0.0.1:1".parse().expect("address"), "[::1]:2".parse().expect("address"));
    let config = parse(&Config::to_text(&names, listen.0, listen.1)).expect("valid");
    assert_eq!(config.names, names);
    assert_eq!((config.agent_listen, config.enrollment_listen), listen);
    assert_eq!(config.directory, Path::new("/somewhere"));
    assert_eq!((config.hold, config.lost_after), (HOLD, LOST_AFTER));
}

#[test]
fn tunables_are_taken() {
    let text = "hold = \"200ms\"\nlost_after = \"1s\"\nhost_certificate_lifetime = \"3s\"\nfetches_max = 2\n";
    let config = parse(&format!("{NAMES}{text}agent_address = \"coordinator.example:1\"")).expect("valid");
    assert_eq!(config.hold, Duration::from_millis(200));
    assert_eq!(config.host_certificate_lifetime, Duration::from_secs(3));
    assert_eq!(config.fetches_max, 2);
    assert_eq!(config.agent_address.expect("told").to_string(), "coordinator.example:1");
}

#[test]
fn mistakes_have_their_codes() {
    for (text, code) in [
        ("names = [", Code::ConfigSyntax),
        ("", Code::ConfigKey),
        ("names = []", Code::ConfigValue),
        ("names = [\"a b\"]", Code::ConfigValue),
        ("names = \"localhost\"", Code::ConfigValue),
        ("names = [\"localhost\"]\nnames = [\"localhost\"]", Code::ConfigKey),
        ("names = [\"localhost\"]\nhodl = \"1s\"", Code::ConfigKey),
        ("names = [\"localhost\"]\nhold = 5", Code::ConfigValue),
        ("names = [\"localhost\"]\nhold = \"5\"", Code::ConfigValue),
        ("names = [\"localhost\"]\nhold = \"0s\"", Code::ConfigValue),
        ("names = [\"localhost\"]\nhold = \"11m\"\nlost_after = \"1h\"", Code::ConfigValue),
        ("names = [\"localhost\"]\nhold = \"90s\"", Code::ConfigConflict),
        ("names = [\"localhost\"]\nagent_listen = \"7400\"", Code::ConfigValue),
        ("names = [\"localhost\"]\nconnections_max = 0", Code::ConfigValue),
        ("names = [\"localhost\"]\nconnections_max = -1", Code::ConfigValue),
    ] {
        assert_eq!(parse(text).expect_err(text).code, code, "{text}");
    }
}

#[test]
fn a_mistake_is_found_by_line_and_column() {
    let refusal = parse("names = [\"localhost\"]\n  hodl = \"1s\"\n").expect_err("unknown key");
    assert!(refusal.what.starts_with("line 2, column 3: there is no key \"hodl\""), "{refusal}");
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, NAMES).expect("write");
    for (mode, code) in
        [(0o664, Some(Code::ConfigPermission)), (0o602, Some(Code::ConfigPermission)), (0o644, None)]
    {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        assert_eq!(Config::read(&path).err().map(|refusal| refusal.code), code, "{mode:o}");
    }
    for missing in [directory.path().join("none.toml"), directory.path().to_owned()] {
        assert_eq!(Config::read(&missing).expect_err("no file").code, Code::ConfigFile);
    }
}
