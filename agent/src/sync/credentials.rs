//! The host's certificate, renewed on the fly: the key stays, and what is connected goes on.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use houston_common::api::client::{AgentClient, EnrollClient};
use houston_common::clock::WallTime;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{EnrollmentProof, EnrollmentRequest, IssuedCertificate};
use houston_common::identity::request;
use houston_common::tls::{ClientSettings, ClockFloor, Trust};
use tokio::time::Instant;

use super::renewal::Life;
use crate::identity_dir::{self, HostRecord, Identity, IdentityDir};
use crate::link::Link;
use crate::random;

/// Two holds, as for a check-in that fails.
const EXPIRED_RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Credentials {
    directory: IdentityDir,
    identity: Identity,
    floor: ClockFloor,
    link: Arc<Link>,
    renewal: WallTime,
    /// No try before this.
    retry: Instant,
    /// The coordinator takes the certificate for expired, whatever the clock says here.
    is_refused: bool,
}

impl Credentials {
    pub fn load(directory: IdentityDir, floor: ClockFloor) -> Result<Self, Refusal> {
        let identity = directory.load()?;
        let link = Link::new(identity.record.coordinator.clone(), settings(&identity, &floor)?);
        let renewal = Life::from(identity.credential.certificate()).renewal(random::number());
        let link = Arc::new(link);
        Ok(Self { directory, identity, floor, link, renewal, retry: Instant::now(), is_refused: false })
    }

    pub fn record(&self) -> &HostRecord {
        &self.identity.record
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// When the certificate ends.
    pub fn expires(&self) -> WallTime {
        self.life().ends
    }

    /// How long until it is to be renewed, or a failed try repeated.
    pub fn renewal_in(&self) -> Duration {
        let until = Duration::from_millis(self.renewal.0.saturating_sub(self.floor.now().0));
        until.max(self.retry.saturating_duration_since(Instant::now()))
    }

    pub fn renew_now(&mut self) {
        self.renewal = WallTime(0);
    }

    pub fn refused_as_expired(&mut self) {
        self.is_refused = true;
        self.renew_now();
    }

    /// Renews the certificate if it is time; whether there is a new one, which holds for connections
    /// that are made from now on. A failure is told in the log and tried again later.
    pub async fn renew_if_due(&mut self, client: &AgentClient) -> bool {
        if !self.renewal_in().is_zero() {
            return false;
        }
        let is_over = self.is_refused || self.life().is_over(self.floor.now());
        let renewed = if is_over { self.renew_expired().await } else { self.renew(client).await };
        let random = random::number();
        match renewed {
            Ok(()) => {
                // Issuers date certificates back, for clocks that are behind: a new one begins now.
                let life = Life { begins: self.floor.now(), ends: self.expires() };
                self.renewal = life.renewal(random);
                self.retry = Instant::now() + life.retry(random);
                tracing::info!(is_over, "the host's certificate is renewed");
                true
            }
            Err(refusal) => {
                // Without a certificate there is no check-in either: as seldom as those, no more seldom.
                let wait =
                    self.life().retry(random).min(if is_over { EXPIRED_RETRY_MAX } else { Duration::MAX });
                self.retry = Instant::now() + wait;
                tracing::warn!("the host's certificate is not renewed: {refusal}");
                false
            }
        }
    }

    async fn renew(&mut self, client: &AgentClient) -> Result<(), Refusal> {
        let issued = client.renew(request::csr(&self.identity.key)?).await?;
        self.adopt(issued)
    }

    /// By the enrollment listener, which asks for no certificate: the enrolled key signs instead.
    async fn renew_expired(&mut self) -> Result<(), Refusal> {
        let Identity { record, key, authority_pem, .. } = &self.identity;
        let csr = request::csr(key)?;
        let signed_at = self.floor.now();
        let challenge = request::renewal_challenge(&record.host, &csr, signed_at);
        let proof = EnrollmentProof::ExpiredCertificate {
            certificate: first_certificate(&self.identity.certificate_pem)?,
            signature: request::sign(key, &challenge)?,
            signed_at,
        };
        let settings = ClientSettings::new(Trust::Authorities(authority_pem), None, &self.floor)?;
        let channel = settings.connect(&record.enrollment).await?;
        let enrolled = EnrollClient::new(channel).enroll(&EnrollmentRequest { csr, proof }).await?;
        let record = HostRecord::new(&enrolled, record.enrollment.clone());
        if record.host != self.identity.record.host {
            let what = format!("the coordinator renewed {} as {}", self.identity.record.host, record.host);
            return Err(Refusal::new(Code::NotYours, what, "enroll the host again with --force"));
        }
        self.directory.save_record(&record)?;
        self.identity.record = record;
        self.adopt(enrolled.certificate)
    }

    fn adopt(&mut self, issued: IssuedCertificate) -> Result<(), Refusal> {
        let Identity { record, key, .. } = &self.identity;
        let credential = identity_dir::credential(&issued.certificate_pem, key, &record.host)?;
        self.directory.save_certificate(&issued)?;
        self.identity.credential = credential;
        self.identity.certificate_pem = issued.certificate_pem;
        self.identity.authority_pem = issued.authority_pem;
        self.is_refused = false;
        self.link.replace(self.identity.record.coordinator.clone(), settings(&self.identity, &self.floor)?);
        Ok(())
    }

    fn life(&self) -> Life {
        Life::from(self.identity.credential.certificate())
    }
}

fn settings(identity: &Identity, floor: &ClockFloor) -> Result<ClientSettings, Refusal> {
    ClientSettings::new(Trust::Authorities(&identity.authority_pem), Some(&identity.credential), floor)
}

/// The first certificate of a PEM text that has been read as one before, as DER.
fn first_certificate(pem: &str) -> Result<Vec<u8>, Refusal> {
    let body =
        pem.split_once("-----BEGIN CERTIFICATE-----").and_then(|(_, rest)| rest.split_once("-----END"));
    let text: String = body.map_or("", |(body, _)| body).split_ascii_whitespace().collect();
    BASE64.decode(text.as_bytes()).ok().filter(|der| !der.is_empty()).ok_or_else(|| {
        Refusal::new(Code::Credential, "the host's certificate is not usable", "enroll it again with --force")
    })
}
