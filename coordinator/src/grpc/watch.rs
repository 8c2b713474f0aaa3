//! Looking at one rollout, for as long as somebody watches.

use std::time::Duration;

use houston_common::command::{GetRollout, RolloutRef};
use houston_common::view::RolloutView;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;

use super::operator::OperatorService;
use crate::service::rollouts;

/// A watcher is answered no sooner than this: a fleet at work commits hundreds of times a second, and
/// nobody reads so fast.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// How often a watched rollout is looked at for what changes without a commit: presence, health, time.
const WATCH_LOOK: Duration = Duration::from_secs(1);

impl OperatorService {
    /// As it is now.
    pub(super) async fn rollout(&self, rollout: RolloutRef) -> Result<RolloutView, Status> {
        // Taken before the look: what is seen is never older than it says.
        let revision = *self.0.engine.revision().borrow();
        self.look(move |state, now| rollouts::get(state, &rollout, revision, now)).await
    }

    /// Waits until there is something after the revision, or the request's patience ends.
    pub(super) async fn watch(&self, request: GetRollout) -> Result<RolloutView, Status> {
        let GetRollout { rollout, after_revision, wait } = request;
        let first = self.rollout(rollout.clone()).await?;
        let Some(after) = after_revision else { return Ok(first) };
        let started = Instant::now();
        let deadline = started + wait;
        let mut revision = self.0.engine.revision();
        let mut view = first.clone();
        loop {
            let same = RolloutView { revision: first.revision, ..view.clone() } == first;
            let at = Instant::now();
            if view.revision > after || !same || at >= deadline {
                break;
            }
            let look_at = deadline.min(at + WATCH_LOOK);
            tokio::select! {
                _ = timeout_at(look_at, revision.changed()) => {}
                () = self.0.stopping() => break,
            }
            view = self.rollout(rollout.clone()).await?;
        }
        sleep_until(deadline.min(started + WATCH_PAUSE)).await;
        self.rollout(rollout).await
    }
}
