//! An operator's credential: its private key, its certificate, and the authority that it believes.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use houston_common::error::{Code, Refusal};
use houston_common::exchange::IssuedCertificate;
use houston_common::identity::{Peer, PrivateKey};
use houston_common::tls::{Address, ClientSettings, ClockFloor, Credential, Trust};

use crate::toml_file::{self, Kept, shown};

pub const KEY_FILE: &str = "key.pem";
pub const CERTIFICATE_FILE: &str = "certificate.pem";
pub const AUTHORITY_FILE: &str = "ca.pem";
/// Where the coordinator listens; may be absent. One line, HOST:PORT.
pub const ADDRESS_FILE: &str = "address";

/// As it lies on disk.
#[derive(Debug)]
pub struct CredentialFiles {
    pub key: PrivateKey,
    pub issued: IssuedCertificate,
}

impl CredentialFiles {
    /// Reads a directory, or one PEM file in which the last certificate is the authority's. E-KEY-PERM
    /// if others may read the key.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let metadata = fs::metadata(path).map_err(|error| {
            Refusal::new(Code::Credential, format!("cannot read the credential {}: {error}", shown(path)), "")
        })?;
        if metadata.is_dir() {
            let key = PrivateKey::read(&path.join(KEY_FILE))?;
            let text = |file| {
                toml_file::read(&path.join(file), Kept::Anywhere)
                    .map_err(|refusal| Refusal { code: Code::Credential, ..refusal })
            };
            let (certificate_pem, authority_pem) = (text(CERTIFICATE_FILE)?, text(AUTHORITY_FILE)?);
            return Ok(Self { key, issued: IssuedCertificate { certificate_pem, authority_pem } });
        }
        let whole = PrivateKey::read(path)?;
        let lacks = |what: &str| {
            let what = format!("{} lacks {what}", shown(path));
            Refusal::new(
                Code::Credential,
                what,
                "a PEM file holds key, certificate and authority, in this order",
            )
        };
        let blocks = pem_blocks(whole.expose_pem());
        let of = |kind: &'static str| {
            blocks.iter().filter(move |(label, _)| label.ends_with(kind)).map(|(_, block)| *block)
        };
        let key = PrivateKey::from_pem(of("PRIVATE KEY").next().ok_or_else(|| lacks("a key"))?.to_owned())?;
        let mut certificates: Vec<_> = of("CERTIFICATE").collect();
        let authority_pem = certificates.pop().ok_or_else(|| lacks("certificates"))?.to_owned();
        if certificates.is_empty() {
            return Err(lacks("either its own certificate or the authority's"));
        }
        Ok(Self { key, issued: IssuedCertificate { certificate_pem: certificates.concat(), authority_pem } })
    }

    /// The address that a credential's directory names, if it does.
    pub fn address(path: &Path) -> Result<Option<Address>, Refusal> {
        let path = path.join(ADDRESS_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = toml_file::read(&path, Kept::Anywhere)?;
        text.trim_end().parse().map(Some).map_err(|refusal: Refusal| Refusal {
            what: format!("{} in {}", refusal.what, shown(&path)),
            ..refusal
        })
    }

    /// Writes a directory that does not exist yet, for its owner only.
    pub fn write(&self, directory: &Path) -> Result<(), Refusal> {
        new_directory(directory)?;
        self.key.write(&directory.join(KEY_FILE))?;
        write_issued(directory, &self.issued)
    }

    /// What to prove and whom to believe. E-CREDENTIAL unless it is an operator's.
    pub fn usable(&self) -> Result<(Credential, ClientSettings), Refusal> {
        let credential = Credential::from_pem(&self.issued.certificate_pem, &self.key)?;
        if !matches!(credential.certificate().peer, Peer::Operator(_)) {
            let what = format!("the certificate is not an operator's but {}", credential.certificate().peer);
            return Err(Refusal::new(Code::Credential, what, "ask an admin for `houston operator add`"));
        }
        let trust = Trust::Authorities(&self.issued.authority_pem);
        let settings = ClientSettings::new(trust, Some(&credential), &ClockFloor::new())?;
        Ok((credential, settings))
    }
}

/// Makes a directory that must not exist yet.
pub fn new_directory(path: &Path) -> Result<(), Refusal> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| {
        let next = match error.kind() {
            ErrorKind::AlreadyExists => "choose another directory, or move this one away",
            _ => "",
        };
        Refusal::new(Code::Credential, format!("cannot make the directory {}: {error}", shown(path)), next)
    })
}

/// Writes what the coordinator has issued beside a key that is there already.
pub fn write_issued(directory: &Path, issued: &IssuedCertificate) -> Result<(), Refusal> {
    write_new(&directory.join(CERTIFICATE_FILE), &issued.certificate_pem)?;
    write_new(&directory.join(AUTHORITY_FILE), &issued.authority_pem)
}

/// Writes where the coordinator listens.
pub fn write_address(directory: &Path, address: &Address) -> Result<(), Refusal> {
    write_new(&directory.join(ADDRESS_FILE), &format!("{address}\n"))
}

fn write_new(path: &Path, text: &str) -> Result<(), Refusal> {
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| Refusal::new(Code::Io, format!("cannot write {}: {error}", shown(path)), ""))
}

/// The blocks of a PEM text with their labels, each with its final newline.
fn pem_blocks(text: &str) -> Vec<(&str, &str)> {
    const BEGIN: &str = "-----BEGIN ";
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let block = &rest[start..];
        let Some((label, _)) = block[BEGIN.len()..].split_once("-----") else { break };
        let end = format!("-----END {label}-----");
        let Some(at) = block.find(&end) else { break };
        let length = at + end.len();
        let length = length + block[length..].find('\n').map_or(0, |newline| newline + 1);
        blocks.push((label, &block[..length]));
        rest = &block[length..];
    }
    blocks
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use houston_common::identity::request::new_key;

    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_directory_is_written_and_read_back() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("alice");
        let issued =
            IssuedCertificate { certificate_pem: CERTIFICATE.into(), authority_pem: AUTHORITY.into() };
        let files = CredentialFiles { key: new_key().expect("key"), issued };
        files.write(&path).expect("written");
        let read = CredentialFiles::read(&path).expect("read");
        assert_eq!(read.issued, files.issued);
        assert_eq!(read.key.expose_pem(), files.key.expose_pem());
        assert_eq!(files.write(&path).expect_err("there already").code, Code::Credential);

        assert_eq!(CredentialFiles::address(&path), Ok(None));
        let address = "coordinator.example:7400".parse().expect("address");
        write_address(&path, &address).expect("written");
        assert_eq!(CredentialFiles::address(&path), Ok(Some(address)));
        fs::write(path.join(ADDRESS_FILE), "http://c:1\n").expect("written");
        assert_eq!(CredentialFiles::address(&path).expect_err("a scheme").code, Code::Address);

        fs::set_permissions(path.join(KEY_FILE), fs::Permissions::from_mode(0o640)).expect("changed");
        assert_eq!(CredentialFiles::read(&path).expect_err("open to others").code, Code::KeyPermission);
    }

    #[test]
    fn one_file_holds_key_certificate_and_authority() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("alice.pem");
        let key = new_key().expect("key");
        let write = |text: String| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        };
        write(format!("{}{CERTIFICATE}{AUTHORITY}", key.expose_pem()));
        let read = CredentialFiles::read(&path).expect("read");
        assert_eq!(
            (read.issued.certificate_pem.as_str(), read.issued.authority_pem.as_str()),
            (CERTIFICATE, AUTHORITY)
        );
        assert_eq!(read.key.expose_pem().trim(), key.expose_pem().trim());
        write(format!("{}{AUTHORITY}", key.expose_pem()));
        assert_eq!(CredentialFiles::read(&path).expect_err("no certificate").code, Code::Credential);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let refusal = CredentialFiles::read(Path::new("/nowhere/alice")).expect_err("missing");
        assert!(refusal.what.contains("/nowhere/alice"), "{refusal}");
        assert_eq!(refusal.code, Code::Credential);
    }
}
