//! `houston demo`: a coordinator, a fleet and a service on this machine, all of it the real thing, and
//! the story of three releases: the first, a better one, and a bad one that is stopped at its first
//! host and taken back. What an operator does is done by this very command, as an operator would.

mod fleet;
mod prober;
mod process;
mod releases;
pub mod service;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use houston_common::error::{Code, Exit, Refusal};
use houston_common::policy::Share;

use fleet::Fleet;
use prober::{Prober, Seen};
use process::interrupted;
use releases::{Edition, FIRST, SECOND, THIRD};

/// What may be asked of it.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    pub hosts: u32,
    pub zones: u32,
    /// End by itself instead of staying up.
    pub exit: bool,
}

/// Zones have letters for names.
pub const ZONES_MAX: u32 = 26;
/// Every host is two or three processes here.
pub const HOSTS_MAX: u32 = 60;

/// Of the demo's environment.
const FLOOR: Share = Share::Percent(66);
/// A rollout over the default fleet takes some twenty seconds.
const ROLLOUT_TIME_MAX: Duration = Duration::from_secs(300);

/// Tells the story, and returns how the process is to end: well only if all went as told.
pub async fn run(demo: Demo) -> Result<Exit, Refusal> {
    let started = Instant::now();
    let demo = Demo { zones: demo.zones.min(demo.hosts), ..demo };
    let mut story = Story { dim: std::io::stdout().is_terminal() };
    let mut fleet = Fleet::prepare(demo.hosts, demo.zones)?;
    let mut coordinator_ended = std::pin::pin!(fleet.coordinator_ended());
    let mut interrupt = std::pin::pin!(interrupted());
    let mut told = tokio::select! {
        // In this order: without a coordinator the story fails too, and cannot say why.
        biased;
        refusal = &mut coordinator_ended => Err(refusal),
        signal = &mut interrupt => {
            story.ending(signal);
            Ok(false)
        }
        told = tell(&mut story, &mut fleet, demo) => told,
    };
    if let (Ok(true), false) = (&told, demo.exit) {
        invite(&mut story, &fleet, started);
        tokio::select! {
            signal = &mut interrupt => story.ending(signal),
            refusal = coordinator_ended => {
                story.say(format!("\n{refusal}\n  Every host keeps running what it runs. Ctrl-C ends them too."));
                told = Err(refusal);
                story.ending(interrupt.await);
            }
        }
    }
    let (took, left) = (started.elapsed().as_secs(), fleet.end().await);
    for what in &left {
        story.say(format!("Left behind: {what}"));
    }
    match told? {
        true if left.is_empty() => {
            story.say(format!("All went as told, in {took} s. Nothing was left behind."));
            Ok(Exit::Done)
        }
        _ => Ok(Exit::Failed),
    }
}

async fn tell(story: &mut Story, fleet: &mut Fleet, demo: Demo) -> Result<bool, Refusal> {
    story.chapter("A coordinator, and a fleet");
    fleet.start_coordinator().await?;
    story.say(format!(
        "  a coordinator listens on {}, with its state in {}",
        fleet.address(),
        fleet.place().display()
    ));
    fleet.start_agents().await?;
    story.say(format!(
        "  {} hosts in {} zones have enrolled, each an agent with a key of its own",
        demo.hosts, demo.zones
    ));
    publish(story, fleet).await?;
    first(story, fleet).await?;
    let prober = Prober::start(fleet.targets());
    good(story, fleet, &prober, demo).await?;
    bad(story, fleet, &prober, demo).await?;
    Ok(true)
}

async fn publish(story: &mut Story, fleet: &mut Fleet) -> Result<(), Refusal> {
    story.chapter("Three versions of a small web service");
    for edition in [FIRST, SECOND, THIRD] {
        let directory = fleet.write_tree(edition)?;
        story.command(&["package", "push", &shown(&directory)]);
        fleet.houston(&["package", "push", &shown(&directory)]).await?;
        let (name, package) = (set_name(edition), format!("web@{}", edition.version));
        story.command(&["version-set", "create", &name, &package]);
        fleet.houston(&["version-set", "create", &name, &package]).await?;
    }
    let file = fleet.write_environment(FLOOR)?;
    story.command(&["environment", "apply", &shown(&file)]);
    fleet.houston(&["environment", "apply", &shown(&file), "--yes"]).await?;
    Ok(())
}

async fn first(story: &mut Story, fleet: &mut Fleet) -> Result<(), Refusal> {
    story.chapter(&format!("The first release: {}", FIRST.version));
    let exit = roll(story, fleet, FIRST, "the first release").await?;
    expect(exit == 0, format!("the first rollout should have succeeded, its exit code was {exit}"))
}

async fn good(story: &mut Story, fleet: &mut Fleet, prober: &Prober, demo: Demo) -> Result<(), Refusal> {
    story.chapter(&format!("A better one: {}", SECOND.version));
    story.say("  meanwhile every host is asked for its front page, twenty times a second");
    let everyone = serving(prober, demo.hosts, FIRST).await;
    expect(everyone, format!("every host should serve {} by now", FIRST.version))?;
    let exit = roll(story, fleet, SECOND, "twice as good").await?;
    expect(exit == 0, format!("the second rollout should have succeeded, its exit code was {exit}"))?;
    expect(serving(prober, demo.hosts, SECOND).await, format!("every host should serve {}", SECOND.version))?;
    lowest(story, &prober.seen(), demo)
}

async fn bad(story: &mut Story, fleet: &mut Fleet, prober: &Prober, demo: Demo) -> Result<(), Refusal> {
    story.chapter(&format!("A bad one: {}", THIRD.version));
    let exit = roll(story, fleet, THIRD, "what could go wrong?").await?;
    expect(exit == 1, format!("the third rollout should have been taken back, its exit code was {exit}"))?;
    let status = fleet.json(&["rollout", "status", "prod"]).await?;
    let state = status["state"].as_str().unwrap_or_default().to_owned();
    expect(state == "rolled_back", format!("the third rollout should be rolled back, and is {state}"))?;
    expect(status["failures"] == 1, format!("one host should have failed, not {}", status["failures"]))?;
    expect(
        serving(prober, demo.hosts, SECOND).await,
        format!("every host should serve {} again", SECOND.version),
    )?;
    story.say(format!("  it met one host of {}; all of them serve {}", demo.hosts, SECOND.version));
    lowest(story, &prober.seen(), demo)
}

/// Starts a rollout and shows it to its end. Returns the exit code of the watch.
async fn roll(story: &mut Story, fleet: &mut Fleet, edition: Edition, why: &str) -> Result<i32, Refusal> {
    let name = set_name(edition);
    let arguments = ["rollout", "start", "prod", &name, "--reason", why, "--watch"];
    story.command(&arguments);
    fleet.watch(&arguments, ROLLOUT_TIME_MAX).await
}

/// Waits until every host answers with the edition's front page.
async fn serving(prober: &Prober, hosts: u32, edition: Edition) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let seen = prober.seen();
        let all: u32 = seen
            .answers
            .iter()
            .filter(|(text, _)| text.ends_with(edition.version))
            .map(|(_, count)| count)
            .sum();
        if all == hosts {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

fn lowest(story: &mut Story, seen: &Seen, demo: Demo) -> Result<(), Refusal> {
    let floor = FLOOR.at_least_of(demo.hosts);
    let zones: Vec<String> = seen.lowest.iter().map(|(zone, count)| format!("{zone} {count}")).collect();
    story.say(format!(
        "  lowest number of hosts seen serving: {} of {} (the floor is {floor}); by zone: {}",
        seen.lowest_of_all,
        demo.hosts,
        zones.join(", ")
    ));
    expect(seen.lowest_of_all >= floor, format!("{} hosts served, the floor is {floor}", seen.lowest_of_all))
}

fn invite(story: &mut Story, fleet: &Fleet, started: Instant) {
    story.chapter(&format!("It is yours ({} s)", started.elapsed().as_secs()));
    story.say(format!(
        "  The fleet stays up until Ctrl-C. In another terminal:\n\n  export PATH=\"{}:$PATH\"\n  export HOUSTON_CONFIG={}",
        shown(fleet.programs()),
        shown(fleet.context_file())
    ));
    for line in [
        "houston host list".to_owned(),
        "houston rollout status prod".to_owned(),
        "houston rollout list prod".to_owned(),
        format!("houston explain prod {}", fleet.first_host()),
        "houston environment show prod".to_owned(),
        format!("houston rollout start prod {} --watch    # refused: it was taken back", set_name(THIRD)),
        format!("houston rollout start prod {} --watch", set_name(FIRST)),
    ] {
        story.say(format!("  {line}"));
    }
    story.say(format!("\n  An agent's log is in {}", shown(&fleet.place().join("hosts"))));
}

fn set_name(edition: Edition) -> String {
    format!("web-{}", edition.version)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn expect(holds: bool, otherwise: String) -> Result<(), Refusal> {
    if holds {
        return Ok(());
    }
    Err(Refusal::new(Code::Demo, otherwise, "run it again; if it stays so, please report it"))
}

/// The demo's voice. The watch of a rollout writes for itself, in between.
struct Story {
    dim: bool,
}

impl Story {
    fn say(&mut self, line: impl Display) {
        // Nobody to tell the story to is no reason to stop it.
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    fn ending(&mut self, signal: &str) {
        self.say(format!("\n{signal}: ending everything that was started"));
    }

    fn chapter(&mut self, title: &str) {
        if self.dim { self.say(format!("\n\x1b[1m{title}\x1b[0m")) } else { self.say(format!("\n{title}")) }
    }

    fn command(&mut self, arguments: &[&str]) {
        let words: Vec<String> = arguments
            .iter()
            .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        let line = format!("  $ houston {}", words.join(" "));
        if self.dim { self.say(format!("\x1b[2m{line}\x1b[0m")) } else { self.say(line) }
    }
}
