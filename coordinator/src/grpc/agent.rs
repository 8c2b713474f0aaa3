//! What hosts ask. Who asks is the host of the certificate; no message names one.

use houston_common::api::convert::Wire as _;
use houston_common::api::{convert, status, wire};
use houston_common::assignment::Assignment;
use houston_common::clock::WallTime;
use houston_common::digest::TreeDigest;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{CheckIn, CheckInAnswer, FileNeed, IssuedCertificate};
use houston_common::id::{EnvironmentName, HostId};
use houston_common::report::{PROTOCOL, PROTOCOL_MIN, Report};
use std::time::{Duration, SystemTime};
use tonic::{Request, Response, Status};

use super::fetch::{self, Pieces};
use super::peer::{self, HostCaller};
use super::{Shared, refused};
use crate::engine::CheckedIn;
use crate::service::hosts::enrollment;
use crate::state::State;

/// When a host whose held call ended because the coordinator stops is to come back: a restart takes
/// about this long.
const STOPPING_RETRY: Duration = Duration::from_secs(2);

/// The agent service.
#[derive(Debug)]
pub struct AgentService(pub Shared);

#[tonic::async_trait]
impl wire::agent_server::Agent for AgentService {
    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewResponse>, Status> {
        let caller = peer::host(&request)?;
        let wire::RenewRequest { csr } = request.into_inner();
        let csr = convert::blob("csr", &csr, convert::CSR_BYTES_MAX).map_err(status::invalid_field)?;
        let issued = self.issue(caller, &csr).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(issued.to_wire()))
    }

    async fn check_in(
        &self,
        request: Request<wire::CheckInRequest>,
    ) -> Result<Response<wire::CheckInResponse>, Status> {
        let caller = peer::host(&request)?;
        let check_in = CheckIn::from_wire(request.into_inner()).map_err(status::invalid_field)?;
        let answer = self.answer(caller, check_in).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(answer.to_wire()))
    }

    type FetchManifestStream = Pieces<wire::ManifestChunk>;

    async fn fetch_manifest(
        &self,
        request: Request<wire::FetchManifestRequest>,
    ) -> Result<Response<Self::FetchManifestStream>, Status> {
        let caller = peer::host(&request)?;
        let wire::FetchManifestRequest { tree } = request.into_inner();
        let tree = TreeDigest(convert::digest("tree", &tree).map_err(status::invalid_field)?);
        self.0
            .fetches
            .manifest(&caller, tree)
            .await
            .map(Response::new)
            .map_err(|refusal| fetch_refused(&refusal))
    }

    type FetchFilesStream = Pieces<wire::FileChunk>;

    async fn fetch_files(
        &self,
        request: Request<wire::FetchFilesRequest>,
    ) -> Result<Response<Self::FetchFilesStream>, Status> {
        let caller = peer::host(&request)?;
        let needs = Vec::<FileNeed>::from_wire(request.into_inner()).map_err(status::invalid_field)?;
        self.0
            .fetches
            .files(&caller, needs)
            .await
            .map(Response::new)
            .map_err(|refusal| fetch_refused(&refusal))
    }
}

fn fetch_refused(refusal: &Refusal) -> Status {
    match refusal.code {
        Code::Busy => status::to_status_with_retry(refusal, fetch::RETRY_AFTER),
        _ => refused(refusal),
    }
}

impl AgentService {
    /// A new certificate for the enrolled key: who holds the old certificate alone gets nothing by it.
    async fn issue(&self, caller: HostCaller, csr: &[u8]) -> Result<IssuedCertificate, Refusal> {
        let shared = &self.0;
        let HostCaller { host, key, .. } = caller;
        let lifetime = shared.host_certificate_lifetime;
        let issued = shared.ca.issue_host(csr, &host, lifetime, SystemTime::now())?;
        if issued.certificate.public_key.fingerprint().0 != key {
            let what = format!("the certificate request is not for the enrolled key of {host}");
            return Err(Refusal::new(
                Code::Csr,
                what,
                "renew with the enrolled key; to change it, enroll again",
            ));
        }
        let expires = issued.certificate.not_after;
        let wall = WallTime::from_system(SystemTime::now());
        shared.engine.command(move |state, _| enrollment::renew(state, &host, &key, expires, wall)).await?;
        Ok(shared.with_authority(issued))
    }

    async fn answer(&self, caller: HostCaller, check_in: CheckIn) -> Result<CheckInAnswer, Refusal> {
        let shared = &self.0;
        let CheckIn { report, may_hold } = check_in;
        agree(&report)?;
        let protocol = report.protocol.min(PROTOCOL);
        let quiet = quiet_environments(&report);
        let renew_now = shared.must_renew(&caller);
        let HostCaller { host, key, .. } = caller;
        let mut retry_after = Duration::ZERO;
        let checked_in = tokio::select! {
            checked_in = shared.engine.check_in(host.clone(), key, report, may_hold) => checked_in?,
            () = tokio::time::sleep(shared.hold), if may_hold => CheckedIn { assignments: None },
            () = shared.stopping() => {
                retry_after = STOPPING_RETRY;
                CheckedIn { assignments: None }
            }
        };
        let forget = if quiet.is_empty() {
            Vec::new()
        } else {
            shared.engine.read(move |state, _| gone(state, &host, quiet)).await?
        };
        let assignments: Vec<Assignment> = checked_in.assignments.unwrap_or_default();
        Ok(CheckInAnswer {
            protocol,
            features: Vec::new(),
            hold: shared.hold,
            retry_after,
            server_time: WallTime::from_system(SystemTime::now()),
            assignments,
            forget,
            renew_now,
        })
    }
}

/// The agent says one version, its newest; it also speaks the one before.
fn agree(report: &Report) -> Result<(), Refusal> {
    if (PROTOCOL_MIN..=PROTOCOL + 1).contains(&report.protocol) {
        return Ok(());
    }
    let what = format!(
        "the agent speaks protocol {}, the coordinator {PROTOCOL_MIN} to {PROTOCOL}",
        report.protocol
    );
    let older = if report.protocol < PROTOCOL_MIN { "update the agent" } else { "update the coordinator" };
    Err(Refusal::new(Code::Protocol, what, older))
}

/// Environments that the host knows of and runs nothing for.
fn quiet_environments(report: &Report) -> Vec<EnvironmentName> {
    let quiet = report.environments.iter().filter(|environment| environment.running.is_none());
    quiet.map(|environment| environment.environment.clone()).collect()
}

/// Those of `names` of which the host is no member any more.
fn gone(state: &State, host: &HostId, names: Vec<EnvironmentName>) -> Vec<EnvironmentName> {
    let entry = state.fleet.get(host);
    let is_member = |name: &EnvironmentName| entry.is_some_and(|entry| entry.environments.contains(name));
    names.into_iter().filter(|name| !is_member(name)).collect()
}
