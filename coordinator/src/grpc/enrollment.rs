//! How machines become hosts, and hosts that were away too long come back. The only call that
//! strangers reach: limited in rate, who holds something apart from who does not, and a token's refusal
//! tells them nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use houston_common::api::convert::Wire as _;
use houston_common::api::{status, wire};
use houston_common::clock::{WallTime, millis};
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{Enrolled, EnrollmentProof, EnrollmentRequest};
use houston_common::id::HostId;
use houston_common::identity::request::renewal_challenge;
use houston_common::identity::{Peer, PeerCertificate, PublicKey, Utc};
use houston_common::log_limit::LogLimit;
use houston_common::tls::{ConnectInfo, Source};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::rate::{Rate, Rates};
use super::{Shared, refused};
use crate::ca::{Ca, Issued};
use crate::join_token;
use crate::service::hosts::enrollment::{self, Enrollment, Joined};
use crate::state::State;

/// Enrollments by one token, or of one host, that may come at once, and how often one more: a zone of
/// machines that boots together is through within seconds.
const HOLDER_ENROLLMENTS: (u32, Duration) = (50, Duration::from_millis(50));
/// By all that hold something: a few such zones. Each is a durable commit.
const HOLDERS_ENROLLMENTS: (u32, Duration) = (200, Duration::from_millis(12));

/// The same for whoever holds nothing: one source, which may be a site whose token has expired, and all
/// of them. Who guesses gets nowhere in the life of a token, and keeps nobody else out.
const STRANGER_ENROLLMENTS: (u32, Duration) = (20, Duration::from_secs(1));
const STRANGERS_ENROLLMENTS: (u32, Duration) = (50, Duration::from_millis(50));

/// Sources, tokens and hosts whose calls are counted each for itself: some 100 KiB.
const COUNTED_MAX: usize = 1000;

/// Questions whether a proof is known that the writer hears at once from this listener: hosts and
/// operators wait for it too.
const LOOKS_MAX: usize = 8;

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
    looks: Semaphore,
    holders: Rates<Holder>,
    strangers: Rates<Source>,
    audited: Arc<Rate>,
}

/// Who has shown something that only they can have.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Holder {
    Token(String),
    Host(HostId),
}

/// What a proof comes to before anything is changed.
enum Claim {
    /// By a token. One that is not known is still to be refused, with an entry in the audit log.
    Token { token: String, secret: Digest, suggested: Option<HostId>, is_known: bool },
    /// By the key (DER) that the host has enrolled: the signature is right.
    Host { host: HostId, enrolled: Vec<u8>, signed_at: WallTime },
}

impl Claim {
    fn holder(&self) -> Option<Holder> {
        match self {
            Self::Token { token, is_known: true, .. } => Some(Holder::Token(token.clone())),
            Self::Token { is_known: false, .. } => None,
            Self::Host { host, .. } => Some(Holder::Host(host.clone())),
        }
    }
}

#[tonic::async_trait]
impl wire::enrollment_server::Enrollment for EnrollmentService {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::EnrollResponse>, Status> {
        let info = request.extensions().get::<ConnectInfo>();
        let source = info.map_or(Ipv4Addr::UNSPECIFIED.into(), |info| info.remote.ip());
        let request = EnrollmentRequest::from_wire(request.into_inner()).map_err(status::invalid_field)?;
        let enrolled = self.enroll(request, source.into()).await.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(enrolled.to_wire()))
    }
}

impl EnrollmentService {
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            looks: Semaphore::new(LOOKS_MAX),
            holders: Rates::new(HOLDER_ENROLLMENTS, HOLDERS_ENROLLMENTS, COUNTED_MAX),
            strangers: Rates::new(STRANGER_ENROLLMENTS, STRANGERS_ENROLLMENTS, COUNTED_MAX),
            audited: Rate::new(AUDITED_REFUSALS_BURST, AUDITED_REFUSAL_EVERY).into(),
        }
    }

    async fn enroll(&self, request: EnrollmentRequest, source: Source) -> Result<Enrolled, Refusal> {
        let EnrollmentRequest { csr, proof } = request;
        let claim = self.claim(&csr, proof).await;
        let is_let_in = match claim.as_ref().ok().and_then(Claim::holder) {
            Some(holder) => self.holders.take(holder),
            None => self.strangers.take(source),
        };
        if !is_let_in {
            let what = "more machines enroll than are let in at once";
            return Err(Refusal::new(Code::Busy, what, "come back later"));
        }
        let key = Ca::requested_key(&csr)?;
        let now = SystemTime::now();
        let wall = WallTime::from_system(now);
        let expires = wall.plus(self.shared.host_certificate_lifetime);
        let joined = match claim? {
            Claim::Token { token, secret, suggested, .. } => {
                self.join(token, secret, suggested, &key, expires).await?
            }
            Claim::Host { host, enrolled, signed_at } => {
                if enrolled != key.as_der() {
                    return Err(not_proved("its request is for another key than the one enrolled"));
                }
                signed_lately(&host, signed_at, self.shared.clock.now())?;
                let fingerprint = key.fingerprint().0;
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
        token: String,
        secret: Digest,
        suggested: Option<HostId>,
        key: &PublicKey,
        certificate_expires: WallTime,
    ) -> Result<Joined, Refusal> {
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

    /// What a proof claims, as far as it holds. Whatever is wrong with it reads the same.
    async fn claim(&self, csr: &[u8], proof: EnrollmentProof) -> Result<Claim, Refusal> {
        match proof {
            EnrollmentProof::JoinToken { secret, suggested_host: suggested } => {
                let (token, secret) = join_token::read(&secret)?;
                let shown = token.clone();
                let is_known = move |state: &State| {
                    state.access.tokens.get(&shown).is_some_and(|token| token.secret == secret)
                };
                let is_known = self.look(is_known).await?;
                Ok(Claim::Token { token, secret, suggested, is_known })
            }
            EnrollmentProof::ExpiredCertificate { certificate, signature, signed_at } => {
                // It only says who claims to call: the signature is by the key that is kept here.
                let Ok(PeerCertificate { peer: Peer::Host(host), .. }) =
                    PeerCertificate::from_der(&certificate)
                else {
                    return Err(not_proved("its certificate is no host's"));
                };
                let claimed = host.clone();
                let enrolled = self.look(move |state| enrollment::renewal_key(state, &claimed)).await?;
                let enrolled = enrolled.map_err(|_| not_proved("it is unknown or revoked"))?;
                let challenge = renewal_challenge(&host, csr, signed_at);
                if !PublicKey::from_der(&enrolled).is_ok_and(|key| key.verifies(&challenge, &signature)) {
                    return Err(not_proved("the signature is not by its key"));
                }
                Ok(Claim::Host { host, enrolled, signed_at })
            }
        }
    }

    /// A look at the state for somebody who may be anybody.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let _turn = self.looks.acquire().await.map_err(|_| Refusal::internal("nobody may look"))?;
        self.shared.engine.read(move |state, _| look(state)).await
    }
}

/// The clock of who has the key may be told to it.
fn signed_lately(host: &HostId, signed_at: WallTime, now: WallTime) -> Result<(), Refusal> {
    if now.0.abs_diff(signed_at.0) <= millis(SIGNED_WITHIN) {
        return Ok(());
    }
    let what = format!("{host} signed its renewal at {}; here it is {}", Utc(signed_at), Utc(now));
    Err(Refusal::new(Code::CertificateExpired, what, "set the host's clock"))
}

/// The exact reason is for the log alone.
fn not_proved(why: &str) -> Refusal {
    static REFUSED: LogLimit = LogLimit::new();
    if let Some(left_out) = REFUSED.admit() {
        tracing::warn!(why, left_out, "refused to renew an expired certificate");
    }
    let what = "the expired certificate was not accepted";
    Refusal::new(Code::Token, what, "enroll the host again with a join token")
}

/// Without vowels and look-alikes: it is read aloud, and makes no words.
const SUFFIX_ALPHABET: &[u8; 16] = b"bcdfghjkmnpqrstv";

fn suffix() -> Result<String, Refusal> {
    let random = join_token::random::<SUFFIX_CHARS>()?;
    Ok(random.iter().map(|byte| char::from(SUFFIX_ALPHABET[usize::from(byte % 16)])).collect())
}
