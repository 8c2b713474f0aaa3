use std::collections::BTreeSet;

use houston_common::api::FILE_DESCRIPTOR_SET;
use houston_common::api::status::from_status;
use houston_common::command::RevokeOperator;
use houston_common::error::Code;
use houston_common::tls::Credential;
use houston_common::view::Role;
use houston_coordinator::grpc::access::{Scope, TABLE, Who};
use houston_tests::coordinator::Running;
use prost::Message as _;
use tonic::transport::Channel;

/// The part of a descriptor set that names calls. Other fields are skipped.
mod descriptor {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "6")]
        pub services: Vec<Service>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Service {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub methods: Vec<Method>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Method {
        #[prost(string, tag = "1")]
        pub name: String,
    }
}

/// All calls of the protocol, as they stand in a request's path.
fn calls() -> BTreeSet<String> {
    let set = descriptor::Set::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let files = set.files.iter();
    let services = files.flat_map(|file| file.services.iter().map(move |service| (&file.package, service)));
    services
        .flat_map(|(package, service)| {
            service.methods.iter().map(move |method| format!("/{package}.{}/{}", service.name, method.name))
        })
        .collect()
}

#[test]
fn every_call_has_a_row_and_every_row_a_call() {
    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.method.to_owned()).collect();
    let calls = calls();
    assert!(calls.len() > 30, "the descriptors were not read: {calls:?}");
    assert_eq!(calls, rows, "give each call a row in coordinator/src/grpc/access.rs");
}

/// Makes a call with an empty message. What it comes to is an error, or nothing worth knowing.
async fn call(channel: Channel, method: &'static str) -> Option<Code> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("ready");
    let request = tonic::Request::new(tokio_stream::once(()));
    let path = http::uri::PathAndQuery::from_static(method);
    let status = match grpc.streaming(request, path, tonic_prost::ProstCodec::<(), ()>::default()).await {
        Err(status) => status,
        Ok(mut response) => match response.get_mut().message().await {
            Ok(_) => return None,
            Err(status) => status,
        },
    };
    Some(from_status(&status).refusal.code)
}

const DENIED: [Code; 4] = [Code::Role, Code::Unauthenticated, Code::NotYours, Code::CertificateExpired];

fn is_denied(code: Option<Code>) -> bool {
    code.is_some_and(|code| DENIED.contains(&code))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_gets_what_its_row_says() {
    let coordinator = Running::start(|_| {}).await;
    let host = coordinator.host("web").await;
    let operators: [(Credential, Role, Option<&str>); 4] = [
        (coordinator.operator("vera", Role::Viewer, None).await, Role::Viewer, None),
        (coordinator.operator("dora", Role::Deployer, None).await, Role::Deployer, None),
        (coordinator.operator("alma", Role::Approver, None).await, Role::Approver, None),
        (coordinator.ada(), Role::Admin, None),
    ];
    let host_channel = coordinator.connect(Some(&host.credential)).await.expect("the host connects");
    for row in TABLE.iter().filter(|row| row.who != Who::Stranger) {
        let code = call(host_channel.clone(), row.method).await;
        assert_eq!(is_denied(code), row.who != Who::Host, "host: {} came to {code:?}", row.method);
    }
    for (credential, role, _) in &operators {
        let channel = coordinator.connect(Some(credential)).await.expect("the operator connects");
        for row in TABLE.iter().filter(|row| row.who != Who::Stranger) {
            let code = call(channel.clone(), row.method).await;
            let may = matches!(row.who, Who::Operator(needed, _) if *role >= needed);
            assert_eq!(is_denied(code), !may, "{}: {} came to {code:?}", role.as_str(), row.method);
        }
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_one_environment_is_none_everywhere() {
    let coordinator = Running::start(|_| {}).await;
    make_environment(&coordinator, "staging").await;
    let credential = coordinator.operator("bob", Role::Admin, Some("staging")).await;
    let channel = coordinator.connect(Some(&credential)).await.expect("bob connects");
    for row in TABLE {
        let Who::Operator(_, scope) = row.who else { continue };
        let code = call(channel.clone(), row.method).await;
        assert_eq!(is_denied(code), scope == Scope::Everywhere, "{} came to {code:?}", row.method);
    }
    coordinator.stop().await;
}

async fn make_environment(coordinator: &Running, name: &str) {
    let environment = crate::coordinator::environment(name);
    coordinator.admin().await.apply_environment(&environment).await.expect("an environment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_operator_may_nothing_on_the_connection_it_has() {
    let coordinator = Running::start(|_| {}).await;
    let credential = coordinator.operator("eve", Role::Admin, None).await;
    let channel = coordinator.connect(Some(&credential)).await.expect("eve connects");
    assert_eq!(call(channel.clone(), "/houston.v1.Operator/WhoAmI").await, None);
    let revoke = RevokeOperator { name: "eve".parse().expect("name"), reason: "left".to_owned() };
    coordinator.admin().await.revoke_operator(&revoke).await.expect("revoked");
    for row in TABLE.iter().filter(|row| row.who != Who::Stranger) {
        let code = call(channel.clone(), row.method).await;
        let expected = if matches!(row.who, Who::Operator(..)) { Code::Unauthenticated } else { Code::Role };
        assert_eq!(code, Some(expected), "{}", row.method);
    }
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_one_call() {
    let coordinator = Running::start(|_| {}).await;
    let refusal = coordinator.connect(None).await.expect_err("certificates are demanded");
    assert_eq!(refusal.code, Code::Unauthenticated, "{refusal}");

    let trust = houston_common::tls::Trust::Authorities(&coordinator.ca);
    let clock = houston_common::tls::ClockFloor::new();
    let settings = houston_common::tls::ClientSettings::new(trust, None, &clock).expect("settings");
    for row in TABLE {
        // A connection each: a stranger has few calls at a time.
        let channel = settings.connect(&coordinator.enrollment()).await.expect("strangers connect");
        let code = call(channel, row.method).await;
        let expected = if row.who == Who::Stranger { Code::Field } else { Code::Protocol };
        assert_eq!(code, Some(expected), "{}", row.method);
    }
    // Nor is enrollment served where certificates are demanded.
    let channel = coordinator.connect(Some(&coordinator.ada())).await.expect("ada connects");
    assert_eq!(call(channel, "/houston.v1.Enrollment/Enroll").await, Some(Code::Protocol));
    coordinator.stop().await;
}
