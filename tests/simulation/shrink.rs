//! Makes a failing run smaller while the same law breaks: an earlier end, fewer hosts, fewer faults and
//! orders; first whole kinds of them, then by halves, quarters and so on (Zeller's delta debugging,
//! "Simplifying and isolating failure-inducing input", 2002).

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use super::checker::Violation;
use super::setting::{LeftOut, Setting, Size, Telling};
use super::world::{Outcome, run};

/// Longer than this nobody waits for a smaller one.
const PATIENCE: Duration = Duration::from_secs(60);
/// A law that breaks during the faults is given so much longer to break, in simulated milliseconds.
const LATER_MS: u64 = 300_000;
/// The newest lines of what happened that are shown.
const LINES: usize = 40;

/// The smallest failing run that was found.
#[derive(Debug)]
pub(super) struct Shrunk {
    pub(super) seed: u64,
    pub(super) setting: Setting,
    pub(super) outcome: Outcome,
    pub(super) violation: Violation,
    /// How many faults and orders there were before, and how often it was tried with fewer.
    pub(super) injections_before: usize,
    pub(super) tries: u64,
    gives_up: Instant,
}

/// Smaller, within [`PATIENCE`]. The run must have failed.
pub(super) fn shrink(seed: u64, setting: &Setting, failed: &Outcome) -> Shrunk {
    let violation = failed.violation.clone().expect("only what failed is shrunk");
    let is_of_the_end = failed.faults_ended.is_some();
    let mut shrunk = Shrunk {
        seed,
        setting: setting.clone(),
        outcome: failed.clone(),
        violation,
        injections_before: failed.injections.len(),
        tries: 0,
        gives_up: Instant::now() + PATIENCE,
    };
    if !is_of_the_end {
        shrunk.setting.ends_at = Some(failed.simulated_ms + LATER_MS);
    }
    shrunk.end_earlier();
    shrunk.drop_hosts();
    shrunk.drop_kinds();
    shrunk.drop_injections();
    shrunk.drop_hosts();
    shrunk.setting.ends_at = None;
    shrunk.setting.telling = Telling::Keep;
    shrunk.outcome = run(seed, &shrunk.setting);
    shrunk
}

impl Shrunk {
    /// Whether the same law breaks with more left out; if so, it is left out from now on.
    fn is_enough(&mut self, left_out: LeftOut) -> bool {
        if Instant::now() >= self.gives_up {
            return false;
        }
        self.tries += 1;
        let setting = Setting { left_out, ..self.setting.clone() };
        let outcome = run(self.seed, &setting);
        let is_same = outcome.violation.as_ref().is_some_and(|found| found.law == self.violation.law);
        if is_same {
            (self.setting, self.outcome) = (setting, outcome);
        }
        is_same
    }

    fn left_out(&self) -> LeftOut {
        self.setting.left_out.clone()
    }

    /// Only what breaks after the faults have ended gains by their earlier end.
    fn end_earlier(&mut self) {
        let Some(ended) = self.outcome.faults_ended else { return };
        for part in 1..4 {
            if self.is_enough(LeftOut { until: Some(ended * part / 4), ..self.left_out() }) {
                return;
            }
        }
    }

    fn drop_hosts(&mut self) {
        let hosts = self.outcome.hosts;
        for fewer in [1, 2, 3, 4, 5, 6, 8, hosts / 4, hosts / 2, hosts * 3 / 4] {
            let is_fewer = fewer > 0 && fewer < hosts;
            if is_fewer && self.is_enough(LeftOut { hosts: Some(fewer), ..self.left_out() }) {
                return;
            }
        }
    }

    /// The faults and orders that are left, by their place.
    pub(super) fn kept(&self) -> Vec<usize> {
        let left_out = &self.setting.left_out.injections;
        (0..self.outcome.injections.len()).filter(|index| !left_out.contains(index)).collect()
    }

    fn is_enough_without(&mut self, injections: &[usize]) -> bool {
        let mut left_out = self.left_out();
        left_out.injections.extend(injections);
        self.is_enough(left_out)
    }

    fn drop_kinds(&mut self) {
        let kept = self.kept();
        let kinds: BTreeSet<&str> = kept.iter().map(|index| self.outcome.injections[*index]).collect();
        for kind in kinds {
            let of_kind = |index: &usize| self.outcome.injections.get(*index) == Some(&kind);
            let of_kind: Vec<usize> = self.kept().into_iter().filter(of_kind).collect();
            self.is_enough_without(&of_kind);
        }
    }

    fn drop_injections(&mut self) {
        let mut size = self.kept().len().div_ceil(2);
        while size > 0 {
            // From the end: what comes later matters less often to what is found.
            let mut is_smaller = false;
            for part in self.kept().rchunks(size) {
                is_smaller |= self.is_enough_without(part);
            }
            if size > 1 || !is_smaller {
                size /= 2;
            }
        }
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { lines, hosts, events, .. } = &self.outcome;
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            writeln!(f, "    {line}")?;
        }
        let (kept, before, tries) = (self.kept().len(), self.injections_before, self.tries);
        writeln!(
            f,
            "shrunk in {tries} tries to {hosts} hosts and {kept} of {before} faults and orders, {events} events:"
        )?;
        f.write_str(&told(
            self.seed,
            &self.setting,
            self.outcome.violation.as_ref().unwrap_or(&self.violation),
        ))
    }
}

/// What did not hold, and the command that shows it again.
pub(super) fn told(seed: u64, setting: &Setting, violation: &Violation) -> String {
    let Setting { size, planted, left_out, .. } = setting;
    let mut variables = format!("HOUSTON_SEED={seed}");
    if *size != Size::Small {
        variables += &format!(" HOUSTON_SIZE={}", size.name());
    }
    if let Some(planted) = planted {
        variables += &format!(" HOUSTON_PLANTED={planted:?}");
    }
    if *left_out != LeftOut::default() {
        variables += &format!(" HOUSTON_LEFT_OUT={left_out}");
    }
    format!(
        "seed {seed} ({}): {}: {}\n  {variables} cargo test --workspace --profile trial --test all -- \
         simulation::replay --nocapture",
        size.name(),
        violation.law,
        violation.detail
    )
}
