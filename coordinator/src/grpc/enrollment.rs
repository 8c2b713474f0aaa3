//! How machines become hosts, and hosts that were away too long come back. The only call that
//! strangers reach: limited in rate, and a token's refusal tells them nothing.

use std::time::{Duration, SystemTime};

use houston_common::api::convert::Wire as _;
use houston_common::api::{status, wire};
use houston_common::clock::{WallTime, millis};
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{Enrolled, EnrollmentProof, EnrollmentRequest};
use houston_common::id::HostId;
use houston_common::identity::request::renewal_challenge;
use houston_common::identity::{Peer, PeerCertificate, PublicKey, Utc};
use tonic::{Request, Response, Status};

use super::rate::Rate;
use super::{Shared, refused};
use crate::ca::{Ca, Issued};
use crate::join_token;
use crate::service::hosts::enrollment::{self, Enrollment, Joined};

/// Enrollments that may come at once, and how often one more: a zone of machines that boots together
/// is through within seconds, and who guesses gets nowhere in the life of a token.
const ENROLLMENTS_BURST: u32 = 50;
const ENROLLMENT_EVERY: Duration = Duration::from_millis(50);

/// Refusals that the audit log takes: it is kept for ever, and strangers must not fill the disk with
/// it. Beyond them there is the ordinary log.
const AUDITED_REFUSALS_BURST: u32 = 20;
const AUDITED_REFUSAL_EVERY: Duration = Duration::from_secs(60);

/// How far a renewal's signing may lie from now, either way: the two clocks and the network.
const SIGNED_WITHIN: Duration = Duration::from_secs(10 * 60);

/// Random characters that make a name an id.
const SUFFIX_CHARS: usize = 6;

/// The enrollment service.
#[derive(Debug)]
pub struct EnrollmentService {
    shared: Shared,
    rate: Rate,
    audited: std::sync::Arc<Rate>,
}

#[tonic::async_trait]
impl wire::enrollment_server::Enrollment for EnrollmentService {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::EnrollResponse>, Status> {
        if !self.rate.take() {
            let what = "more machines enroll than are let in at once";
            return Err(refused(&Refusal::new(Code::Busy, what, "come back later")));
        }
        let request = EnrollmentRequest::from_wire(request.into_inner()).map_err(status::invalid_field)?;
        let enrolled = self.enroll(request).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(enrolled.to_wire()))
    }
}

impl EnrollmentService {
    pub fn new(shared: Shared) -> Self {
        let audited = Rate::new(AUDITED_REFUSALS_BURST, AUDITED_REFUSAL_EVERY).into();
        Self { shared, rate: Rate::new(ENROLLMENTS_BURST, ENROLLMENT_EVERY), audited }
    }

    async fn enroll(&self, request: EnrollmentRequest) -> Result<Enrolled, Refusal> {
        let EnrollmentRequest { csr, proof } = request;
        let key = Ca::requested_key(&csr)?;
        let now = SystemTime::now();
        let expires = WallTime(
            WallTime::from_system(now).0.saturating_add(millis(self.shared.host_certificate_lifetime)),
        );
        let joined = match proof {
            EnrollmentProof::JoinToken { secret, suggested_host } => {
                self.join(&secret, suggested_host, &key, expires).await?
            }
            EnrollmentProof::ExpiredCertificate { certificate, signature, signed_at } => {
                let host = self.prove_host(&certificate, &key, &csr, &signature, signed_at).await?;
                let fingerprint = key.fingerprint().0;
                let wall = WallTime::from_system(now);
                let renew = move |state: &_, _| enrollment::renew(state, &host, &fingerprint, expires, wall);
                self.shared.engine.command(renew).await?
            }
        };
        // Only now, when the use of the token is durable: a certificate without a record of it would
        // open the door a second time.
        let Joined { host, zone } = joined;
        let issued: Issued =
            self.shared.ca.issue_host(&csr, &host, self.shared.host_certificate_lifetime, now)?;
        tracing::info!(%host, %zone, serial = %issued.certificate.serial, "issued a host's certificate");
        let agent_address = self.shared.agent_address.clone();
        Ok(Enrolled { host, certificate: self.shared.with_authority(issued), zone, agent_address })
    }

    async fn join(
        &self,
        secret: &str,
        suggested: Option<HostId>,
        key: &PublicKey,
        certificate_expires: WallTime,
    ) -> Result<Joined, Refusal> {
        let (token, secret) = join_token::read(secret)?;
        let request = Enrollment {
            token,
            secret,
            suggested,
            suffix: suffix()?,
            key: key.fingerprint().0,
            key_der: key.as_der().to_vec(),
            certificate_expires,
        };
        let audited = self.audited.clone();
        let wall = WallTime::from_system(SystemTime::now());
        let decide = move |state: &_, now| {
            let mut decided = enrollment::enroll(state, &request, now, wall)?;
            if decided.reply.is_err()
                && let Some(note) = decided.note.take()
            {
                tracing::warn!(why = note.why, key = note.after, "refused a join token");
                decided.note = audited.take().then_some(note);
            }
            Ok(decided)
        };
        self.shared.engine.command(decide).await?
    }

    /// The host that has signed, with the key that it enrolled, for the key that it enrolled. Whatever
    /// is wrong, but for the clock of who has the key, reads the same.
    async fn prove_host(
        &self,
        certificate: &[u8],
        key: &PublicKey,
        csr: &[u8],
        signature: &[u8],
        signed_at: WallTime,
    ) -> Result<HostId, Refusal> {
        // It only says who claims to call: the signature is by the key that is kept here.
        let Ok(PeerCertificate { peer: Peer::Host(host), .. }) = PeerCertificate::from_der(certificate)
        else {
            return Err(not_proved("its certificate is no host's"));
        };
        let claimed = host.clone();
        let enrolled =
            self.shared.engine.read(move |state, _| enrollment::renewal_key(state, &claimed)).await?;
        let enrolled = enrolled.map_err(|_| not_proved("it is unknown or revoked"))?;
        if enrolled != key.as_der() {
            return Err(not_proved("its request is for another key than the one enrolled"));
        }
        if !key.verifies(&renewal_challenge(&host, csr, signed_at), signature) {
            return Err(not_proved("the signature is not by its key"));
        }
        let now = self.shared.clock.now();
        if now.0.abs_diff(signed_at.0) > millis(SIGNED_WITHIN) {
            let what = format!("{host} signed its renewal at {}; here it is {}", Utc(signed_at), Utc(now));
            return Err(Refusal::new(Code::CertificateExpired, what, "set the host's clock"));
        }
        Ok(host)
    }
}

/// The exact reason is for the log alone.
fn not_proved(why: &str) -> Refusal {
    tracing::warn!(why, "refused to renew an expired certificate");
    let what = "the expired certificate was not accepted";
    Refusal::new(Code::Token, what, "enroll the host again with a join token")
}

/// Without vowels and look-alikes: it is read aloud, and makes no words.
const SUFFIX_ALPHABET: &[u8; 16] = b"bcdfghjkmnpqrstv";

fn suffix() -> Result<String, Refusal> {
    let random = join_token::random::<SUFFIX_CHARS>()?;
    Ok(random.iter().map(|byte| char::from(SUFFIX_ALPHABET[usize::from(byte % 16)])).collect())
}
