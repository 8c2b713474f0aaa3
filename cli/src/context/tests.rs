use super::*;

fn context(address: &str, credential: &str) -> Context {
    Context { address: address.parse().expect("address"), server_name: None, credential: credential.into() }
}

fn name(text: &str) -> ContextName {
    text.parse().expect("name")
}

fn two() -> Contexts {
    let all = BTreeMap::from([
        (name("prod"), context("coordinator.example:7400", "credentials/prod")),
        (
            name("staging"),
            Context {
                server_name: Some("inside.example".parse().expect("name")),
                ..context("[::1]:7400", "/odd \"path\"\n\u{7f}")
            },
        ),
    ]);
    Contexts { current: Some(name("prod")), all }
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(Contexts::parse("contexts.toml", &two().to_text()), Ok(two()));
    let nobody = Contexts::default();
    assert_eq!(Contexts::parse("contexts.toml", &nobody.to_text()), Ok(nobody));
}

#[test]
fn the_file_is_for_its_owner_only() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("houston/contexts.toml");
    assert_eq!(Contexts::read(&path), Ok(Contexts::default()), "one that does not exist knows nobody");
    two().write(&path).expect("written");
    assert_eq!(Contexts::read(&path), Ok(two()));
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("parent")), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("changed");
    assert_eq!(Contexts::read(&path).expect_err("open to others").code, Code::ConfigPermission);
}

#[test]
fn the_file_is_read_strictly() {
    let cases = [
        (
            "current = \"prod\"\n",
            "E-CFG-CONFLICT: current names \"prod\", which is not in [contexts] at c:1:11; houston context use NAME",
        ),
        ("curent = \"prod\"\n", "E-CFG-KEY: there is no key \"curent\" at c:1:1; did you mean \"current\"?"),
        (
            "[contexts.prod]\naddress = \"a:1\"\n",
            "E-CFG-VALUE: [contexts.NAME] lacks the key \"credential\" at c:1:11; add it",
        ),
        (
            "[contexts.Prod]\naddress = \"a:1\"\ncredential = \"c\"\n",
            "E-NAME: a context's name must match [a-z0-9-]{1,63}, got \"Prod\" at c:1:11",
        ),
    ];
    for (text, expected) in cases {
        let refusal = Contexts::parse("c", text).expect_err(text);
        assert_eq!(refusal.to_string(), expected, "{text}");
    }
    let refusal = Contexts::parse("c", "[contexts.p]\naddress = \"http://a:1\"\ncredential = \"c\"")
        .expect_err("scheme");
    assert_eq!(refusal.code, Code::Address);
}

#[test]
fn a_context_is_chosen_by_name_or_is_the_current_one() {
    let contexts = two();
    assert_eq!(contexts.choose(None).expect("current").0.as_str(), "prod");
    assert_eq!(contexts.choose(Some(&name("staging"))).expect("named").0.as_str(), "staging");
    assert_eq!(
        contexts.choose(Some(&name("prdo"))).expect_err("unknown").to_string(),
        "E-CONTEXT: there is no context \"prdo\"; did you mean \"prod\"?"
    );
    assert_eq!(
        Contexts::default().choose(None).expect_err("nothing").to_string(),
        "E-CONTEXT: this machine knows no coordinator; houston context add NAME --credential DIR"
    );
}
