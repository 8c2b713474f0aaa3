use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair, SanType};

use super::request::{csr, new_key, new_key_and_csr, renewal_challenge, sign};
use super::*;
use crate::error::Code;

fn certificate(names: &[&str], key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        names.iter().map(|name| SanType::URI((*name).try_into().expect("an ASCII name"))).collect();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_491_200);
    params.not_before = start.into();
    params.not_after = (start + Duration::from_secs(1_000)).into();
    params.serial_number = Some(vec![0, 0x0a, 0xbc].into());
    params.self_signed(key).expect("a certificate").der().to_vec()
}

fn p256() -> KeyPair {
    KeyPair::generate().expect("a key")
}

#[test]
fn a_peer_is_read_back_as_it_was_written_and_as_no_other_kind() {
    let peers = [
        Peer::Host("web-1".parse().expect("id")),
        Peer::Host("coordinator".parse().expect("id")),
        Peer::Operator("web-1".parse().expect("name")),
        Peer::Operator("ann@example.com".parse().expect("name")),
        Peer::Coordinator,
    ];
    let key = p256();
    for peer in &peers {
        let uri = peer.to_string();
        assert_eq!(uri.parse().as_ref(), Ok(peer));
        assert_eq!(&PeerCertificate::from_der(&certificate(&[&uri], &key)).expect(&uri).peer, peer);
        assert_eq!(peers.iter().filter(|other| other.to_string() == uri).count(), 1, "{uri} is two peers");
    }
}

#[test]
fn only_the_exact_form_names_a_peer() {
    for bad in [
        "",
        "houston://",
        "houston://host",
        "houston://host/",
        "houston://host/../operator/ann",
        "houston://host/a/b",
        "houston://host/a?b",
        "houston://host/A",
        "houston://coordinator/",
        "houston://coordinator/x",
        "houston://HOST/a",
        "HOUSTON://host/a",
        "houston:host/a",
        "spiffe://host/a",
        "houston://host/%61",
    ] {
        bad.parse::<Peer>().expect_err(bad);
    }
}

#[test]
fn a_certificate_names_exactly_one_peer() {
    let key = p256();
    let read = |names: &[&str]| PeerCertificate::from_der(&certificate(names, &key));
    assert!(read(&["spiffe://other/x", "houston://host/a"]).is_ok(), "foreign URIs do not matter");
    for bad in [
        &[][..],
        &["spiffe://other/x"],
        &["houston://host/a", "houston://host/a"],
        &["houston://host/a", "houston://operator/a"],
        &["houston://host/a", "HOUSTON://operator/a"],
        &["houston://host/a", "houston:whatever"],
    ] {
        read(bad).expect_err(&format!("{bad:?}"));
    }
}

#[test]
fn a_certificate_tells_serial_key_and_validity() {
    let key = p256();
    let der = certificate(&["houston://host/a"], &key);
    let read = PeerCertificate::from_der(&der).expect("a peer");
    assert_eq!(read.serial.as_str(), "abc");
    assert_eq!(read.serial.as_str().parse().as_ref(), Ok(&read.serial));
    assert_eq!(
        read.public_key.fingerprint().0,
        Digest::of(&rcgen::PublicKeyData::subject_public_key_info(&key))
    );
    let start = WallTime(1_793_491_200_000);
    let end = WallTime(start.0 + 1_000_000);
    assert_eq!(
        (read.not_before, read.not_after, read.half_life()),
        (start, end, WallTime(start.0 + 500_000))
    );
    assert!(read.covers(start) && read.covers(end));
    assert!(!read.covers(WallTime(start.0 - 1)) && !read.covers(WallTime(end.0 + 1)));
    assert_eq!(Utc(start).to_string(), "2026-11-01 00:00:00 UTC");
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let der = certificate(&["houston://host/a"], &p256());
    for cut in 0..der.len() {
        assert!(PeerCertificate::from_der(&der[..cut]).is_err());
        let mut flipped = der.clone();
        flipped[cut] ^= 0x55;
        let _ = PeerCertificate::from_der(&flipped);
    }
    let mut longer = der;
    longer.push(0);
    assert!(PeerCertificate::from_der(&longer).is_err());
}

#[test]
fn serial_numbers_have_one_text_form() {
    for bad in ["", "0a", "A", "x", &"1".repeat(SERIAL_DIGITS_MAX + 1)] {
        bad.parse::<Serial>().expect_err(bad);
    }
    assert!("1".repeat(SERIAL_DIGITS_MAX).parse::<Serial>().is_ok());
}

#[test]
fn a_signature_holds_for_its_key_and_its_bytes_only() {
    let (key, request) = new_key_and_csr().expect("a key");
    let other = new_key().expect("a key");
    let public = |key: &PrivateKey| {
        let pair = KeyPair::from_pem(key.expose_pem()).expect("a key");
        PublicKey::from_der(&rcgen::PublicKeyData::subject_public_key_info(&pair)).expect("a P-256 key")
    };
    let host = "web-1".parse().expect("id");
    let challenge = renewal_challenge(&host, &request, WallTime(5));
    let signature = sign(&key, &challenge).expect("a signature");
    assert!(public(&key).verifies(&challenge, &signature));
    assert!(!public(&other).verifies(&challenge, &signature));
    assert!(!public(&key).verifies(&challenge, &[]));
    for changed in [
        renewal_challenge(&"web-2".parse().expect("id"), &request, WallTime(5)),
        renewal_challenge(&host, &csr(&other).expect("a request"), WallTime(5)),
        renewal_challenge(&host, &request, WallTime(6)),
    ] {
        assert!(!public(&key).verifies(&changed, &signature));
    }
}

#[test]
fn each_accepted_kind_of_key_signs_and_is_kept_as_text() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let public =
            PublicKey::from_der(&rcgen::PublicKeyData::subject_public_key_info(&pair)).expect("accepted");
        let key = PrivateKey::from_pem(pair.serialize_pem()).expect("a key");
        assert!(public.verifies(b"bytes", &sign(&key, b"bytes").expect("a signature")), "{algorithm:?}");
        let text = toml::Value::try_from(&public).expect("text");
        assert_eq!(text.try_into::<PublicKey>().expect("read back"), public);
    }
    let rejected = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect("a key");
    assert_eq!(
        PublicKey::from_der(&rcgen::PublicKeyData::subject_public_key_info(&rejected)),
        Err(InvalidKey)
    );
}

#[test]
fn a_key_file_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key.pem");
    let key = new_key().expect("a key");
    std::fs::write(directory.path().join("key.pem.new"), "left by a crash").expect("written");
    key.write(&path).expect("written");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(PrivateKey::read(&path).expect("read").expose_pem(), key.expose_pem());

    let other = new_key().expect("a key");
    other.write(&path).expect("replaced");
    assert_eq!(PrivateKey::read(&path).expect("read").expose_pem(), other.expose_pem());
    assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 1, "nothing is left beside it");

    for (loose, accepted) in [(0o640, false), (0o604, false), (0o620, false), (0o400, true), (0o600, true)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(loose)).expect("changed");
        match PrivateKey::read(&path) {
            Ok(_) => assert!(accepted, "{loose:o}"),
            Err(refusal) => assert_eq!((refusal.code, accepted), (Code::KeyPermission, false), "{loose:o}"),
        }
    }
}

#[test]
fn an_unusable_key_file_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key.pem");
    let refused = |text: &str| {
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        PrivateKey::read(&path).expect_err("refused")
    };
    let missing = PrivateKey::read(&directory.path().join("none")).expect_err("refused");
    assert_eq!(missing.code, Code::Credential);
    assert!(missing.what.contains("No such file"), "{missing}");
    let sealed = refused("-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----\n");
    assert!(sealed.code == Code::Credential && sealed.what.contains("passphrase"), "{sealed}");
    assert_eq!(refused("no key").code, Code::Credential);
    assert_eq!(refused(&"x".repeat(70_000)).code, Code::Credential);
    let folder = PrivateKey::read(directory.path()).expect_err("refused");
    assert!(folder.code == Code::Credential && folder.what.contains("not a plain file"), "{folder}");
}

#[test]
fn a_private_key_never_shows_itself() {
    let key = new_key().expect("a key");
    let shown = format!("{key:?} {:?}", Some(&key));
    let body = key.expose_pem().lines().nth(1).expect("a PEM body");
    assert!(!shown.contains(&body[..16]), "{shown}");
}
