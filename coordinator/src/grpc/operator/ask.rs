//! How a message becomes a value, is judged in the engine, and what came of it an answer.

use std::time::SystemTime;

use houston_common::api::convert::{Wire, nested};
use houston_common::api::status::invalid_field;
use houston_common::api::wire;
use houston_common::clock::{FleetTime, WallTime};
use houston_common::command::{AddOperator, Page};
use houston_common::error::Refusal;
use houston_common::exchange::IssuedCertificate;
use houston_common::id::HostId;
use houston_common::view::HostView;
use tonic::{Request, Response, Status};

use super::OperatorService;
use crate::ca::Ca;
use crate::engine::core::Decided;
use crate::grpc::peer::{self, OperatorCaller};
use crate::grpc::refused;
use crate::service::{access, hosts};
use crate::state::State;

pub(super) type Answer<M> = Result<Response<M>, Status>;

/// The caller, and the request as a value.
pub(super) fn ask<D: Wire>(request: Request<D::Message>) -> Result<(OperatorCaller, D), Status> {
    let caller = peer::operator(&request)?;
    Ok((caller, D::from_wire(request.into_inner()).map_err(invalid_field)?))
}

pub(super) fn tell<D: Wire>(answer: &D) -> Answer<D::Message> {
    Ok(Response::new(answer.to_wire()))
}

pub(in crate::grpc) fn now() -> WallTime {
    WallTime::from_system(SystemTime::now())
}

impl OperatorService {
    pub(in crate::grpc) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, FleetTime) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Status> {
        self.0.engine.read(look).await.and_then(|seen| seen).map_err(|refusal| refused(&refusal))
    }

    pub(super) async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&State, FleetTime) -> Result<Decided<T>, Refusal> + Send + 'static,
    ) -> Result<T, Status> {
        self.0.engine.command(decide).await.map_err(|refusal| refused(&refusal))
    }

    /// A change of a host, then the host as it is after it.
    pub(super) async fn change_host(
        &self,
        decide: impl FnOnce(&State, FleetTime) -> Result<Decided<HostId>, Refusal> + Send + 'static,
    ) -> Answer<wire::HostView> {
        let host = self.change(decide).await?;
        let view: HostView = self.look(move |state, now| hosts::get(state, &host, now)).await?;
        tell(&view)
    }

    pub(super) async fn enter_operator(
        &self,
        who: OperatorCaller,
        request: AddOperator,
    ) -> Result<IssuedCertificate, Refusal> {
        let caller = who.anywhere()?;
        let key = Ca::requested_key(&request.csr)?.fingerprint().0;
        let lifetime = self.0.operator_certificate_lifetime;
        let at = SystemTime::now();
        let expires = WallTime::from_system(at).plus(lifetime);
        let (csr, operator) = (request.csr.clone(), request.name.clone());
        let enter = move |state: &_, _| access::add_operator(state, &caller, &request, key, expires);
        self.0.engine.command(enter).await?;
        let issued = self.0.ca.issue_operator(&csr, &operator, lifetime, at)?;
        Ok(self.0.with_authority(issued))
    }
}

pub(super) fn read_page(page: Option<wire::Page>) -> Result<Page, Status> {
    nested("page", page).map_err(invalid_field)
}
