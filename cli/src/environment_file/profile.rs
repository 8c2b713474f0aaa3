//! Named ways of rolling out. They are data (`cli/profiles`), and say a part of a policy: what they leave out
//! stays as it is in the environment.

use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::quoted;
use houston_common::policy::Policy;

use super::{KEYS, policy};
use crate::toml_file::{Keys, Section, Source};

#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    text: &'static str,
}

/// From the slowest to the fastest.
pub const ALL: [Profile; 4] = [
    Profile { name: "careful", text: include_str!("../../profiles/careful.toml") },
    Profile { name: "standard", text: include_str!("../../profiles/standard.toml") },
    Profile { name: "fast", text: include_str!("../../profiles/fast.toml") },
    Profile { name: "emergency", text: include_str!("../../profiles/emergency.toml") },
];

const PROFILE_KEYS: &Keys = &[("", &["about", "policy"])];

impl Profile {
    /// The policy that `base` becomes.
    pub fn over(&self, base: Policy) -> Result<Policy, Refusal> {
        let source = Source { name: self.name, text: self.text };
        let document = source.parse()?;
        let root = Section::root(source, &document).only(PROFILE_KEYS)?;
        policy::read_over(root.required("policy")?.section("policy")?.only(KEYS)?, base)
    }

    /// What it is for, in one sentence.
    pub fn about(&self) -> Result<String, Refusal> {
        let source = Source { name: self.name, text: self.text };
        let document = source.parse()?;
        Section::root(source, &document).required("about")?.text().map(str::to_owned)
    }
}

/// E-CFG-VALUE.
pub fn named(name: &str) -> Result<&'static Profile, Refusal> {
    ALL.iter().find(|profile| profile.name == name).ok_or_else(|| {
        let names = ALL.iter().map(|profile| profile.name);
        let next = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
        };
        Refusal::new(Code::ConfigValue, format!("no profile \"{}\"", quoted(name)), next)
    })
}

/// The policy that `base` becomes with single keys, each written as `batch=50%` or `bake.one_box=5m`.
/// E-CFG-KEY, E-CFG-VALUE and the other codes of the environment file.
pub fn with_keys(base: Policy, keys: &[String]) -> Result<Policy, Refusal> {
    let mut text = "[policy]\n".to_owned();
    for given in keys {
        let Some((key, value)) = given.split_once('=') else {
            let what = format!("\"{}\" is no KEY=VALUE", quoted(given));
            return Err(Refusal::new(Code::ConfigValue, what, "write it as in --set batch=50%"));
        };
        let is_key = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
        if key.is_empty() || !key.chars().all(is_key) {
            let what = format!("\"{}\" is no key of a policy", quoted(key));
            return Err(Refusal::new(Code::ConfigKey, what, "see `houston environment show`"));
        }
        // A word of TOML as it is; everything else is text.
        let is_word = matches!(value, "true" | "false") || value.starts_with('[');
        let quoted = toml_text(value);
        text.push_str(&format!("{key} = {}\n", if is_word { value } else { quoted.as_str() }));
    }
    let source = Source { name: "--set", text: &text };
    let document = source.parse()?;
    let section = Section::root(source, &document).required("policy")?.section("policy")?;
    policy::read_over(section.only(KEYS)?, base)
}

fn toml_text(value: &str) -> String {
    let escaped = value.chars().flat_map(|c| match c {
        '"' | '\\' => vec!['\\', c],
        c if c.is_control() => format!("\\u{:04X}", c as u32).chars().collect(),
        c => vec![c],
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use houston_common::policy::{Growth, Share};

    use super::*;

    #[test]
    fn every_profile_is_a_policy_and_says_what_it_is_for() {
        for profile in &ALL {
            let policy = profile.over(Policy::default()).expect(profile.name);
            assert!(policy.bake.one_box > Duration::ZERO, "{}", profile.name);
            assert!(profile.about().expect(profile.name).ends_with('.'));
        }
        assert_eq!(
            named("standard").expect("there").over(Policy::default()).expect("read"),
            Policy::default()
        );
        let refused = named("emergncy").expect_err("no such");
        assert_eq!(refused.next, "did you mean \"emergency\"?");
    }

    #[test]
    fn an_emergency_shortens_waits_and_drops_no_floor_and_no_budget() {
        let base = Policy {
            fleet_floor: Share::Percent(90),
            zone_floor: Some(Share::Percent(80)),
            failure_budget: Share::Hosts(1),
            zone_failure_budget: Some(Share::Hosts(1)),
            lost_budget: Share::Hosts(1),
            ..Policy::default()
        };
        let urgent = named("emergency").expect("there").over(base.clone()).expect("read");
        let Policy { batch, rollback_batch, bake, .. } = urgent.clone();
        assert_eq!(Policy { batch, rollback_batch, bake, ..base.clone() }, urgent, "nothing else differs");
        assert!(bake.one_box < base.bake.one_box && bake.later_zones < base.bake.later_zones);
    }

    #[test]
    fn single_keys_are_read_as_in_the_file() {
        let set = |keys: &[&str]| {
            with_keys(Policy::default(), &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        };
        let policy =
            set(&["batch=2", "bake.one_box=5m", "growth.factor=150%", "growth.most=50%"]).expect("read");
        assert_eq!((policy.batch, policy.bake.one_box), (Share::Hosts(2), Duration::from_secs(300)));
        assert_eq!(policy.growth, Some(Growth { percent: 150, most: Share::Percent(50), carries: false }));
        assert_eq!(policy.bake.first_zone, Policy::default().bake.first_zone);
        assert_eq!(set(&["zone_order=[\"b\"]"]).expect("read").zone_order.len(), 1);
        for (bad, code) in [
            ("batch", Code::ConfigValue),
            ("=2", Code::ConfigKey),
            ("bach=2", Code::ConfigKey),
            ("batch\n=2", Code::ConfigKey),
            ("batch=0", Code::Budget),
            ("batch=\"", Code::Budget),
            ("pacing=zonel", Code::ConfigValue),
        ] {
            assert_eq!(set(&[bad]).expect_err(bad).code, code, "{bad}");
        }
    }
}
