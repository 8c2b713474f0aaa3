//! Failures as reports carry them: bounded, and safe to show.

use houston_common::error::{Code, Refusal};
use houston_common::id::{PackageName, is_plain};
use houston_common::report::{Failure, LOG_TAIL_BYTES_MAX, Phase};

use crate::host::StepError;

/// Most characters of a failure's sentence and of a health check's reason: the report's contract.
pub const MESSAGE_CHARS_MAX: usize = 500;

/// A failure of the release as a whole, without output.
pub fn failure(code: Code, phase: Phase, message: &str) -> Failure {
    Failure { code, phase, package: None, message: shown(message), log_tail: String::new() }
}

pub fn of_refusal(refusal: &Refusal, phase: Phase) -> Failure {
    failure(refusal.code, phase, &refusal.what)
}

pub fn of_step(error: &StepError, phase: Phase, package: &PackageName) -> Failure {
    Failure {
        package: Some(package.clone()),
        log_tail: tail(&error.log_tail),
        ..failure(error.code, phase, &error.message)
    }
}

/// Two failures in a row as one: the first is the cause, the second says why the way back is no help.
pub fn and_then(cause: &Failure, second: &Failure) -> Failure {
    let message = format!("{}; the way back failed too: {}: {}", cause.message, second.code, second.message);
    Failure { message: shown(&message), ..cause.clone() }
}

/// One line that may reach a terminal, cut to [`MESSAGE_CHARS_MAX`].
pub fn shown(text: &str) -> String {
    escaped(text, |_| false).chars().take(MESSAGE_CHARS_MAX).collect()
}

/// The end of an output, from the start of a line where there is one, at most [`LOG_TAIL_BYTES_MAX`].
fn tail(text: &str) -> String {
    let text = escaped(text, |c| c == '\n' || c == '\t');
    let Some(mut start) = text.len().checked_sub(LOG_TAIL_BYTES_MAX) else { return text };
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let kept = &text[start..];
    kept.split_once('\n').map_or(kept, |(_, rest)| rest).to_owned()
}

fn escaped(text: &str, is_allowed: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) || is_allowed(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_tails_are_bounded_and_plain() {
        let error = StepError {
            code: Code::HookExit,
            message: "\u{1b}[31m".repeat(500),
            log_tail: format!("first\n{}\nlast\u{202e}\n", "ä".repeat(LOG_TAIL_BYTES_MAX)),
        };
        let failure = of_step(&error, Phase::Starting, &"web".parse().expect("name"));
        assert!(failure.message.chars().all(is_plain));
        assert_eq!(failure.message.chars().count(), MESSAGE_CHARS_MAX);
        assert_eq!(failure.log_tail, "last\\u{202e}\n");
        let flood = StepError { log_tail: "ä".repeat(LOG_TAIL_BYTES_MAX), ..error };
        let failure = of_step(&flood, Phase::Starting, &"web".parse().expect("name"));
        assert_eq!(failure.log_tail.len(), LOG_TAIL_BYTES_MAX);
    }
}
