//! How this host reaches its coordinator. Connections are made from what is current, so a new
//! certificate holds for every connection that is made from then on.

use std::sync::{Mutex, PoisonError};

use houston_common::api::client::AgentClient;
use houston_common::error::Refusal;
use houston_common::tls::{Address, ClientSettings};

#[derive(Debug)]
pub struct Link {
    to: Mutex<(Address, ClientSettings)>,
}

impl Link {
    pub fn new(address: Address, settings: ClientSettings) -> Self {
        Self { to: Mutex::new((address, settings)) }
    }

    pub fn replace(&self, address: Address, settings: ClientSettings) {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = (address, settings);
    }

    /// A client with a connection of its own, made on its first call. To be called within a runtime.
    pub fn client(&self) -> Result<AgentClient, Refusal> {
        let (address, settings) = self.to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(AgentClient::new(settings.connect_lazily(&address)?))
    }
}
