//! Planning a rollout: a copy is taken where the state is, and flown where nobody waits for it.

use std::sync::{Arc, Mutex, PoisonError};

use houston_common::command::StartRollout;
use houston_common::digest::Digest;
use houston_common::error::Refusal;
use houston_common::plan::RolloutPlan;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tonic::Status;

use super::operator::OperatorService;
use super::peer::OperatorCaller;
use super::refused;
use crate::service::rollouts::{self, Basis, Shown};

/// Flights at a time: each holds a copy of an environment and a processor; the others wait for their turn.
const FLIGHTS_MAX: usize = 2;

/// What the plans of all operators share.
#[derive(Debug)]
pub(super) struct Plans {
    flights: Arc<Semaphore>,
    shown: Mutex<Shown>,
}

impl Default for Plans {
    fn default() -> Self {
        Self { flights: Arc::new(Semaphore::new(FLIGHTS_MAX)), shown: Mutex::default() }
    }
}

impl Plans {
    /// What the plan of this hash rested on, if it was shown lately.
    pub(super) fn find(&self, hash: &Digest) -> Option<Arc<Basis>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).find(hash)
    }

    fn remember(&self, basis: Basis) {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remember(basis);
    }
}

impl OperatorService {
    pub(super) async fn plan(
        &self,
        who: OperatorCaller,
        request: StartRollout,
    ) -> Result<RolloutPlan, Status> {
        let broken = |what: String| refused(&Refusal::internal(what));
        let flights = self.0.plans.flights.clone();
        let permit = flights.acquire_owned().await.map_err(|error| broken(error.to_string()))?;
        let wall = super::operator::now();
        let plan = move |state: &_, now| {
            rollouts::plan(state, &who.within(&request.environment)?, &request, now, wall)
        };
        let grounded = self.look(plan).await?;
        let fly = move || {
            let flown = grounded.fly();
            drop(permit);
            flown
        };
        let flown = spawn_blocking(fly).await.map_err(|error| broken(format!("a flight ended: {error}")))?;
        let (basis, plan) = flown.map_err(|refusal| refused(&refusal))?;
        self.0.plans.remember(basis);
        Ok(plan)
    }
}
