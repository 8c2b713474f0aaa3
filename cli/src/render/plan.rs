//! What a rollout would do, for people.

use std::fmt::Write as _;
use std::time::Duration;

use houston_common::clock::Rough;
use houston_common::id::EnvironmentName;
use houston_common::plan::{
    Fault, Flown, ModelTime, PlannedCapacity, PlannedWait, PlannedWave, RolloutPlan, WhatIf,
};
use houston_common::rollout::{RolloutState, WaitingOn};

use super::rollout::wrap;
use super::{Table, joined};
use crate::console::{Paint, plain};
use crate::prose;

/// Columns of a paragraph: what every terminal has.
const COLUMNS: usize = 80;
/// Hosts that a wave, or the line of those left out, names.
const NAMED_MAX: usize = 3;

/// What would happen, what a failure would cost, and the command that does exactly this.
pub fn plan(environment: &EnvironmentName, plan: &RolloutPlan, paint: Paint) -> String {
    let RolloutPlan { flown, from, to, hosts, .. } = plan;
    let mut text = format!(
        "{}  {} → {}: {} would change, in about {}\n\n",
        paint.bold(environment.as_str()),
        from.name,
        to.name,
        prose::counted(*hosts, "host"),
        Rough(flown.lasts)
    );
    text.push_str(&waves(flown, paint));
    text.push('\n');
    text.push_str(&capacity(environment, &flown.capacity, paint));
    if !plan.what_ifs.is_empty() {
        text.push('\n');
        text.push_str(&what_ifs(&plan.what_ifs, paint));
    }
    text.push('\n');
    for note in notes(environment, plan) {
        for line in wrap(&plain(&note), COLUMNS) {
            let _ = writeln!(text, "{line}");
        }
    }
    let mut flags = plan.supersedes.map_or_else(String::new, |_| " --supersede".to_owned());
    flags.extend(plan.excluded.iter().map(|host| format!(" --exclude {host}")));
    let _ = writeln!(
        text,
        "\nStart exactly this:\n  houston rollout start {environment} {}{flags} --plan {}",
        to.name, plan.plan_hash
    );
    text
}

fn waves(flown: &Flown, paint: Paint) -> String {
    let mut table = Table::new(&["WAVE", "BEGINS", "HOSTS", "AT ONCE", "PREPARE", "BAKE", "FIRST"]);
    for planned in &flown.waves {
        let PlannedWave { wave, begins, hosts, first, waits, .. } = planned;
        let waited = |reason: fn(&WaitingOn) -> bool| {
            let waits = waits.iter().filter(|wait| reason(&wait.waiting));
            let lasts: Duration = waits.map(|wait| wait.lasts).sum();
            if lasts.is_zero() { "-".to_owned() } else { Rough(lasts).to_string() }
        };
        let names = first.iter().flat_map(|batch| &batch.first).take(NAMED_MAX).map(ToString::to_string);
        let more = (*hosts as usize).saturating_sub(NAMED_MAX);
        table.row([
            prose::wave(wave),
            after(*begins),
            hosts.to_string(),
            first.iter().map(|batch| batch.hosts).max().unwrap_or_default().to_string(),
            waited(|waiting| matches!(waiting, WaitingOn::Prepare { .. })),
            waited(|waiting| matches!(waiting, WaitingOn::Bake { .. })),
            joined(names.chain((more > 0).then(|| format!("{more} more"))), ", "),
        ]);
    }
    table.to_text("nothing would begin", paint)
}

fn after(offset: Duration) -> String {
    if offset.is_zero() { "at once".to_owned() } else { format!("+{}", Rough(offset)) }
}

fn capacity(environment: &EnvironmentName, capacity: &[PlannedCapacity], paint: Paint) -> String {
    let mut table = Table::new(&["AVAILABLE", "NOW", "LOWEST", "FLOOR"]);
    for PlannedCapacity { zone, available, lowest, floor } in capacity {
        let lowest_text = lowest.to_string();
        table.row([
            zone.as_ref().map_or_else(|| environment.to_string(), |zone| format!("zone {zone}")),
            available.to_string(),
            if floor.is_some_and(|floor| *lowest < floor) { paint.bad(&lowest_text) } else { lowest_text },
            floor.map_or_else(|| "-".to_owned(), |floor| floor.to_string()),
        ]);
    }
    table.to_text("no hosts", paint)
}

fn what_ifs(what_ifs: &[WhatIf], paint: Paint) -> String {
    let mut table = Table::new(&["IF IT IS BAD", "HOSTS", "STOPS AFTER", "BACK AFTER", "LOWEST"]);
    for what_if in what_ifs {
        let WhatIf { fault, hosts_met, stops_after, back_after, cut_short, capacity, .. } = what_if;
        let unknown = if *cut_short { "not known" } else { "never" };
        let after = |after: Option<Duration>| match after {
            Some(after) => Rough(after).to_string(),
            None => paint.bad(unknown),
        };
        let fleet = capacity.iter().find(|capacity| capacity.zone.is_none());
        table.row([
            match fault {
                Fault::AtOnce => "everywhere, at once".to_owned(),
                Fault::InZone(zone) => format!("in zone {zone} alone, at once"),
                Fault::Late { after } => format!("everywhere, after {}", Rough(*after)),
            },
            hosts_met.to_string(),
            after(*stops_after),
            after(*back_after),
            fleet.map_or_else(String::new, |fleet| fleet.lowest.to_string()),
        ]);
    }
    table.to_text("", paint)
}

/// A paragraph each.
fn notes(environment: &EnvironmentName, plan: &RolloutPlan) -> Vec<String> {
    let flown = &plan.flown;
    let mut notes = Vec::new();
    for PlannedWave { wave, waits, .. } in &flown.waves {
        for PlannedWait { waiting, lasts } in waits.iter().filter(|wait| is_odd(&wait.waiting)) {
            let why = prose::waiting_on(waiting, environment);
            notes.push(format!("In {} it waits {}: {why}", prose::wave(wave), Rough(*lasts)));
        }
    }
    let left_out = flown.left_out.len() as u32 + flown.left_out_more;
    if left_out > 0 {
        let named = flown.left_out.iter().take(NAMED_MAX);
        let named = named.map(|(host, exception)| format!("{host} ({})", exception.as_str()));
        let more = left_out.saturating_sub(NAMED_MAX as u32);
        let all = named.chain((more > 0).then(|| format!("{more} more")));
        notes.push(format!("Left out: {}.", joined(all, ", ")));
    }
    if !plan.excluded.is_empty() {
        let hosts = joined(plan.excluded.iter().map(ToString::to_string), ", ");
        notes.push(format!("Left out by name, and counted as available while they are: {hosts}."));
    }
    if !flown.assumed_open.is_empty() {
        let gates = joined(flown.assumed_open.iter().map(ToString::to_string), ", ");
        notes.push(format!("Assumed to open at once, which nobody can know: {gates}."));
    }
    if let Some(id) = plan.supersedes {
        notes.push(format!("Rollout {id}, which is active, gives way to it."));
    }
    notes.extend(ending(environment, flown));
    if !plan.what_ifs.is_empty() {
        notes.push(
            "HOSTS meet the failure; its times are from the grant of the first of them; LOWEST are hosts \
             available."
                .to_owned(),
        );
    }
    notes.push(format!(
        "Reckoned with hosts that prepare in {} and activate in {}.",
        model(&plan.prepare),
        model(&plan.activation)
    ));
    notes
}

/// Whether a wait is more than the course of things.
fn is_odd(waiting: &WaitingOn) -> bool {
    !matches!(waiting, WaitingOn::Prepare { .. } | WaitingOn::Batch { .. } | WaitingOn::Bake { .. })
}

/// How it ends, if not in success.
fn ending(environment: &EnvironmentName, flown: &Flown) -> Vec<String> {
    if flown.cut_short {
        let lasts = Rough(flown.lasts);
        return vec![format!("The flight was cut short {lasts} on: what comes later is not known.")];
    }
    let because =
        flown.cause.as_ref().map_or_else(String::new, |cause| format!(", because {}", prose::cause(cause)));
    let ends = (flown.state != RolloutState::Succeeded && flown.waiting.is_empty())
        .then(|| format!("It would not succeed: it ends {}{because}.", prose::state(flown.state)));
    let waits = flown.waiting.iter();
    let waits =
        waits.map(|waiting| format!("It would stop there: {}", prose::waiting_on(waiting, environment)));
    ends.into_iter().chain(waits).collect()
}

fn model(time: &ModelTime) -> String {
    let ModelTime { half, nine_in_ten, taken_from } = time;
    let (half, most) = (Rough(*half).to_string(), Rough(*nine_in_ten).to_string());
    let most = if most == half { String::new() } else { format!(", nine in ten within {most}") };
    match taken_from {
        0 => format!("{half} (assumed)"),
        hosts => format!("{half}{most} (as {} did here)", prose::counted(*hosts, "host")),
    }
}

#[cfg(test)]
mod tests {
    use houston_common::digest::Digest;
    use houston_common::plan::PlannedBatch;
    use houston_common::rollout::{Exception, Wave};

    use super::*;
    use crate::render::sample::{HOUR, release};
    use crate::render::width;

    const S: Duration = Duration::from_secs(1);

    fn batch(number: u32, begins: Duration, hosts: &[&str]) -> PlannedBatch {
        let first = hosts.iter().map(|host| host.parse().expect("id")).collect();
        PlannedBatch { number, begins, hosts: hosts.len() as u32, first }
    }

    fn two_waves() -> Vec<PlannedWave> {
        let zone = |name: &str| Wave::Zones(vec![name.parse().expect("zone")]);
        let bake = |wave, lasts| PlannedWait { waiting: WaitingOn::Bake { wave, remaining: lasts }, lasts };
        let prepare = PlannedWait { waiting: WaitingOn::Prepare { ready: 0, of: 1 }, lasts: 60 * S };
        vec![
            PlannedWave {
                wave: Wave::OneBox,
                begins: Duration::ZERO,
                ends: HOUR + 100 * S,
                hosts: 1,
                batches: 1,
                first: vec![batch(1, 60 * S, &["web-1"])],
                waits: vec![prepare, bake(Wave::OneBox, HOUR)],
            },
            PlannedWave {
                wave: zone("a"),
                begins: HOUR + 100 * S,
                ends: 13 * HOUR,
                hosts: 5,
                batches: 3,
                first: vec![
                    batch(1, HOUR + 100 * S, &["web-2", "web-3"]),
                    batch(2, HOUR + 140 * S, &["web-4", "web-5"]),
                ],
                waits: vec![bake(zone("a"), 12 * HOUR)],
            },
        ]
    }

    fn planned() -> RolloutPlan {
        let capacity = |lowest| {
            vec![
                PlannedCapacity { zone: None, available: 6, lowest, floor: Some(4) },
                PlannedCapacity {
                    zone: Some("a".parse().expect("zone")),
                    available: 3,
                    lowest: 2,
                    floor: None,
                },
            ]
        };
        let what_if = |fault, hosts_met, back_after| WhatIf {
            fault,
            hosts_met,
            met: 60 * S,
            stops_after: Some(40 * S),
            back_after,
            state: RolloutState::RolledBack,
            cut_short: false,
            capacity: capacity(5),
        };
        RolloutPlan {
            plan_hash: Digest::of(b"plan"),
            from: release("web-41"),
            to: release("web-42"),
            hosts: 7,
            supersedes: None,
            excluded: vec!["web-8".parse().expect("id"), "web-9".parse().expect("id")],
            flown: Flown {
                waves: two_waves(),
                lasts: 13 * HOUR,
                state: RolloutState::Succeeded,
                cause: None,
                waiting: Vec::new(),
                cut_short: false,
                capacity: capacity(4),
                left_out: vec![("web-7".parse().expect("id"), Exception::Silent)],
                left_out_more: 0,
                assumed_open: vec!["change-board".parse().expect("name")],
            },
            prepare: ModelTime { half: 60 * S, nine_in_ten: 60 * S, taken_from: 0 },
            activation: ModelTime { half: 40 * S, nine_in_ten: 52 * S, taken_from: 21 },
            what_ifs: vec![
                what_if(Fault::AtOnce, 1, Some(80 * S)),
                what_if(Fault::InZone("a".parse().expect("zone")), 2, Some(2 * HOUR)),
                what_if(Fault::Late { after: HOUR }, 3, None),
            ],
        }
    }

    fn shown(planned: &RolloutPlan) -> String {
        plan(&"prod".parse().expect("name"), planned, Paint(false))
    }

    #[test]
    fn a_plan_reads_as_what_happens_what_is_left_and_what_it_costs() {
        let hash = Digest::of(b"plan");
        let expected = format!(
            "\
prod  web-41 → web-42: 7 hosts would change, in about 13h

WAVE     BEGINS   HOSTS  AT ONCE  PREPARE  BAKE  FIRST
one box  at once  1      1        1m       1h    web-1
zone a   +1h 1m   5      2        -        12h   web-2, web-3, web-4, 2 more

AVAILABLE  NOW  LOWEST  FLOOR
prod       6    4       4
zone a     3    2       -

IF IT IS BAD              HOSTS  STOPS AFTER  BACK AFTER  LOWEST
everywhere, at once       1      40s          1m 20s      5
in zone a alone, at once  2      40s          2h          5
everywhere, after 1h      3      40s          never       5

Left out: web-7 (silent).
Left out by name, and counted as available while they are: web-8, web-9.
Assumed to open at once, which nobody can know: change-board.
HOSTS meet the failure; its times are from the grant of the first of them;
LOWEST are hosts available.
Reckoned with hosts that prepare in 1m (assumed) and activate in 40s, nine in
ten within 52s (as 21 hosts did here).

Start exactly this:
  houston rollout start prod web-42 --exclude web-8 --exclude web-9 --plan {hash}
"
        );
        let text = shown(&planned());
        assert_eq!(text, expected);
        assert!(text.lines().filter(|line| !line.contains("--plan")).all(|line| width(line) <= COLUMNS));
    }

    #[test]
    fn what_goes_another_way_is_said() {
        let mut planned = planned();
        planned.flown.state = RolloutState::Halted;
        planned.flown.cause = Some(houston_common::rollout::Cause::LostBudget { exceptions: 2, allowed: 1 });
        let text = shown(&planned);
        assert!(
            text.contains("It would not succeed: it ends halted, because 2 hosts left out where"),
            "{text}"
        );
        planned.flown.state = RolloutState::Rolling;
        planned.flown.cause = None;
        let floor = WaitingOn::Floor { zone: None, available: 4, floor: 4, unavailable: Vec::new() };
        planned.flown.waiting = vec![floor.clone()];
        planned.flown.waves[1].waits.push(PlannedWait { waiting: floor, lasts: 90 * S });
        let text = shown(&planned).replace('\n', " ");
        assert!(text.contains("It would stop there: 4 hosts in prod are available"), "{text}");
        assert!(text.contains("In zone a it waits 1m 30s: 4 hosts in prod"), "{text}");
        planned.flown.cut_short = true;
        assert!(shown(&planned).contains("was cut short 13h on"), "{text}");
    }
}
