//! The operator service, for the operator of the channel's certificate. Every error is the refusal
//! that the person is to see.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{CALL_TIME_MAX, UPLOAD_TIME_MAX, ask, call, next, open};
use crate::api::convert::Wire as _;
use crate::api::status::CallError;
use crate::api::{MESSAGE_BYTES_MAX, wire};
use crate::command::{
    AddOperator, AppliedEnvironment, ApplyEnvironment, ControlRollout, CreateToken, CreateVersionSet,
    CreatedToken, DecideGate, DrainHost, EditHost, Explain, FileUpload, FileWanted, GetRollout, HoldHost,
    HostChange, ListHosts, ListRollouts, PackageFinish, PackageStart, Page, Paged, RemovePackage,
    RevokeOperator, RevokeToken, RolloutPlan, RolloutSummary, StartRollout, Uploaded, WhoAmI,
};
use crate::digest::TreeDigest;
use crate::error::Refusal;
use crate::exchange::{CHUNK_BYTES_MAX, IssuedCertificate};
use crate::id::{EnvironmentName, HostId, VersionSetName};
use crate::release::PackageVersion;
use crate::rollout::WaitingOn;
use crate::view::{
    EnvironmentView, HostView, OperatorView, PackageView, RolloutView, TokenView, VersionSetView,
};

#[derive(Debug, Clone)]
pub struct OperatorClient(wire::operator_client::OperatorClient<Channel>);

/// Calls whose request and answer are one domain value each.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty;)*) => {
        impl OperatorClient {$(
            $(#[$doc])*
            pub async fn $name(&self, request: &$request) -> Result<$answer, Refusal> {
                let mut client = self.0.clone();
                let send = |request| async move { client.$name(request).await };
                Ok(ask(CALL_TIME_MAX, request.to_wire(), send).await?)
            }
        )*}
    };
}

/// Calls whose answer says no more than that it is done.
macro_rules! orders {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ident;)*) => {
        impl OperatorClient {$(
            $(#[$doc])*
            pub async fn $name(&self, request: &$request) -> Result<(), Refusal> {
                let mut client = self.0.clone();
                let send = |request| async move { client.$name(request).await };
                let wire::$answer {} = call(CALL_TIME_MAX, request.to_wire(), send).await?;
                Ok(())
            }
        )*}
    };
}

calls! {
    create_token(CreateToken) -> CreatedToken;
    list_hosts(ListHosts) -> Paged<HostView>;
    edit_host(EditHost) -> HostView;
    drain_host(DrainHost) -> HostView;
    hold_host(HoldHost) -> HostView;
    release_host(HostChange) -> HostView;
    revoke_host(HostChange) -> HostView;
    /// Enters the package once all of its trees are stored. Safe to repeat.
    package_finish(PackageFinish) -> PackageView;
    create_version_set(CreateVersionSet) -> VersionSetView;
    apply_environment(ApplyEnvironment) -> AppliedEnvironment;
    /// What `start_rollout` would do now.
    plan_rollout(StartRollout) -> RolloutPlan;
    start_rollout(StartRollout) -> RolloutView;
    list_rollouts(ListRollouts) -> Vec<RolloutSummary>;
    /// The rollout that results: taking back one that had succeeded starts a new one.
    control_rollout(ControlRollout) -> RolloutView;
    decide_gate(DecideGate) -> RolloutView;
    explain(Explain) -> Vec<WaitingOn>;
}

orders! {
    revoke_token(RevokeToken) -> RevokeTokenResponse;
    revoke_operator(RevokeOperator) -> RevokeOperatorResponse;
    remove_host(HostChange) -> RemoveHostResponse;
    remove_package(RemovePackage) -> RemovePackageResponse;
}

impl OperatorClient {
    pub fn new(channel: Channel) -> Self {
        Self(wire::operator_client::OperatorClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    pub async fn who_am_i(&self) -> Result<WhoAmI, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.who_am_i(request).await };
        Ok(ask(CALL_TIME_MAX, wire::WhoAmIRequest {}, send).await?)
    }

    pub async fn list_tokens(&self) -> Result<Vec<TokenView>, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.list_tokens(request).await };
        Ok(ask(CALL_TIME_MAX, wire::ListTokensRequest {}, send).await?)
    }

    pub async fn list_operators(&self) -> Result<Vec<OperatorView>, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.list_operators(request).await };
        Ok(ask(CALL_TIME_MAX, wire::ListOperatorsRequest {}, send).await?)
    }

    pub async fn add_operator(&self, request: &AddOperator) -> Result<IssuedCertificate, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.add_operator(request).await };
        let answer = call(CALL_TIME_MAX, request.to_wire(), send).await?;
        Ok(IssuedCertificate::try_from(answer).map_err(CallError::from)?)
    }

    pub async fn get_host(&self, host: &HostId) -> Result<HostView, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.get_host(request).await };
        Ok(ask(CALL_TIME_MAX, wire::GetHostRequest { host: host.to_string() }, send).await?)
    }

    pub async fn list_packages(&self, page: &Page) -> Result<Paged<PackageView>, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.list_packages(request).await };
        let request = wire::ListPackagesRequest { page: Some(page.to_wire()) };
        Ok(ask(CALL_TIME_MAX, request, send).await?)
    }

    pub async fn list_version_sets(&self, page: &Page) -> Result<Paged<VersionSetView>, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.list_version_sets(request).await };
        let request = wire::ListVersionSetsRequest { page: Some(page.to_wire()) };
        Ok(ask(CALL_TIME_MAX, request, send).await?)
    }

    pub async fn get_version_set(&self, name: &VersionSetName) -> Result<VersionSetView, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.get_version_set(request).await };
        Ok(ask(CALL_TIME_MAX, wire::GetVersionSetRequest { name: name.to_string() }, send).await?)
    }

    pub async fn list_environments(&self, page: &Page) -> Result<Paged<EnvironmentView>, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.list_environments(request).await };
        let request = wire::ListEnvironmentsRequest { page: Some(page.to_wire()) };
        Ok(ask(CALL_TIME_MAX, request, send).await?)
    }

    pub async fn get_environment(&self, name: &EnvironmentName) -> Result<EnvironmentView, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.get_environment(request).await };
        Ok(ask(CALL_TIME_MAX, wire::GetEnvironmentRequest { name: name.to_string() }, send).await?)
    }

    /// One rollout, held for at most the request's own wait.
    pub async fn get_rollout(&self, request: &GetRollout) -> Result<RolloutView, Refusal> {
        let mut client = self.0.clone();
        let send = |request| async move { client.get_rollout(request).await };
        Ok(ask(CALL_TIME_MAX.saturating_add(request.wait), request.to_wire(), send).await?)
    }

    /// Hands over a package's manifests, one text for each of its trees, and learns which files the
    /// coordinator lacks.
    pub async fn package_start(
        &self,
        package: &PackageVersion,
        manifests: BTreeMap<TreeDigest, Bytes>,
    ) -> Result<Vec<FileWanted>, Refusal> {
        let mut client = self.0.clone();
        let header = std::iter::once(PackageStart::Header(package.clone()));
        let parts = header.chain(manifests.into_iter().flat_map(|(tree, text)| manifest_parts(tree, text)));
        let request = tokio_stream::iter(parts.map(|part| part.to_wire()));
        let mut stream = open(UPLOAD_TIME_MAX, client.package_start(request)).await?;
        let mut wanted = Vec::new();
        while let Some(message) = next(&mut stream).await? {
            wanted.extend(Vec::<FileWanted>::from_wire(message).map_err(CallError::from)?);
        }
        Ok(wanted)
    }

    /// Stores the files whose pieces come through the channel, until its senders are gone. If it fails,
    /// the channel closes early; files that were stored whole stay stored.
    pub async fn upload_files(&self, pieces: mpsc::Receiver<FileUpload>) -> Result<Uploaded, Refusal> {
        let mut client = self.0.clone();
        let request = ReceiverStream::new(pieces).map(|piece| piece.to_wire());
        let answer = open(UPLOAD_TIME_MAX, client.upload_files(request)).await?;
        Ok(Uploaded::from_wire(answer).map_err(CallError::from)?)
    }
}

/// A manifest in pieces. A manifest is never empty: it has a first line.
fn manifest_parts(tree: TreeDigest, text: Bytes) -> impl Iterator<Item = PackageStart> {
    let starts = (0..text.len()).step_by(CHUNK_BYTES_MAX);
    starts.map(move |start| {
        let end = text.len().min(start + CHUNK_BYTES_MAX);
        PackageStart::Manifest { tree, data: text.slice(start..end), last: end == text.len() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_manifest_is_cut_into_pieces_that_are_the_whole() {
        let tree = TreeDigest(Digest::of(b""));
        for length in [1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 3 * CHUNK_BYTES_MAX] {
            let text: Bytes = (0..length).map(|i| i as u8).collect();
            let (mut whole, mut lasts) = (Vec::new(), Vec::new());
            for part in manifest_parts(tree, text.clone()) {
                assert_eq!(PackageStart::from_wire(part.to_wire()), Ok(part.clone()));
                let PackageStart::Manifest { data, last, .. } = part else { panic!("a manifest") };
                whole.extend_from_slice(&data);
                lasts.push(last);
            }
            assert_eq!(whole, text);
            assert!(lasts.pop() == Some(true) && !lasts.contains(&true), "{length}");
        }
    }
}
