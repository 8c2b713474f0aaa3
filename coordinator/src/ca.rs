//! The certificate authority: the only place that issues certificates, and that decides what they say.
//! From a request it takes the public key and nothing else.

use std::fmt;
use std::time::{Duration, SystemTime};

use houston_common::clock::WallTime;
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::id::{HostId, OperatorName, quoted};
use houston_common::identity::request::new_key;
use houston_common::identity::{Peer, PeerCertificate, PrivateKey, PublicKey, Utc, certificate_fingerprint};
use houston_common::tls::ServerName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use x509_parser::pem::parse_x509_pem;

mod csr;

#[cfg(test)]
mod tests;

/// How long an authority lives that we make. It outlives every machine that trusts it; replacing it
/// means enrolling the fleet again.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Certificates start to be valid this much before they are issued, for holders whose clocks are behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// A certificate that was just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, then the authority's: a client that knows only the authority's fingerprint
    /// finds the authority here.
    pub chain_pem: String,
    pub certificate: PeerCertificate,
}

/// Signs certificates. Its `Debug` form shows no key.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    fingerprint: Digest,
    not_after: SystemTime,
}

impl Ca {
    /// Makes a new authority, valid for ten years from `now`. Returns the key too: to be kept in a
    /// file of the coordinator's and nowhere else.
    pub fn create(now: SystemTime) -> Result<(Self, PrivateKey), Refusal> {
        let key = new_key()?;
        let pair = key_pair(&key)?;
        let mut params = CertificateParams::default();
        // Two authorities with one name would show as bad signatures instead of unknown issuers.
        params.distinguished_name =
            common_name(&format!("Houston {}", data_encoding::HEXLOWER.encode(&random::<4>()?)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial()?);
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + AUTHORITY_LIFETIME).into();
        let certificate = params.self_signed(&pair).map_err(|error| internal(&error))?;
        Ok((Self::load(&certificate.pem(), &key, now)?, key))
    }

    /// Takes an authority that exists, ours or one that was given. E-CREDENTIAL unless the first
    /// certificate in `pem` may sign others and is for this key; E-CERT-EXPIRED if it is not valid at `now`.
    pub fn load(pem: &str, key: &PrivateKey, now: SystemTime) -> Result<Self, Refusal> {
        let unusable = |reason: &dyn fmt::Display| {
            let what = format!("the authority's certificate is not usable: {}", quoted(&reason.to_string()));
            Refusal::new(Code::Credential, what, "")
        };
        let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| unusable(&"there is no PEM block"))?;
        let certificate = block.parse_x509().map_err(|error| unusable(&error))?;
        let signs = match certificate.key_usage() {
            Ok(Some(usage)) => usage.value.key_cert_sign(),
            Ok(None) => true,
            Err(error) => return Err(unusable(&error)),
        };
        if !certificate.is_ca() || !signs {
            return Err(unusable(&"it may not sign certificates"));
        }
        let pair = key_pair(key)?;
        if certificate.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(unusable(&"it is for another key than the one given"));
        }
        let validity = certificate.validity();
        let not_after = SystemTime::from(validity.not_after.to_datetime());
        if SystemTime::from(validity.not_before.to_datetime()) > now || not_after <= now {
            let what = format!("the authority's certificate ends {}", Utc(WallTime::from_system(not_after)));
            return Err(Refusal::new(
                Code::CertificateExpired,
                what,
                "set this clock, or give another authority",
            ));
        }
        let fingerprint = certificate_fingerprint(pem).map_err(|error| unusable(&error))?;
        // The first certificate alone: what else the text holds is not ours to vouch for.
        let pem = first_block(pem);
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(|error| unusable(&error))?;
        Ok(Self { issuer, pem, fingerprint, not_after })
    }

    /// The authority's certificate: what hosts and operators trust, and who listeners let in.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the authority's certificate: what join tokens carry.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The public key of a certificate request, DER or PEM, that is signed by it. E-CSR.
    pub fn requested_key(csr: &[u8]) -> Result<PublicKey, Refusal> {
        csr::public_key(csr)
    }

    /// A certificate for the coordinator, with a new key. `names` are what clients call it by.
    pub fn issue_coordinator(
        &self,
        names: &[ServerName],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(Issued, PrivateKey), Refusal> {
        if names.is_empty() {
            let what = "the coordinator's certificate needs at least one name";
            return Err(Refusal::new(
                Code::Address,
                what,
                "name what clients connect to: a DNS name or an IP address",
            ));
        }
        let key = new_key()?;
        let mut params = self.leaf(&Peer::Coordinator, ExtendedKeyUsagePurpose::ServerAuth, lifetime, now)?;
        for name in names {
            let text = name.to_string();
            params.subject_alt_names.push(match text.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(text.try_into().map_err(|error| internal(&error))?),
            });
        }
        let certificate =
            params.signed_by(&key_pair(&key)?, &self.issuer).map_err(|error| internal(&error))?;
        Ok((self.issued(&certificate)?, key))
    }

    /// A host's certificate for the key in its request, DER or PEM. E-CSR says what is wrong with the request.
    pub fn issue_host(
        &self,
        csr: &[u8],
        host: &HostId,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        self.issue_client(csr, &Peer::Host(host.clone()), lifetime, now)
    }

    /// An operator's certificate for the key in the request, DER or PEM.
    pub fn issue_operator(
        &self,
        csr: &[u8],
        operator: &OperatorName,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        self.issue_client(csr, &Peer::Operator(operator.clone()), lifetime, now)
    }

    fn issue_client(
        &self,
        csr: &[u8],
        peer: &Peer,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        let key = csr::public_key(csr)?;
        let key = SubjectPublicKeyInfo::from_der(key.as_der()).map_err(|error| internal(&error))?;
        let params = self.leaf(peer, ExtendedKeyUsagePurpose::ClientAuth, lifetime, now)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| internal(&error))?;
        self.issued(&certificate)
    }

    fn leaf(
        &self,
        peer: &Peer,
        usage: ExtendedKeyUsagePurpose,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateParams, Refusal> {
        let mut params = CertificateParams::default();
        // For people who look at the certificate; no program reads it.
        params.distinguished_name = common_name(match peer {
            Peer::Host(id) => id.as_str(),
            Peer::Operator(name) => name.as_str(),
            Peer::Coordinator => "coordinator",
        });
        let uri = peer.to_string().try_into().map_err(|error| internal(&error))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = (now - BACKDATE).into();
        // None outlives its authority: it would be refused from then on without a word why.
        params.not_after = (now + lifetime).min(self.not_after).into();
        Ok(params)
    }

    fn issued(&self, certificate: &rcgen::Certificate) -> Result<Issued, Refusal> {
        let chain_pem = format!("{}{}", certificate.pem(), self.pem);
        let certificate = PeerCertificate::from_der(certificate.der()).map_err(|error| internal(&error))?;
        Ok(Issued { chain_pem, certificate })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({})", self.fingerprint.short())
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn first_block(pem: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let start = pem.find("-----BEGIN").unwrap_or(0);
    let end = pem.find(END).map_or(pem.len(), |end| end + END.len());
    format!("{}\n", &pem[start.min(end)..end])
}

fn key_pair(key: &PrivateKey) -> Result<KeyPair, Refusal> {
    KeyPair::from_pem(key.expose_pem()).map_err(|error| {
        Refusal::new(Code::Credential, format!("the authority's key is not usable: {error}"), "")
    })
}

/// 128 random bits: nobody can guess a serial number, and none comes twice.
fn serial() -> Result<SerialNumber, Refusal> {
    Ok(SerialNumber::from_slice(&random::<16>()?))
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| internal(&error))?;
    Ok(bytes)
}

fn internal(error: &dyn fmt::Display) -> Refusal {
    Refusal::internal(format!("cannot issue a certificate: {}", quoted(&error.to_string())))
}
