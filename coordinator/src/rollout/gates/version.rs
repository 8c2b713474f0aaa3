//! Which of two versions is the earlier one.

use std::cmp::Ordering;

use houston_common::id::Version;

/// By the rules of semantic versioning where both are such, so that `2.0.0-rc.1` comes before `2.0.0`; else
/// by those of Debian's packages (deb-version(7)): numbers by their value, `~` before anything, the end too.
pub(super) fn is_before(one: &Version, other: &Version) -> bool {
    let (one, other) = (one.as_str(), other.as_str());
    match (semver::Version::parse(one), semver::Version::parse(other)) {
        // What follows a plus says which build it is, not how new.
        (Ok(one), Ok(other)) => one.cmp_precedence(&other) == Ordering::Less,
        _ => compare(one.as_bytes(), other.as_bytes()) == Ordering::Less,
    }
}

fn compare(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while !(one.is_empty() && other.is_empty()) {
        let ((word, rest), (other_word, other_rest)) = (words(one), words(other));
        let weights = |word: &[u8]| word.iter().map(|byte| weight(*byte)).chain([END]).collect::<Vec<_>>();
        let by_words = weights(word).cmp(&weights(other_word));
        let ((digits, rest), (other_digits, other_rest)) = (number(rest), number(other_rest));
        let ordering =
            by_words.then_with(|| digits.len().cmp(&other_digits.len()).then(digits.cmp(other_digits)));
        if ordering != Ordering::Equal {
            return ordering;
        }
        (one, other) = (rest, other_rest);
    }
    Ordering::Equal
}

/// Of the end of a text: after `~`, before everything else.
const END: u16 = 1;

/// Letters before everything that is none.
fn weight(byte: u8) -> u16 {
    match byte {
        b'~' => 0,
        byte if byte.is_ascii_alphabetic() => u16::from(byte) + 2,
        byte => u16::from(byte) + 0x200,
    }
}

/// What comes before the first digit, and the rest.
fn words(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(u8::is_ascii_digit).unwrap_or(text.len()))
}

/// The leading digits without zeros in front, and the rest.
fn number(text: &[u8]) -> (&[u8], &[u8]) {
    let (digits, rest) =
        text.split_at(text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()));
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (&digits[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_that_people_mean() {
        let in_order: [&[&str]; 4] = [
            &["1.0.0-alpha", "1.0.0-alpha.2", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "2.0.0"],
            &["7", "8", "42", "100"],
            &["2026.9", "2026.10", "2026.10a", "2026.10.1"],
            &["1.0~rc1", "1.0~rc2", "1.0", "1.0-1", "1.0-2", "1.0-10"],
        ];
        let version = |text: &&str| text.parse::<Version>().expect(text);
        for texts in in_order {
            for (i, one) in texts.iter().enumerate() {
                for (j, other) in texts.iter().enumerate() {
                    assert_eq!(is_before(&version(one), &version(other)), i < j, "{one} before {other}");
                }
            }
        }
        for (one, other) in [("1.0.0+a", "1.0.0+b"), ("007", "7"), ("1.00", "1.0")] {
            assert!(
                !is_before(&version(&one), &version(&other)) && !is_before(&version(&other), &version(&one))
            );
        }
    }
}
