mod arbitrary;
mod samples;

use std::collections::BTreeMap;

use houston_common::release::{SETTING_BYTES_MAX, SETTINGS_BYTES_MAX, Settings};
use proptest::prelude::*;

use super::*;
use crate::store::{COMMIT_BYTES_MAX, VALUE_BYTES_MAX, check_limits};

fn read_back(change: &Change) -> Result<Edit, RecordError> {
    decode(change.key(), change.value().expect("a put"))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(edit in arbitrary::edit()) {
        let change = encode(&edit);
        prop_assert_eq!(change.key(), &key(&edit));
        prop_assert_eq!(read_back(&change), Ok(edit));
    }

    #[test]
    fn any_value_is_read_or_refused_by_name(edit in arbitrary::edit(), at in any::<prop::sample::Index>(), byte: u8) {
        let change = encode(&edit);
        let mut value = change.value().expect("a put").to_vec();
        let at = at.index(value.len());
        value[at] = byte;
        if let Err(error) = decode(change.key(), &value) {
            prop_assert_eq!(error.key(), change.key());
        }
    }
}

#[test]
fn forgetting_deletes_the_record_that_was_written() {
    for (put, forget) in samples::forgotten() {
        let (written, change) = (encode(&put), encode(&forget));
        assert_eq!(change, Change::Delete { key: written.key().clone() });
    }
}

/// A golden file holds records as a released version has written them: each line a key and a value.
/// They must be read for ever. What this version writes is the same, until its format changes; then
/// `samples` go on in a new file, and these stay.
#[test]
fn golden_records_keep_reading() {
    let golden = [
        ("meta", include_str!("golden/meta.v1")),
        ("host", include_str!("golden/host.v1")),
        ("member", include_str!("golden/member.v1")),
        ("environment", include_str!("golden/environment.v1")),
        ("rollout", include_str!("golden/rollout.v1")),
        ("package", include_str!("golden/package.v1")),
        ("version-set", include_str!("golden/version-set.v1")),
        ("settings", include_str!("golden/settings.v1")),
        ("token", include_str!("golden/token.v1")),
        ("operator", include_str!("golden/operator.v1")),
        ("audit", include_str!("golden/audit.v1")),
    ];
    let samples = samples::all();
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    for edit in &samples {
        let change = encode(edit);
        let key = String::from_utf8(change.key().as_bytes().to_vec()).expect("text");
        let value = std::str::from_utf8(change.value().expect("a put")).expect("text");
        let kind = key.split('/').next().expect("a kind").to_owned();
        let lines = written.entry(kind).or_default();
        lines.push_str(&format!("{key} {value}\n"));
    }
    // `HOUSTON_GOLDEN=DIRECTORY` writes what this version writes, for a format that changes.
    if let Some(directory) = std::env::var_os("HOUSTON_GOLDEN").map(std::path::PathBuf::from) {
        for (kind, lines) in &written {
            std::fs::write(directory.join(format!("{kind}.v1")), lines).expect("written");
        }
    }
    for (kind, text) in golden {
        for line in text.lines() {
            let (key, value) = line.split_once(' ').expect("a key and a value");
            let read = decode(&Key::new(key.as_bytes()), value.as_bytes());
            let edit = read.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert!(samples.contains(&edit), "{key} is read as something else: {edit:?}");
        }
        assert_eq!(text, written.remove(kind).expect("samples"), "the format of {kind} has changed");
    }
    assert!(written.is_empty(), "kinds without a golden file: {:?}", written.keys());
}

#[test]
fn a_record_of_a_newer_version_is_refused_as_such() {
    let newer = br#"{"v":2,"record":{"whatever":[]},"more":1}"#;
    let error = decode(&Key::new(*b"host/h1"), newer).expect_err("newer");
    assert_eq!(error, RecordError::Newer { key: Key::new(*b"host/h1"), found: 2 });
    assert_eq!(error.code(), Code::StateNewer);
    let error = decode(&Key::new(*b"wave/w1"), br#"{"v":1,"record":{}}"#).expect_err("unknown");
    assert_eq!(error.code(), Code::StateNewer);
    assert!(error.refusal().to_string().contains("wave/w1"), "{}", error.refusal());
}

#[test]
fn a_record_with_more_or_less_than_its_fields_is_refused() {
    let change =
        encode(&samples::all().into_iter().find(|edit| matches!(edit, Edit::Audit(_))).expect("audit"));
    let text = String::from_utf8(change.value().expect("a put").to_vec()).expect("text");
    for (from, to) in [
        (r#""who":"#, r#""extra":1,"who":"#),
        (r#""who":"#, r#""whom":"#),
        (r#"{"v":1,"#, r#"{"v":1,"extra":1,"#),
        (r#"{"v":1,"#, r#"{"#),
    ] {
        let spoiled = text.replacen(from, to, 1);
        assert_ne!(spoiled, text, "{from}");
        let error = decode(change.key(), spoiled.as_bytes()).expect_err(&spoiled);
        assert_eq!((error.code(), error.key()), (Code::Store, change.key()), "{spoiled}");
    }
}

#[test]
fn a_record_under_anothers_key_is_refused() {
    let host = samples::all().into_iter().find(|edit| matches!(edit, Edit::Host(_))).expect("host");
    let change = encode(&host);
    let other = Key::new(*b"host/somebody-else");
    let error = decode(&other, change.value().expect("a put")).expect_err("misplaced");
    assert_eq!(error, RecordError::Misplaced { key: other, about: change.key().clone() });
}

#[test]
fn the_largest_settings_fit_into_a_record() {
    let count = SETTINGS_BYTES_MAX / SETTING_BYTES_MAX;
    let values = (0..count).map(|i| {
        let key = format!("K{i}");
        let value = "\u{1}".repeat(SETTING_BYTES_MAX - key.len());
        (key.parse().expect("key"), value)
    });
    let settings = Settings(values.collect());
    let change = encode(&Edit::Settings(settings.into()));
    assert!(change.value().expect("a put").len() < VALUE_BYTES_MAX);
    assert_eq!(check_limits(&[change]), Ok(()), "at most {COMMIT_BYTES_MAX}");
}
