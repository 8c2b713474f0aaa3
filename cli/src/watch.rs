//! Follows a rollout until it is at rest: redrawn in place on a terminal, a line per change elsewhere.
//! Watching changes nothing; a watcher that loses the coordinator comes back by itself.

use std::time::Duration;

use houston_common::clock::{Exact, Rough};
use houston_common::command::{GetRollout, ROLLOUT_WAIT_MAX, RolloutRef};
use houston_common::error::{Code, Exit, Refusal};
use houston_common::view::RolloutView;
use tokio::time::{Instant, sleep_until};

use crate::args::Output;
use crate::commands::wall_now;
use crate::console::Console;
use crate::render::rollout::{Frame, changes, ending, failed_since, is_at_rest, picture, wrap};
use crate::render::{failure, json, log_tail, time};

mod screen;
#[cfg(test)]
mod tests;

use screen::Screen;

/// What a shell shows for a program that ended by Ctrl-C.
const INTERRUPTED: u8 = 130;
/// Between two answers: at most five pictures in a second.
const BETWEEN_PICTURES: Duration = Duration::from_millis(200);
/// How often elapsed and remaining times are redrawn while nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// Between attempts to reach the coordinator: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(12);
/// Lines of a failed hook's output that are shown when it fails.
const LOG_LINES_MAX: usize = 20;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All that changes; a picture where there is a terminal.
    Everything,
    /// Changes of the rollout's own state, a line each.
    States,
}

/// Follows a rollout, whose view has just been asked for, to its end or until `timeout`. `ask` is held
/// until there is news; `interrupt` ends the watching early.
pub async fn follow(
    ask: impl AsyncFn(GetRollout) -> Result<RolloutView, Refusal>,
    console: &mut Console<'_>,
    view: RolloutView,
    manner: Manner,
    timeout: Option<Duration>,
    interrupt: impl Future<Output = ()>,
) -> Result<u8, Refusal> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut watch =
        Watch { manner, received: Instant::now(), view: None, trouble: None, screen: Screen::default() };
    watch.take(console, view)?;
    let mut interrupted = std::pin::pin!(interrupt);
    let mut retry = RETRY_FIRST;
    let mut not_before = Instant::now();
    loop {
        let Some(view) = watch.view.as_ref().filter(|view| !is_at_rest(view)) else {
            return watch.finish(console);
        };
        let (id, environment) = (view.id, view.environment.clone());
        let question = GetRollout {
            rollout: RolloutRef::Id(id),
            after_revision: Some(view.revision),
            wait: ROLLOUT_WAIT_MAX,
        };
        let mut answer = std::pin::pin!(later(not_before, ask(question)));
        // The question lives over ticks: only an answer, an interruption or the deadline ends it.
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                () = &mut interrupted => {
                    console.note(&format!("rollout {id} of {environment} goes on without you; houston rollout watch {id} comes back to it"));
                    return Ok(INTERRUPTED);
                }
                () = until(deadline) => {
                    let what = format!("rollout {id} of {environment} is not at its end after {}", Exact(timeout.unwrap_or_default()));
                    return Err(Refusal::new(Code::Timeout, what, "it goes on; wait again, or see houston rollout status"));
                }
                () = tokio::time::sleep(TICK) => watch.draw(console)?,
            }
        };
        match answer {
            Ok(view) => {
                (retry, not_before) = (RETRY_FIRST, Instant::now() + BETWEEN_PICTURES);
                watch.reached(console);
                watch.take(console, view)?;
            }
            Err(refusal) if refusal.code.exit() == Exit::Unreachable => {
                not_before = Instant::now() + retry;
                watch.lost(console, refusal)?;
                retry = (retry * 2).min(RETRY_LAST);
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

async fn later<T>(time: Instant, what: impl Future<Output = T>) -> T {
    sleep_until(time).await;
    what.await
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Watch {
    manner: Manner,
    /// When the view came.
    received: Instant,
    view: Option<RolloutView>,
    /// Why the coordinator is not reached now.
    trouble: Option<Refusal>,
    screen: Screen,
}

impl Watch {
    fn has_picture(&self, console: &Console<'_>) -> bool {
        self.manner == Manner::Everything && console.terminal().is_some()
    }

    /// Tells what is new in a view, and keeps it.
    fn take(&mut self, console: &mut Console<'_>, view: RolloutView) -> Result<(), Refusal> {
        let before = self.view.take();
        let is_news = before.as_ref().is_none_or(|before| before.revision != view.revision);
        self.received = Instant::now();
        if self.has_picture(console) {
            self.show_failures(console, before.as_ref(), &view)?;
            self.view = Some(view);
            return self.draw(console);
        }
        if is_news {
            let told: Vec<_> = changes(before.as_ref(), &view)
                .into_iter()
                .filter(|change| change.of_state || self.manner == Manner::Everything)
                .collect();
            if console.output == Output::Json {
                if self.manner == Manner::Everything || !told.is_empty() {
                    console.event(|| json::rollout(&view), |_| String::new())?;
                }
            } else {
                // What is found at the start has happened at some time before.
                let when = if before.is_some() { time(wall_now()) + " " } else { "so far:".to_owned() };
                for change in told {
                    console.write(&format!("{when} {}\n", change.text))?;
                }
            }
        }
        self.view = Some(view);
        Ok(())
    }

    /// A failure and its log scroll by above the picture, at the moment it is known.
    fn show_failures(
        &mut self,
        console: &mut Console<'_>,
        before: Option<&RolloutView>,
        now: &RolloutView,
    ) -> Result<(), Refusal> {
        let paint = console.paint;
        let mut text = String::new();
        for host in failed_since(before, now) {
            if let Some(failed) = &host.failure {
                text.push_str(&paint.bad(&format!(
                    "✗ {} in zone {}: {}",
                    host.host,
                    host.zone,
                    failure(failed)
                )));
                text.push('\n');
                text.push_str(&log_tail(failed, LOG_LINES_MAX, paint));
            }
        }
        if text.is_empty() { Ok(()) } else { self.screen.scroll(console, &text) }
    }

    fn draw(&mut self, console: &mut Console<'_>) -> Result<(), Refusal> {
        let (Some((columns, rows)), Some(view)) = (console.terminal(), &self.view) else { return Ok(()) };
        if self.manner != Manner::Everything {
            return Ok(());
        }
        // One column and one row less: a full one would make the terminal scroll or wrap.
        let (columns_max, age) = (columns.saturating_sub(1), self.received.elapsed());
        let trouble = self.trouble.as_ref().map_or_else(Vec::new, |refusal| {
            let Refusal { code, what, .. } = refusal;
            let age = Rough(age);
            let text =
                format!("Trying again; this is how it was {age} ago, the rollout goes on. {code}: {what}");
            wrap(&text, columns_max)
        });
        let size = Some((columns_max, rows.saturating_sub(1 + trouble.len().max(1))));
        let mut lines = picture(view, Frame { size, age, now: wall_now(), paint: console.paint });
        lines.extend(trouble.iter().map(|line| console.paint.warn(line)));
        self.screen.draw(console, lines, columns)
    }

    fn lost(&mut self, console: &mut Console<'_>, refusal: Refusal) -> Result<(), Refusal> {
        if self.trouble.is_none() && !self.has_picture(console) {
            let Refusal { code, what, .. } = &refusal;
            console.note(&format!("trying again, the rollout goes on; {code}: {what}"));
        }
        self.trouble = Some(refusal);
        self.draw(console)
    }

    fn reached(&mut self, console: &mut Console<'_>) {
        if self.trouble.take().is_some() && !self.has_picture(console) {
            console.note("the coordinator is reached again");
        }
    }

    fn finish(&self, console: &mut Console<'_>) -> Result<u8, Refusal> {
        let Some(view) = &self.view else { return Err(Refusal::internal("a watch without a view")) };
        let (summary, exit) = ending(view)?;
        if console.output == Output::Text {
            console.write(&summary)?;
        }
        Ok(exit as u8)
    }
}
