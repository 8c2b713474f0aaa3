use houston_common::identity::request::{csr, new_key_and_csr};
use houston_common::identity::{KeyFingerprint, PublicKey};
use houston_common::tls::{ClientSettings, ClockFloor, Credential, Incoming, ServerSettings, Trust};
use tokio_stream::StreamExt as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::csr::CSR_BYTES_MAX;
use super::*;

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

fn now() -> SystemTime {
    SystemTime::now()
}

fn ca() -> Ca {
    Ca::create(now()).expect("an authority").0
}

fn host() -> HostId {
    "web-1".parse().expect("an id")
}

fn leaf_der(issued: &Issued) -> Vec<u8> {
    parse_x509_pem(issued.chain_pem.as_bytes()).expect("PEM").1.contents
}

fn refused(request: &[u8]) -> Refusal {
    let refusal = ca().issue_host(request, &host(), MONTH, now()).expect_err("refused");
    assert_eq!(refusal.code, Code::Csr, "{refusal}");
    refusal
}

/// A request for more than anybody gets.
fn greedy() -> CertificateParams {
    let mut params =
        CertificateParams::new(vec!["coordinator.example".into(), "*.example".into()]).expect("names");
    params.distinguished_name = common_name("admin");
    params.subject_alt_names.push(SanType::URI("houston://operator/admin".try_into().expect("ASCII")));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    params
}

#[test]
fn only_the_key_of_a_request_counts() {
    let pair = KeyPair::generate().expect("a key");
    let request = greedy().serialize_request(&pair).expect("a request");
    let at = now();
    for request in [request.der().to_vec(), request.pem().expect("PEM").into_bytes()] {
        let issued = ca().issue_host(&request, &host(), MONTH, at).expect("issued");
        assert_eq!(issued.certificate.peer, Peer::Host(host()));
        let key = rcgen::PublicKeyData::subject_public_key_info(&pair);
        assert_eq!(issued.certificate.public_key.fingerprint(), KeyFingerprint(Digest::of(&key)));

        let der = leaf_der(&issued);
        let (_, read) = X509Certificate::from_der(&der).expect("a certificate");
        let names = &read.subject_alternative_name().expect("read").expect("present").value.general_names;
        assert_eq!(names, &[GeneralName::URI("houston://host/web-1")]);
        assert_eq!(read.subject().to_string(), "CN=web-1");
        assert!(!read.is_ca());
        let usage = read.key_usage().expect("read").expect("present").value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let usage = read.extended_key_usage().expect("read").expect("present").value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
    }
}

#[test]
fn validity_starts_a_little_early_and_ends_with_the_lifetime_or_the_authority() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (ca, _) = Ca::create(at).expect("an authority");
    let (_, request) = new_key_and_csr().expect("a request");
    let issued = |lifetime, at| ca.issue_host(&request, &host(), lifetime, at).expect("issued").certificate;
    let wall = WallTime::from_system;
    assert_eq!(
        (issued(MONTH, at).not_before, issued(MONTH, at).not_after),
        (wall(at - BACKDATE), wall(at + MONTH))
    );
    let late = at + AUTHORITY_LIFETIME - MONTH / 2;
    assert_eq!(issued(MONTH, late).not_after, wall(at + AUTHORITY_LIFETIME));
}

#[test]
fn serial_numbers_are_long_and_never_the_same() {
    let (ca, (_, request)) = (ca(), new_key_and_csr().expect("a request"));
    let serial = || ca.issue_host(&request, &host(), MONTH, now()).expect("issued").certificate.serial;
    let serials: std::collections::BTreeSet<_> = (0..32).map(|_| serial()).collect();
    assert_eq!(serials.len(), 32);
    // Of 128 random bits the first 32 are all zero once in 4 thousand million.
    assert!(serials.iter().all(|serial| serial.as_str().len() > 24), "{serials:?}");
}

#[test]
fn unacceptable_requests_are_refused_with_a_reason() {
    let pair = KeyPair::generate().expect("a key");
    let request = greedy().serialize_request(&pair).expect("a request").der().to_vec();
    ca().issue_host(&request, &host(), MONTH, now()).expect("the base is good");

    let mut resigned = request.clone();
    *resigned.last_mut().expect("bytes") ^= 1;
    assert!(refused(&resigned).what.contains("not signed by its own key"));
    // Another's key under our own signature: a request for a key that we do not hold.
    let other = KeyPair::generate().expect("a key");
    let mut swapped = request.clone();
    let (ours, theirs) = (pair.public_key_raw(), other.public_key_raw());
    let at = swapped.windows(ours.len()).position(|window| window == ours).expect("the key is in it");
    swapped[at..at + theirs.len()].copy_from_slice(theirs);
    assert!(refused(&swapped).what.contains("not signed by its own key"));

    let mut longer = request.clone();
    longer.push(0);
    assert!(refused(&longer).what.contains("bytes follow"));
    for cut in 0..request.len() {
        refused(&request[..cut]);
    }
    refused(b"-----BEGIN CERTIFICATE REQUEST-----\n!\n-----END CERTIFICATE REQUEST-----\n");
    refused(ca().pem().as_bytes());
    refused(&[]);
}

#[test]
fn weak_and_unusual_keys_are_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P521_SHA512, &rcgen::PKCS_RSA_SHA256] {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let request = CertificateParams::default().serialize_request(&pair).expect("a request");
        assert!(refused(request.der()).what.contains("P-256"), "{algorithm:?}");
    }
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let request = CertificateParams::default().serialize_request(&pair).expect("a request");
        ca().issue_host(request.der(), &host(), MONTH, now()).expect("issued");
    }
}

#[test]
fn the_size_of_a_request_is_limited() {
    // Signatures of this kind all have one length, so that a longer name is all that makes a request longer.
    let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let request = |filler: usize| {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&"x".repeat(filler));
        params.serialize_request(&pair).expect("a request").der().to_vec()
    };
    let overhead = request(CSR_BYTES_MAX / 2).len() - CSR_BYTES_MAX / 2;
    for (length, accepted) in [(CSR_BYTES_MAX - 1, true), (CSR_BYTES_MAX, true), (CSR_BYTES_MAX + 1, false)] {
        let request = request(length - overhead);
        assert_eq!(request.len(), length);
        let issued = ca().issue_host(&request, &host(), MONTH, now());
        assert_eq!(issued.is_ok(), accepted, "{length}: {issued:?}");
    }
    refused(&vec![0; 1 << 20]);
}

#[test]
fn an_authority_is_loaded_only_whole_valid_and_with_its_key() {
    let (ca, key) = Ca::create(now()).expect("an authority");
    let again = Ca::load(ca.pem(), &key, now()).expect("loaded");
    assert_eq!((again.fingerprint(), again.pem()), (ca.fingerprint(), ca.pem()));

    let code = |pem: &str, key: &PrivateKey, at| Ca::load(pem, key, at).expect_err("refused").code;
    let (other, other_key) = Ca::create(now()).expect("an authority");
    assert_eq!(code(ca.pem(), &other_key, now()), Code::Credential);
    assert_eq!(code("", &key, now()), Code::Credential);
    assert_eq!(code(ca.pem(), &key, now() + AUTHORITY_LIFETIME), Code::CertificateExpired);
    assert_eq!(code(ca.pem(), &key, now() - MONTH), Code::CertificateExpired);
    let (leaf, leaf_key) =
        other.issue_coordinator(&["a".parse().expect("a name")], MONTH, now()).expect("issued");
    assert_eq!(code(&leaf.chain_pem, &leaf_key, now()), Code::Credential, "a leaf is no authority");
    assert!(!format!("{ca:?}").contains("PRIVATE"));
}

#[test]
fn a_coordinator_needs_a_name() {
    assert_eq!(ca().issue_coordinator(&[], MONTH, now()).expect_err("refused").code, Code::Address);
}

#[test]
fn the_enrolled_key_is_known_again_after_its_certificate_has_expired() {
    let (key, request) = new_key_and_csr().expect("a request");
    let issued = ca().issue_host(&request, &host(), MONTH, now()).expect("issued");
    let stored = PublicKey::from_der(issued.certificate.public_key.as_der()).expect("kept as DER");
    let signature = houston_common::identity::request::sign(&key, b"challenge").expect("signed");
    assert!(stored.verifies(b"challenge", &signature));
    assert!(!stored.verifies(b"another", &signature));
    let renewed = ca().issue_host(&csr(&key).expect("a request"), &host(), MONTH, now()).expect("issued");
    assert_eq!(renewed.certificate.public_key, stored, "a request can be made again for a key that exists");
}

#[tokio::test]
async fn what_is_issued_shakes_hands() {
    let (ca, clock) = (ca(), ClockFloor::new());
    let names = ["127.0.0.1".parse().expect("a name"), "coordinator.example".parse().expect("a name")];
    let (issued, key) = ca.issue_coordinator(&names, MONTH, now()).expect("issued");
    let coordinator = Credential::from_pem(&issued.chain_pem, &key).expect("a credential");
    let settings = ServerSettings::mutual(&coordinator, ca.pem(), &clock).expect("settings");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").into();
    let (_publish, settings) = tokio::sync::watch::channel(settings);
    let mut incoming = Incoming::new(listener, settings);

    let (key, request) = new_key_and_csr().expect("a request");
    let issued = ca.issue_operator(&request, &"ann".parse().expect("a name"), MONTH, now()).expect("issued");
    let ann = Credential::from_pem(&issued.chain_pem, &key).expect("a credential");
    for trust in [Trust::Authorities(ca.pem()), Trust::Fingerprint(ca.fingerprint())] {
        let client = ClientSettings::new(trust, Some(&ann), &clock).expect("settings");
        let connecting = client.connect(&address);
        let accepted = async {
            let connection = incoming.next().await.expect("never ends").expect("never fails");
            tonic::transport::server::Connected::connect_info(&connection).peer.expect("a peer").peer.clone()
        };
        let deadline = Duration::from_secs(30);
        // Nobody serves HTTP/2 here: the client waits for the server's first word until it is dropped.
        let peer = tokio::time::timeout(deadline, async {
            tokio::select! {
                peer = accepted => peer,
                refusal = connecting => panic!("ended early: {refusal:?}"),
            }
        });
        assert_eq!(peer.await.expect("in time"), Peer::Operator("ann".parse().expect("a name")));
    }
}
