//! A real coordinator in this process: its own directory, a real store, real mutual TLS on loopback.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use houston_common::api::client::{AgentClient, EnrollClient, OperatorClient};
use houston_common::command::{AddOperator, CreateToken};
use houston_common::error::Refusal;
use houston_common::exchange::{CheckIn, Enrolled, EnrollmentProof, EnrollmentRequest};
use houston_common::id::{HostId, Platform};
use houston_common::identity::request::{csr, new_key, new_key_and_csr};
use houston_common::identity::{PrivateKey, certificate_fingerprint};
use houston_common::report::{EnvironmentReport, Facts, PROTOCOL, Position, Report};
use houston_common::tls::{Address, ClientSettings, ClockFloor, Credential, Trust};
use houston_common::view::{Role, RoleBinding};
use houston_coordinator::config::{Config, FILE_NAME};
use houston_coordinator::files::Reserve;
use houston_coordinator::init::{Init, init};
use houston_coordinator::run::{Addresses, Coordinator};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Longest that anything here may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A coordinator that serves until it is stopped or dropped with its runtime.
#[derive(Debug)]
pub struct Running {
    pub directory: TempDir,
    pub config: Config,
    addresses: Addresses,
    /// The authority's certificate.
    pub ca: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Refusal>>,
}

impl Running {
    /// A new coordinator, whose first operator is `ada`, with what `tune` makes of the defaults.
    pub async fn start(tune: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let free = "127.0.0.1:0".parse().expect("an address");
        let wanted = Init {
            directory: directory.path().to_owned(),
            names: ["localhost", "127.0.0.1"].map(|name| name.parse().expect(name)).into(),
            operator: "ada".parse().expect("a name"),
            agent_listen: free,
            enrollment_listen: free,
        };
        init(&wanted, SystemTime::now()).expect("a new coordinator");
        let mut config = Config::read(&directory.path().join(FILE_NAME)).expect("what init wrote");
        config.agent_address = None;
        config.reserve = Reserve::Bytes(0);
        tune(&mut config);
        Self::open(directory, config).await
    }

    /// Over a directory in which one has been before.
    pub async fn open(directory: TempDir, config: Config) -> Self {
        let coordinator = Coordinator::open(&config).await.expect("it opens");
        let addresses = coordinator.addresses();
        let ca = std::fs::read_to_string(directory.path().join("ca.pem")).expect("the authority");
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(coordinator.serve(async {
            let _ = stopped.await;
        }));
        Self { directory, config, addresses, ca, stop, serving }
    }

    /// Stops it in order, and gives back what a restart needs.
    pub async fn stop(self) -> (TempDir, Config) {
        let _ = self.stop.send(());
        let stopped = tokio::time::timeout(PATIENCE, self.serving).await.expect("it stops in time");
        stopped.expect("it does not panic").expect("it stops well");
        (self.directory, self.config)
    }

    pub fn agents(&self) -> Address {
        self.addresses.agents.into()
    }

    pub fn enrollment(&self) -> Address {
        self.addresses.enrollment.into()
    }

    /// A connection to the hosts' and operators' listener.
    pub async fn connect(&self, credential: Option<&Credential>) -> Result<Channel, Refusal> {
        let settings = ClientSettings::new(Trust::Authorities(&self.ca), credential, &ClockFloor::new());
        settings.expect("settings").connect(&self.agents()).await
    }

    /// The first operator's credential, from where init left it.
    pub fn ada(&self) -> Credential {
        read_credential(&self.directory.path().join("operators/ada"))
    }

    pub async fn admin(&self) -> OperatorClient {
        OperatorClient::new(self.connect(Some(&self.ada())).await.expect("ada connects"))
    }

    /// Enters an operator with one role, everywhere or in one environment.
    pub async fn operator(&self, name: &str, role: Role, environment: Option<&str>) -> Credential {
        let (key, csr) = new_key_and_csr().expect("a key");
        let environment = environment.map(|name| name.parse().expect("a name"));
        let request = AddOperator {
            name: name.parse().expect("a name"),
            roles: vec![RoleBinding { role, environment }],
            csr,
            reason: String::new(),
        };
        let issued = self.admin().await.add_operator(&request).await.expect("an operator");
        Credential::from_pem(&issued.certificate_pem, &key).expect("a credential")
    }

    /// A join token for zone `a`.
    pub async fn token(&self, uses: u32) -> String {
        let request = CreateToken {
            zone: "a".parse().expect("a zone"),
            labels: BTreeMap::from([("role".parse().expect("a key"), "web".parse().expect("a value"))]),
            uses,
            valid_for: Duration::from_secs(3600),
            ephemeral: false,
            reason: "test".to_owned(),
        };
        self.admin().await.create_token(&request).await.expect("a token").secret
    }

    /// A client of the enrollment listener that trusts nothing but the authority's fingerprint.
    pub async fn stranger(&self) -> EnrollClient {
        EnrollClient::new(self.stranger_channel().await)
    }

    pub async fn stranger_channel(&self) -> Channel {
        let pin = certificate_fingerprint(&self.ca).expect("a fingerprint");
        let settings =
            ClientSettings::new(Trust::Fingerprint(pin), None, &ClockFloor::new()).expect("settings");
        settings.connect(&self.enrollment()).await.expect("a stranger connects")
    }

    /// A new host by a token of its own.
    pub async fn host(&self, name: &str) -> Host {
        let token = self.token(1).await;
        let key = new_key().expect("a key");
        let request = join(&key, &token, Some(name));
        let enrolled = self.stranger().await.enroll(&request).await.expect("it enrolls");
        Host::new(enrolled, key)
    }
}

/// A credential as init and `houston operator add` leave it.
pub fn read_credential(directory: &Path) -> Credential {
    let key = PrivateKey::read(&directory.join("key.pem")).expect("a key");
    let chain = std::fs::read_to_string(directory.join("certificate.pem")).expect("a certificate");
    Credential::from_pem(&chain, &key).expect("they fit")
}

/// A request to enroll by a token.
pub fn join(key: &PrivateKey, token: &str, name: Option<&str>) -> EnrollmentRequest {
    let suggested_host = name.map(|name| name.parse().expect("a name"));
    let proof = EnrollmentProof::JoinToken { secret: token.to_owned(), suggested_host };
    EnrollmentRequest { csr: csr(key).expect("a request"), proof }
}

/// A host, as far as it is seen from outside: an identity, and a counter of its reports.
#[derive(Debug)]
pub struct Host {
    pub id: HostId,
    pub key: PrivateKey,
    pub credential: Credential,
    pub enrolled: Enrolled,
    sequence: u64,
}

impl Host {
    pub fn new(enrolled: Enrolled, key: PrivateKey) -> Self {
        let credential =
            Credential::from_pem(&enrolled.certificate.certificate_pem, &key).expect("a credential");
        Self { id: enrolled.host.clone(), key, credential, enrolled, sequence: 0 }
    }

    pub async fn client(&self, coordinator: &Running) -> AgentClient {
        AgentClient::new(coordinator.connect(Some(&self.credential)).await.expect("the host connects"))
    }

    /// Its next report, of these environments.
    pub fn report(&mut self, may_hold: bool, environments: Vec<EnvironmentReport>) -> CheckIn {
        self.sequence += 1;
        let report = Report {
            protocol: PROTOCOL,
            features: Vec::new(),
            position: Position { start: 1, nonce: 7, sequence: self.sequence },
            agent_version: "0.1.0".to_owned(),
            platforms: vec![Platform::any()],
            facts: Facts::default(),
            environments,
            certificate_expires_ms: self.credential.certificate().not_after.0,
        };
        CheckIn { report, may_hold }
    }
}

/// Asks until the answer is there, or [`PATIENCE`] ends.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never happened: {what}"))
}
