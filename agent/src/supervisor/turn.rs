//! One activation at a time on a host, over all its environments.

use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use houston_common::id::EnvironmentName;

use super::worker::Message;

#[derive(Debug, Default)]
pub struct Turn(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    holder: Option<EnvironmentName>,
    waiting: Vec<Sender<Message>>,
}

impl Turn {
    /// Lets a worker be told when the turn is free again.
    pub fn join(&self, messages: Sender<Message>) {
        self.inner().waiting.push(messages);
    }

    /// Takes the turn, if it is free or this environment's already.
    pub fn take(&self, environment: &EnvironmentName) -> bool {
        let mut inner = self.inner();
        let holder = inner.holder.get_or_insert_with(|| environment.clone());
        holder == environment
    }

    /// Gives the turn up, if this environment has it.
    pub fn give_up(&self, environment: &EnvironmentName) {
        let mut inner = self.inner();
        if inner.holder.as_ref() == Some(environment) {
            inner.holder = None;
            inner.waiting.retain(|worker| worker.send(Message::TurnIsFree).is_ok());
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_turn_and_the_others_hear_when_it_is_free() {
        let turn = Turn::default();
        let (prod, test): (EnvironmentName, EnvironmentName) =
            ("prod".parse().expect("name"), "test".parse().expect("name"));
        let (sender, inbox) = std::sync::mpsc::channel();
        turn.join(sender);
        assert!(turn.take(&prod) && turn.take(&prod));
        assert!(!turn.take(&test));
        turn.give_up(&test);
        assert!(!turn.take(&test), "it was not its own to give up");
        assert!(inbox.try_recv().is_err());
        turn.give_up(&prod);
        assert!(matches!(inbox.try_recv(), Ok(Message::TurnIsFree)));
        assert!(turn.take(&test));
    }
}
