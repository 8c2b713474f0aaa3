//! Makes a coordinator: its authority, its store with the first operator in it, and that operator's
//! credential. The store comes last, in one write: without it the directory is no coordinator's.
//!
//! ```text
//! coordinator.toml             what `run` reads
//! ca.pem  ca-key.pem           the authority: the key is readable by its owner alone
//! lock  sled/  files/          the store, and the contents of trees
//! operators/<name>/            a credential: key.pem, certificate.pem, ca.pem, address
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use houston_common::clock::{FleetTime, WallTime};
use houston_common::error::{Code, Refusal};
use houston_common::id::{Epoch, Generation, OperatorName, RolloutId, StoreId};
use houston_common::identity::request;
use houston_common::tls::ServerName;
use houston_common::view::{Role, RoleBinding};

use crate::access::Operator;
use crate::audit::Audit;
use crate::ca::Ca;
use crate::config::{Config, FILE_NAME, shown};
use crate::join_token::random;
use crate::records;
use crate::state::{Edit, Meta};
use crate::store::sled::SledStore;
use crate::store::{Change, Revision, Snapshot};

/// The authority's files in the coordinator's directory.
pub const CA_FILE: &str = "ca.pem";
pub const CA_KEY_FILE: &str = "ca-key.pem";

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Init {
    /// Made if need be; must be empty.
    pub directory: PathBuf,
    /// What clients will call the coordinator by. At least one.
    pub names: Vec<ServerName>,
    /// The first operator, with role admin.
    pub operator: OperatorName,
    pub agent_listen: SocketAddr,
    pub enrollment_listen: SocketAddr,
}

/// Makes it, and returns the directory of the first operator's credential. E-STATE if anything is in
/// the directory already: nothing is ever overwritten. After an error, delete what it has made.
pub fn init(init: &Init, now: SystemTime) -> Result<PathBuf, Refusal> {
    let Init { directory, names, operator, agent_listen, enrollment_listen } = init;
    let mut config = Config::new(directory.clone(), names.clone());
    config.agent_listen = *agent_listen;
    config.enrollment_listen = *enrollment_listen;
    config.check()?;
    make_empty(directory)?;

    let (ca, ca_key) = Ca::create(now)?;
    ca_key.write(&directory.join(CA_KEY_FILE))?;
    write_new(&directory.join(CA_FILE), ca.pem())?;
    write_new(&directory.join(FILE_NAME), &Config::to_text(names, *agent_listen, *enrollment_listen))?;

    let credential = directory.join("operators").join(operator.as_str());
    make_directory(&credential)?;
    let (key, csr) = request::new_key_and_csr()?;
    let issued = ca.issue_operator(&csr, operator, config.operator_certificate_lifetime, now)?;
    key.write(&credential.join("key.pem"))?;
    write_new(&credential.join("certificate.pem"), &issued.chain_pem)?;
    write_new(&credential.join("ca.pem"), ca.pem())?;
    write_new(&credential.join("address"), &format!("{}\n", address(&names[0], agent_listen.port())))?;

    let first = Operator {
        name: operator.clone(),
        roles: vec![RoleBinding { role: Role::Admin, environment: None }],
        key: issued.certificate.public_key.fingerprint().0,
        certificate_expires: issued.certificate.not_after,
        revoked: false,
    };
    SledStore::create(directory, &first_snapshot(first, WallTime::from_system(now))?)?;
    sync(directory)?;
    Ok(credential)
}

/// A name with a port, as clients write it.
pub(crate) fn address(name: &ServerName, port: u16) -> String {
    let name = name.to_string();
    if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
}

fn first_snapshot(operator: Operator, now: WallTime) -> Result<Snapshot, Refusal> {
    let meta = Meta {
        store: StoreId(random()?),
        mac_key: random()?,
        generation: Generation(0),
        rollout: RolloutId(0),
        audit: 1,
        checkpoint: FleetTime(0),
        regressed: false,
    };
    let audit = Audit {
        sequence: 1,
        at: now,
        who: "houston".to_owned(),
        what: format!("operator.add {}", operator.name),
        why: "the store was made".to_owned(),
        before: String::new(),
        after: "admin everywhere".to_owned(),
    };
    let edits = [Edit::Meta(meta), Edit::Operator(operator), Edit::Audit(audit)];
    let mut records: Vec<_> = edits
        .iter()
        .filter_map(|edit| match records::encode(edit) {
            Change::Put { key, value } => Some((key, value)),
            Change::Delete { .. } => None,
        })
        .collect();
    records.sort();
    Ok(Snapshot { epoch: Epoch(0), revision: Revision(0), records })
}

fn make_empty(directory: &Path) -> Result<(), Refusal> {
    make_directory(directory)?;
    let mut entries = fs::read_dir(directory).map_err(|error| failed("list", directory, &error))?;
    if entries.next().is_none() {
        return Ok(());
    }
    let what = format!("{} is not empty; nothing in it was changed", shown(directory));
    Err(Refusal::new(Code::State, what, "name an empty directory, or `run` the coordinator that is there"))
}

fn make_directory(path: &Path) -> Result<(), Refusal> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failed("make", path, &error))
}

fn write_new(path: &Path, text: &str) -> Result<(), Refusal> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    open.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })
    .map_err(|error| failed("write", path, &error))
}

/// Makes the names durable, down to the credential's.
fn sync(directory: &Path) -> Result<(), Refusal> {
    let operators = directory.join("operators");
    for path in [operators.as_path(), directory] {
        File::open(path).and_then(|file| file.sync_all()).map_err(|error| failed("sync", path, &error))?;
    }
    Ok(())
}

fn failed(action: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(Code::Io, format!("cannot {action} {}: {error}", shown(path)), "")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use houston_common::identity::{Peer, PrivateKey};
    use houston_common::tls::Credential;

    use super::*;
    use crate::engine::core::Core;

    fn an_init(directory: &Path) -> Init {
        Init {
            directory: directory.to_owned(),
            names: vec!["localhost".parse().expect("name")],
            operator: "ada".parse().expect("name"),
            agent_listen: "127.0.0.1:7400".parse().expect("address"),
            enrollment_listen: "127.0.0.1:7401".parse().expect("address"),
        }
    }

    #[test]
    fn a_new_coordinator_has_one_admin_whose_credential_works() {
        let parent = tempfile::tempdir().expect("directory");
        let directory = parent.path().join("coordinator");
        let credential = init(&an_init(&directory), SystemTime::now()).expect("made");

        let key = PrivateKey::read(&credential.join("key.pem")).expect("a private key");
        let chain = fs::read_to_string(credential.join("certificate.pem")).expect("a certificate");
        let credential_read = Credential::from_pem(&chain, &key).expect("they fit");
        let certificate = credential_read.certificate();
        assert_eq!(certificate.peer, Peer::Operator("ada".parse().expect("name")));
        assert_eq!(fs::read_to_string(credential.join("address")).expect("address"), "localhost:7400\n");

        let store = SledStore::open(&directory).expect("a store");
        let core = Core::open(Arc::new(store), crate::fleet::LOST_AFTER).expect("it loads");
        let ada = &core.state().access.operators["ada"];
        assert_eq!(ada.key, certificate.public_key.fingerprint().0);
        assert!(ada.may(Role::Admin, None));
        assert_eq!(core.state().audit.len(), 1);

        let ca_key = PrivateKey::read(&directory.join(CA_KEY_FILE)).expect("the authority's key");
        let pem = fs::read_to_string(directory.join(CA_FILE)).expect("the authority");
        Ca::load(&pem, &ca_key, SystemTime::now()).expect("they fit");
        let mode = fs::metadata(&directory).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "others must not enter: {mode:o}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().expect("directory");
        init(&an_init(directory.path()), SystemTime::now()).expect("made");
        let before = fs::read(directory.path().join(CA_KEY_FILE)).expect("key");
        let refusal = init(&an_init(directory.path()), SystemTime::now()).expect_err("it is there");
        assert_eq!(refusal.code, Code::State);
        assert_eq!(fs::read(directory.path().join(CA_KEY_FILE)).expect("key"), before);
    }

    #[test]
    fn no_two_stores_share_a_secret() {
        let metas = [(); 2].map(|()| {
            let directory = tempfile::tempdir().expect("directory");
            init(&an_init(directory.path()), SystemTime::now()).expect("made");
            let store = SledStore::open(directory.path()).expect("a store");
            Core::open(Arc::new(store), crate::fleet::LOST_AFTER).expect("it loads").state().meta.clone()
        });
        assert_ne!(metas[0].store, metas[1].store);
        assert_ne!(metas[0].mac_key, metas[1].mac_key);
    }
}
