//! How a machine becomes a host: it makes a key, and a join token gets the key a certificate.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use houston_common::api::client::EnrollClient;
use houston_common::api::status::CallError;
use houston_common::clock::millis;
use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};
use houston_common::exchange::{Enrolled, EnrollmentProof, EnrollmentRequest};
use houston_common::id::{EnvironmentName, HostId};
use houston_common::identity::{certificate_fingerprint, request};
use houston_common::tls::{Address, ClientSettings, ClockFloor, Trust};

use crate::apply::journal::{self, RecordFiles};
use crate::config::shown;
use crate::host::Record;
use crate::host::dir::{Dir, refused};
use crate::host::release_dir::StateDir;
use crate::identity_dir::{self, HostRecord, IdentityDir};
use crate::lock::Lock;
use crate::random;
use crate::start::Start;

#[cfg(test)]
mod tests;

/// How long a coordinator may be too busy: whoever runs `enroll` waits for it.
const BUSY_TIME_MAX: Duration = Duration::from_secs(60);

/// What begins a token; the number is its format.
const TOKEN_PREFIX: &str = "houston-join-1";

/// A join token, as `houston token create` shows it: `houston-join-1.<CA's SHA-256>.<id>.<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: String,
    /// Of the authority's certificate: whom to believe before anything else is known.
    pub authority: Digest,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl std::str::FromStr for JoinToken {
    type Err = Refusal;

    /// Nothing of the text is quoted: it is a secret.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let invalid = |why: &str| {
            let next = "copy it whole from `houston token create`";
            Refusal::new(Code::Token, format!("the join token is not readable: {why}"), next)
        };
        let text = text.trim();
        let [prefix, authority, id, secret] = *text.split('.').collect::<Vec<_>>().as_slice() else {
            return Err(invalid("it has not four parts"));
        };
        if prefix != TOKEN_PREFIX {
            return Err(invalid("it is of another kind or format"));
        }
        let authority = authority.parse().map_err(|_| invalid("its second part is no SHA-256"))?;
        if id.is_empty() || secret.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("it is cut off or has other characters in it"));
        }
        Ok(Self { text: text.to_owned(), authority })
    }
}

/// What `enroll` is asked for.
#[derive(Debug)]
pub struct Request {
    /// The enrollment listener.
    pub coordinator: Address,
    pub token: JoinToken,
    pub suggested_host: Option<HostId>,
    /// Whether an enrolled host may become another one.
    pub force: bool,
}

/// Enrolls this machine in a directory, which is made if it is missing. Refused with E-STATE-ENROLLED
/// if it has enrolled before and this is not forced; with E-LOCKED while an agent runs there.
pub async fn enroll(directory: &Path, asked: Request) -> Result<HostRecord, Refusal> {
    make_directory(directory)?;
    let _lock = Lock::take(directory)?;
    let identity = IdentityDir::open(directory)?;
    // A record that cannot be read is one that --force may replace.
    if !asked.force
        && let Some(record) = identity.record()?
    {
        let what = format!("{} holds the host {} already", shown(directory), record.host);
        return Err(Refusal::new(
            Code::StateEnrolled,
            what,
            "use another directory, or --force to replace the host",
        ));
    }
    let forgotten = earlier_records(directory)?;
    let (key, csr) = request::new_key_and_csr()?;
    let enrolled = ask(&asked, csr).await?;
    if certificate_fingerprint(&enrolled.certificate.authority_pem).ok() != Some(asked.token.authority) {
        let what = "the coordinator handed out another authority than the one that the join token names";
        return Err(Refusal::new(Code::CertificateAuthority, what, "make a new token"));
    }
    identity_dir::credential(&enrolled.certificate.certificate_pem, &key, &enrolled.host)?;
    let state = Dir::open(directory).map_err(|e| refused("opening the state directory", &e))?;
    // What the old host was told is nothing to the new one: it may belong to another store.
    for (files, record) in forgotten {
        files.set_aside(record)?;
    }
    Start::forget(&state)?;
    let record = HostRecord::new(&enrolled, asked.coordinator);
    identity.save(&key, &enrolled.certificate, &record)?;
    Ok(record)
}

/// Asks until there is an answer, or the coordinator has been too busy for too long.
async fn ask(asked: &Request, csr: Vec<u8>) -> Result<Enrolled, Refusal> {
    let settings = ClientSettings::new(Trust::Fingerprint(asked.token.authority), None, &ClockFloor::new())?;
    let proof = EnrollmentProof::JoinToken {
        secret: asked.token.text.clone(),
        suggested_host: asked.suggested_host.clone(),
    };
    let request = EnrollmentRequest { csr, proof };
    let started = Instant::now();
    loop {
        // A connection of its own each time: the coordinator keeps none of a stranger's for long.
        let channel =
            settings.connect(&asked.coordinator).await.map_err(|refusal| wrong_door(asked, refusal))?;
        let error = match EnrollClient::new(channel).enroll(&request).await {
            Ok(enrolled) => return Ok(enrolled),
            Err(error) => error,
        };
        let Some(pause) = pause(&error, started.elapsed(), random::number()) else {
            return Err(error.into());
        };
        tracing::info!(pause_ms = millis(pause), "the coordinator is busy: asking again");
        tokio::time::sleep(pause).await;
    }
}

/// Only the other listener demands what nobody has who enrolls.
fn wrong_door(asked: &Request, refusal: Refusal) -> Refusal {
    if refusal.code != Code::Unauthenticated {
        return refusal;
    }
    let what = format!("{} is the listener for hosts and operators", asked.coordinator);
    Refusal::new(refusal.code, what, "enroll at the enrollment listener, port 7401 by default")
}

/// How long to wait before asking again: what the coordinator says, and as much again at random.
/// Absent where it does not ask to come back, or has for too long.
fn pause(error: &CallError, spent: Duration, random: u64) -> Option<Duration> {
    let said = error.retry_after.filter(|_| error.refusal.code == Code::Busy)?;
    let pause = said + Duration::from_millis(random % (millis(said) + 1));
    (spent + pause <= BUSY_TIME_MAX).then_some(pause)
}

fn make_directory(directory: &Path) -> Result<(), Refusal> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
    made.map_err(|e: io::Error| {
        let what = format!("the state directory {} cannot be made: {e}", shown(directory));
        Refusal::new(Code::State, what, "name a directory that the agent may write to")
    })
}

/// What an earlier host of this directory was told, environment by environment. Refused while one of them
/// is in the middle of an activation: only its journal knows what is left to stop.
fn earlier_records(directory: &Path) -> Result<Vec<(RecordFiles, Record)>, Refusal> {
    let mut found = Vec::new();
    let state = StateDir::open(directory)?;
    for name in state.environments()? {
        for record in Record::ALL {
            let files = RecordFiles::open(state.environment(&name)?.path())?;
            let Some(bytes) = files.read(record)? else { continue };
            if record == Record::Journal
                && journal::read_state(&bytes).is_ok_and(|state| state.is_activating())
            {
                return Err(activating(&name));
            }
            found.push((files, record));
        }
    }
    Ok(found)
}

fn activating(name: &EnvironmentName) -> Refusal {
    let what = format!("the environment \"{name}\" is in the middle of an activation here");
    Refusal::new(Code::State, what, "run the agent until it has ended")
}
