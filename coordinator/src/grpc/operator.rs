//! What operators ask: each message becomes a value, is judged by the service, and the answer becomes a
//! message. Nothing is decided here but who may, where that depends on what the request says.

mod ask;

use houston_common::api::convert::{Wire, name};
use houston_common::api::status::invalid_field;
use houston_common::api::wire;
use houston_common::command::{
    AddOperator, AppliedEnvironment, ApplyEnvironment, ControlRollout, CreateToken, CreateVersionSet,
    CreatedToken, DecideGate, DrainHost, EditHost, Explain, GetRollout, HoldHost, HostChange, ListHosts,
    ListRollouts, PackageFinish, RemovePackage, RevokeOperator, RevokeToken, RolloutRef, StartRollout,
    WhoAmI,
};
use houston_common::exchange::FETCH_FILES_MAX;
use houston_common::id::{HostId, RolloutId};
use houston_common::view::Role;
use tonic::{Request, Response, Status, Streaming};

pub(super) use ask::now;
use ask::{Answer, ask, read_page, tell};

use super::peer;
use super::{Shared, refused};
use crate::join_token;
use crate::service::{access, catalog, environments, hosts, rollouts};
use crate::state::State;

/// The operator service.
#[derive(Debug)]
pub struct OperatorService(pub Shared);

#[tonic::async_trait]
impl wire::operator_server::Operator for OperatorService {
    async fn who_am_i(&self, request: Request<wire::WhoAmIRequest>) -> Answer<wire::WhoAmIResponse> {
        let who = peer::operator(&request)?;
        let wire::WhoAmIRequest {} = request.into_inner();
        let (store, regressed) = self.look(|state, _| Ok((state.meta.store, state.meta.regressed))).await?;
        tell(&WhoAmI {
            operator: who.name().clone(),
            roles: who.roles().to_vec(),
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            store,
            regressed,
            server_time: now(),
        })
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Answer<wire::CreateTokenResponse> {
        let (who, request) = ask::<CreateToken>(request)?;
        let caller = who.anywhere().map_err(|refusal| refused(&refusal))?;
        let new = join_token::new(self.0.ca.fingerprint()).map_err(|refusal| refused(&refusal))?;
        let parts = access::TokenParts { id: new.id, secret: new.secret };
        let wall = now();
        let create = move |state: &_, now| access::create_token(state, &caller, &request, parts, now, wall);
        let token = self.change(create).await?;
        tell(&CreatedToken { secret: new.text, token })
    }

    async fn list_tokens(
        &self,
        request: Request<wire::ListTokensRequest>,
    ) -> Answer<wire::ListTokensResponse> {
        peer::operator(&request)?;
        let wire::ListTokensRequest {} = request.into_inner();
        let wall = now();
        tell(&self.look(move |state, now| Ok(access::list_tokens(state, now, wall))).await?)
    }

    async fn revoke_token(
        &self,
        request: Request<wire::RevokeTokenRequest>,
    ) -> Answer<wire::RevokeTokenResponse> {
        let (who, request) = ask::<RevokeToken>(request)?;
        self.change(move |state, _| access::revoke_token(state, &who.anywhere()?, &request)).await?;
        Ok(Response::new(wire::RevokeTokenResponse {}))
    }

    async fn add_operator(
        &self,
        request: Request<wire::AddOperatorRequest>,
    ) -> Answer<wire::AddOperatorResponse> {
        let (who, request) = ask::<AddOperator>(request)?;
        let issued = self.enter_operator(who, request).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(issued.into()))
    }

    async fn list_operators(
        &self,
        request: Request<wire::ListOperatorsRequest>,
    ) -> Answer<wire::ListOperatorsResponse> {
        peer::operator(&request)?;
        let wire::ListOperatorsRequest {} = request.into_inner();
        tell(&self.look(|state, _| Ok(access::list_operators(state))).await?)
    }

    async fn revoke_operator(
        &self,
        request: Request<wire::RevokeOperatorRequest>,
    ) -> Answer<wire::RevokeOperatorResponse> {
        let (who, request) = ask::<RevokeOperator>(request)?;
        self.change(move |state, _| access::revoke_operator(state, &who.anywhere()?, &request)).await?;
        Ok(Response::new(wire::RevokeOperatorResponse {}))
    }

    async fn list_hosts(&self, request: Request<wire::ListHostsRequest>) -> Answer<wire::ListHostsResponse> {
        let (_, request) = ask::<ListHosts>(request)?;
        tell(&self.look(move |state, now| hosts::list(state, &request, now)).await?)
    }

    async fn get_host(&self, request: Request<wire::GetHostRequest>) -> Answer<wire::HostView> {
        peer::operator(&request)?;
        let wire::GetHostRequest { host } = request.into_inner();
        let host: HostId = name("host", &host).map_err(invalid_field)?;
        tell(&self.look(move |state, now| hosts::get(state, &host, now)).await?)
    }

    async fn edit_host(&self, request: Request<wire::EditHostRequest>) -> Answer<wire::HostView> {
        let (who, request) = ask::<EditHost>(request)?;
        self.change_host(move |state, _| hosts::edit(state, &who.anywhere()?, &request)).await
    }

    async fn drain_host(&self, request: Request<wire::DrainHostRequest>) -> Answer<wire::HostView> {
        let (who, request) = ask::<DrainHost>(request)?;
        self.change_host(move |state, _| hosts::drain(state, &who.anywhere()?, &request)).await
    }

    async fn hold_host(&self, request: Request<wire::HoldHostRequest>) -> Answer<wire::HostView> {
        let (who, request) = ask::<HoldHost>(request)?;
        self.change_host(move |state, now| hosts::hold(state, &who.anywhere()?, &request, now)).await
    }

    async fn remove_host(
        &self,
        request: Request<wire::HostChangeRequest>,
    ) -> Answer<wire::RemoveHostResponse> {
        let (who, request) = ask::<HostChange>(request)?;
        self.change(move |state, _| hosts::remove(state, &who.anywhere()?, &request)).await?;
        Ok(Response::new(wire::RemoveHostResponse {}))
    }

    async fn release_host(&self, request: Request<wire::HostChangeRequest>) -> Answer<wire::HostView> {
        let (who, request) = ask::<HostChange>(request)?;
        self.change_host(move |state, _| {
            if hosts::is_in_doubt(state, &request.host)? {
                // Whoever may tell machines apart, and no others, says which of them is the host.
                who.must(Role::Admin, None)?;
            }
            hosts::release(state, &who.anywhere()?, &request)
        })
        .await
    }

    async fn revoke_host(&self, request: Request<wire::HostChangeRequest>) -> Answer<wire::HostView> {
        let (who, request) = ask::<HostChange>(request)?;
        self.change_host(move |state, _| hosts::revoke(state, &who.anywhere()?, &request)).await
    }

    type PackageStartStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<wire::PackageStartResponse, Status>>>;

    async fn package_start(
        &self,
        request: Request<Streaming<wire::PackageStartRequest>>,
    ) -> Answer<Self::PackageStartStream> {
        peer::operator(&request)?;
        let wanted = self.0.transfers.package_start(request.into_inner()).await?;
        let answers: Vec<_> =
            wanted.chunks(FETCH_FILES_MAX).map(|files| Ok(files.to_vec().to_wire())).collect();
        Ok(Response::new(tokio_stream::iter(answers)))
    }

    async fn upload_files(
        &self,
        request: Request<Streaming<wire::FileUpload>>,
    ) -> Answer<wire::UploadFilesResponse> {
        peer::operator(&request)?;
        tell(&self.0.transfers.upload_files(request.into_inner()).await?)
    }

    async fn package_finish(
        &self,
        request: Request<wire::PackageFinishRequest>,
    ) -> Answer<wire::PackageView> {
        let (who, request) = ask::<PackageFinish>(request)?;
        let bytes = self.0.transfers.complete(&request.package).await.map_err(|refusal| refused(&refusal))?;
        let wall = now();
        let id = self
            .change(move |state, _| catalog::commit_package(state, &who.anywhere()?, &request, bytes, wall))
            .await?;
        tell(&self.look(move |state, _| catalog::get_package(state, &id)).await?)
    }

    async fn list_packages(
        &self,
        request: Request<wire::ListPackagesRequest>,
    ) -> Answer<wire::ListPackagesResponse> {
        peer::operator(&request)?;
        let wire::ListPackagesRequest { page } = request.into_inner();
        let page = read_page(page)?;
        tell(&self.look(move |state, _| catalog::list_packages(state, &page)).await?)
    }

    async fn remove_package(
        &self,
        request: Request<wire::RemovePackageRequest>,
    ) -> Answer<wire::RemovePackageResponse> {
        let (who, request) = ask::<RemovePackage>(request)?;
        self.change(move |state, _| catalog::remove_package(state, &who.anywhere()?, &request)).await?;
        self.0.collect.notify_one();
        Ok(Response::new(wire::RemovePackageResponse {}))
    }

    async fn create_version_set(
        &self,
        request: Request<wire::CreateVersionSetRequest>,
    ) -> Answer<wire::VersionSetView> {
        let (who, request) = ask::<CreateVersionSet>(request)?;
        let wall = now();
        let set =
            self.change(move |state, _| catalog::create_set(state, &who.anywhere()?, &request, wall)).await?;
        tell(&self.look(move |state, _| catalog::get_set(state, &set)).await?)
    }

    async fn list_version_sets(
        &self,
        request: Request<wire::ListVersionSetsRequest>,
    ) -> Answer<wire::ListVersionSetsResponse> {
        peer::operator(&request)?;
        let wire::ListVersionSetsRequest { page } = request.into_inner();
        let page = read_page(page)?;
        tell(&self.look(move |state, _| catalog::list_sets(state, &page)).await?)
    }

    async fn get_version_set(
        &self,
        request: Request<wire::GetVersionSetRequest>,
    ) -> Answer<wire::VersionSetView> {
        peer::operator(&request)?;
        let wire::GetVersionSetRequest { name: set } = request.into_inner();
        let set = name("name", &set).map_err(invalid_field)?;
        tell(&self.look(move |state, _| catalog::get_set(state, &set)).await?)
    }

    async fn apply_environment(
        &self,
        request: Request<wire::ApplyEnvironmentRequest>,
    ) -> Answer<wire::ApplyEnvironmentResponse> {
        let (who, request) = ask::<ApplyEnvironment>(request)?;
        let apply = move |state: &State, _| {
            let caller = who.within(&request.name)?;
            let before =
                state.environments.get(&request.name).map(|environment| &environment.definition.selector);
            if before != Some(&request.selector) {
                // A selector can take in hosts of any environment.
                who.must(Role::Admin, None)?;
            }
            environments::apply(state, &caller, &request)
        };
        let applied: AppliedEnvironment = self.change(apply).await?;
        tell(&applied)
    }

    async fn list_environments(
        &self,
        request: Request<wire::ListEnvironmentsRequest>,
    ) -> Answer<wire::ListEnvironmentsResponse> {
        let who = peer::operator(&request)?;
        let wire::ListEnvironmentsRequest { page } = request.into_inner();
        let page = read_page(page)?;
        let mut listed = self.look(move |state, _| environments::list(state, &page)).await?;
        listed.items.retain(|environment| who.sees(&environment.name));
        tell(&listed)
    }

    async fn get_environment(
        &self,
        request: Request<wire::GetEnvironmentRequest>,
    ) -> Answer<wire::EnvironmentView> {
        let who = peer::operator(&request)?;
        let wire::GetEnvironmentRequest { name: environment } = request.into_inner();
        let environment = name("name", &environment).map_err(invalid_field)?;
        let get = move |state: &State, _| {
            who.within(&environment)?;
            environments::get(state, &environment)
        };
        tell(&self.look(get).await?)
    }

    async fn plan_rollout(
        &self,
        request: Request<wire::StartRolloutRequest>,
    ) -> Answer<wire::PlanRolloutResponse> {
        let (who, request) = ask::<StartRollout>(request)?;
        tell(&self.plan(who, request).await?)
    }

    async fn start_rollout(&self, request: Request<wire::StartRolloutRequest>) -> Answer<wire::RolloutView> {
        let (who, request) = ask::<StartRollout>(request)?;
        let wall = now();
        let shown = request.plan_hash.and_then(|hash| self.0.plans.find(&hash));
        let start = move |state: &State, now| {
            let caller = who.within(&request.environment)?;
            rollouts::start(state, &caller, &request, shown.as_deref(), now, wall)
        };
        let id: RolloutId = self.change(start).await?;
        tell(&self.rollout(RolloutRef::Id(id)).await?)
    }

    async fn get_rollout(&self, request: Request<wire::GetRolloutRequest>) -> Answer<wire::RolloutView> {
        let (who, request) = ask::<GetRollout>(request)?;
        let rollout = request.rollout.clone();
        self.look(move |state, _| who.within(&rollouts::environment_of(state, &rollout)?)).await?;
        tell(&self.watch(request).await?)
    }

    async fn list_rollouts(
        &self,
        request: Request<wire::ListRolloutsRequest>,
    ) -> Answer<wire::ListRolloutsResponse> {
        let (who, request) = ask::<ListRollouts>(request)?;
        let mut listed = self.look(move |state, _| rollouts::list(state, &request)).await?;
        listed.retain(|rollout| who.sees(&rollout.environment));
        tell(&listed)
    }

    async fn control_rollout(
        &self,
        request: Request<wire::ControlRolloutRequest>,
    ) -> Answer<wire::RolloutView> {
        let (who, request) = ask::<ControlRollout>(request)?;
        let wall = now();
        let control = move |state: &State, now| {
            let caller = who.within(&rollouts::environment_of(state, &request.rollout)?)?;
            rollouts::control(state, &caller, &request, now, wall)
        };
        let id: RolloutId = self.change(control).await?;
        tell(&self.rollout(RolloutRef::Id(id)).await?)
    }

    async fn decide_gate(&self, request: Request<wire::DecideGateRequest>) -> Answer<wire::RolloutView> {
        let (who, request) = ask::<DecideGate>(request)?;
        let wall = now();
        let decide = move |state: &State, now| {
            let caller = who.within(&rollouts::environment_of(state, &request.rollout)?)?;
            rollouts::decide(state, &caller, &request, now, wall)
        };
        let id: RolloutId = self.change(decide).await?;
        tell(&self.rollout(RolloutRef::Id(id)).await?)
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Answer<wire::ExplainResponse> {
        let (who, request) = ask::<Explain>(request)?;
        let explain = move |state: &State, now| {
            who.within(&request.environment)?;
            rollouts::explain(state, &request, now)
        };
        tell(&self.look(explain).await?)
    }
}
