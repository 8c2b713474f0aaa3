use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use houston_common::clock::FleetTime;
use houston_common::id::{Epoch, Generation, RolloutId, StoreId};
use houston_common::identity::request::new_key_and_csr;
use houston_common::view::RoleBinding;

use super::super::access::row_of;
use super::*;
use crate::ca::Ca;
use crate::fleet::Host;
use crate::state::{Edit, Meta};

const LIFE: Duration = Duration::from_secs(3600);

struct World {
    state: State,
    ca: Ca,
}

impl World {
    fn new() -> Self {
        let meta = Meta {
            store: StoreId([1; 16]),
            mac_key: [2; 32],
            generation: Generation(0),
            rollout: RolloutId(0),
            audit: 0,
            checkpoint: FleetTime(0),
            regressed: false,
        };
        let (ca, _) = Ca::create(SystemTime::now()).expect("an authority");
        Self { state: State::new(Epoch(1), meta, LIFE), ca }
    }

    fn host(&mut self, id: &str) -> PeerCertificate {
        let (_, csr) = new_key_and_csr().expect("a key");
        let id: HostId = id.parse().expect("id");
        let certificate = self.ca.issue_host(&csr, &id, LIFE, SystemTime::now()).expect("issued").certificate;
        let host = Host {
            id,
            zone: "a".parse().expect("zone"),
            labels: BTreeMap::new(),
            key: certificate.public_key.fingerprint().0,
            key_der: certificate.public_key.as_der().to_vec(),
            certificate_expires: certificate.not_after,
            enrolled_at: certificate.not_before,
            ephemeral: false,
            revoked: false,
            drained: false,
            held: None,
            start: None,
        };
        self.state.apply(Edit::Host(host), FleetTime(0));
        certificate
    }

    fn operator(&mut self, name: &str, role: Role, environment: Option<&str>) -> PeerCertificate {
        let (_, csr) = new_key_and_csr().expect("a key");
        let name: OperatorName = name.parse().expect("name");
        let issued = self.ca.issue_operator(&csr, &name, LIFE, SystemTime::now()).expect("issued");
        let environment = environment.map(|name| name.parse().expect("name"));
        let operator = Operator {
            name,
            roles: vec![RoleBinding { role, environment }],
            key: issued.certificate.public_key.fingerprint().0,
            certificate_expires: issued.certificate.not_after,
            revoked: false,
        };
        self.state.apply(Edit::Operator(operator), FleetTime(0));
        issued.certificate
    }

    fn judge(&self, certificate: Option<&PeerCertificate>, method: &str) -> Result<Admitted, Code> {
        let row = row_of(&format!("/houston.v1.{method}")).expect(method);
        let now = WallTime::from_system(SystemTime::now());
        judge(&self.state, certificate, row, now).map_err(|refusal| refusal.code)
    }
}

fn code<T>(result: Result<T, Code>) -> Option<Code> {
    result.err()
}

#[test]
fn a_host_is_whom_its_certificate_names() {
    let mut world = World::new();
    let (one, two) = (world.host("web-1"), world.host("web-2"));
    for (certificate, id) in [(&one, "web-1"), (&two, "web-2")] {
        match world.judge(Some(certificate), "Agent/CheckIn") {
            Ok(Admitted(Kind::Host(caller))) => assert_eq!(caller.host.as_str(), id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(code(world.judge(None, "Agent/CheckIn")), Some(Code::Unauthenticated));
    assert_eq!(code(world.judge(Some(&one), "Operator/WhoAmI")), Some(Code::Role));
    let stranger = World::new().host("web-3");
    assert_eq!(code(world.judge(Some(&stranger), "Agent/CheckIn")), Some(Code::HostUnknown));
}

#[test]
fn a_name_is_no_identity() {
    let mut world = World::new();
    let old = world.host("web-1");
    let new = world.host("web-1");
    assert_eq!(code(world.judge(Some(&old), "Agent/CheckIn")), Some(Code::Unauthenticated));
    assert_eq!(code(world.judge(Some(&new), "Agent/CheckIn")), None);
}

#[test]
fn revocation_and_expiry_reach_open_connections() {
    let mut world = World::new();
    let certificate = world.host("web-1");
    assert_eq!(code(world.judge(Some(&certificate), "Agent/CheckIn")), None);
    let row = row_of("/houston.v1.Agent/CheckIn").expect("row");
    for (now, expected) in [
        (WallTime(certificate.not_after.0 + 1), Some(Code::CertificateExpired)),
        (WallTime(certificate.not_before.0 - 1), Some(Code::CertificateExpired)),
        (certificate.not_after, None),
    ] {
        let judged = judge(&world.state, Some(&certificate), row, now);
        assert_eq!(judged.err().map(|refusal| refusal.code), expected);
    }
    let host = world.state.fleet.get(&"web-1".parse().expect("id")).expect("host").host.clone();
    world.state.apply(Edit::Host(Host { revoked: true, ..host }), FleetTime(0));
    assert_eq!(code(world.judge(Some(&certificate), "Agent/CheckIn")), Some(Code::Unauthenticated));

    let ada = world.operator("ada", Role::Admin, None);
    assert_eq!(code(world.judge(Some(&ada), "Operator/WhoAmI")), None);
    let operator = world.state.access.operators["ada"].clone();
    world.state.apply(Edit::Operator(Operator { revoked: true, ..operator }), FleetTime(0));
    assert_eq!(code(world.judge(Some(&ada), "Operator/WhoAmI")), Some(Code::Unauthenticated));
}

#[test]
fn roles_reach_as_far_as_they_are_bound() {
    let mut world = World::new();
    let (prod, staging) = ("prod".parse().expect("name"), "staging".parse().expect("name"));
    let certificate = world.operator("bob", Role::Deployer, Some("staging"));
    for (method, expected) in [
        ("Operator/WhoAmI", None),
        ("Operator/StartRollout", None),
        ("Operator/PackageStart", None),
        ("Operator/DrainHost", Some(Code::Role)),
        ("Operator/CreateToken", Some(Code::Role)),
        ("Operator/ApplyEnvironment", Some(Code::Role)),
        ("Agent/CheckIn", Some(Code::Role)),
    ] {
        assert_eq!(code(world.judge(Some(&certificate), method)), expected, "{method}");
    }
    match world.judge(Some(&certificate), "Operator/StartRollout") {
        Ok(Admitted(Kind::Operator(caller))) => {
            assert_eq!(caller.within(&staging).expect("may").name.as_str(), "bob");
            assert_eq!(caller.within(&prod).expect_err("may not").code, Code::Role);
            assert_eq!(caller.anywhere().expect_err("asked for nothing").code, Code::Internal);
            assert!(caller.sees(&staging) && !caller.sees(&prod));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(code(world.judge(Some(&world.host_like("bob")), "Operator/WhoAmI")), Some(Code::Role));
}

impl World {
    /// A host that is called like an operator.
    fn host_like(&self, name: &str) -> PeerCertificate {
        let (_, csr) = new_key_and_csr().expect("a key");
        let issued = self.ca.issue_host(&csr, &name.parse().expect("id"), LIFE, SystemTime::now());
        issued.expect("issued").certificate
    }
}

#[test]
fn nobody_is_admitted_without_the_gate() {
    let request = Request::new(());
    assert!(host(&request).is_err());
    assert!(operator(&request).is_err());
    let mut request = Request::new(());
    request.extensions_mut().insert(Admitted::stranger());
    assert!(host(&request).is_err());
    assert!(operator(&request).is_err());
}
