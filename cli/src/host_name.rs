//! Which host a person means: an id ends in random characters that nobody wants to type.

use houston_common::error::{Code, Refusal, nearest};
use houston_common::id::HostId;

/// Candidates that a refusal names.
const CANDIDATES_MAX: usize = 10;

/// The id's part before its random end: `web-1` of `web-1-k3f9x`.
fn stem(id: &HostId) -> &str {
    id.as_str().rsplit_once('-').map_or(id.as_str(), |(stem, _)| stem)
}

/// The only host with this id, or with this part of its id. E-HOST-UNKNOWN if there is none or several.
pub fn resolve(wanted: &HostId, all: &[HostId]) -> Result<HostId, Refusal> {
    if all.contains(wanted) {
        return Ok(wanted.clone());
    }
    let fitting: Vec<_> = all.iter().filter(|id| stem(id) == wanted.as_str()).collect();
    match fitting.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let next = match nearest(wanted.as_str(), all.iter().flat_map(|id| [id.as_str(), stem(id)])) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "houston host list shows all".to_owned(),
            };
            Err(Refusal::new(Code::HostUnknown, format!("there is no host \"{wanted}\""), next))
        }
        several => {
            let mut named: Vec<_> = several.iter().take(CANDIDATES_MAX).map(|id| id.as_str()).collect();
            if several.len() > CANDIDATES_MAX {
                named.push("…");
            }
            let what = format!("\"{wanted}\" fits {} hosts: {}", several.len(), named.join(", "));
            Err(Refusal::new(Code::HostUnknown, what, "write the whole id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(wanted: &str) -> Result<String, String> {
        let all: Vec<HostId> = ["web-1-k3f9x", "web-2-aaaaa", "web-2-bbbbb", "db", "web-2"]
            .iter()
            .map(|id| id.parse().expect("id"))
            .collect();
        let found = resolve(&wanted.parse().expect("id"), &all);
        found.map(|id| id.to_string()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn an_id_or_the_part_before_its_random_end() {
        assert_eq!(resolved("web-1-k3f9x"), Ok("web-1-k3f9x".into()));
        assert_eq!(resolved("web-1"), Ok("web-1-k3f9x".into()));
        assert_eq!(resolved("db"), Ok("db".into()));
        assert_eq!(resolved("web-2"), Ok("web-2".into()), "an exact id is never ambiguous");
    }

    #[test]
    fn what_fits_nothing_or_several_is_refused() {
        let all: Vec<HostId> =
            ["web-2-aaaaa", "web-2-bbbbb"].iter().map(|id| id.parse().expect("id")).collect();
        let refusal = resolve(&"web-2".parse().expect("id"), &all).expect_err("several");
        assert_eq!(
            refusal.to_string(),
            "E-HOST-UNKNOWN: \"web-2\" fits 2 hosts: web-2-aaaaa, web-2-bbbbb; write the whole id"
        );
        assert_eq!(
            resolved("wbe-1"),
            Err("E-HOST-UNKNOWN: there is no host \"wbe-1\"; did you mean \"web-1\"?".into())
        );
        assert_eq!(
            resolved("zebra"),
            Err("E-HOST-UNKNOWN: there is no host \"zebra\"; houston host list shows all".into())
        );
    }
}
