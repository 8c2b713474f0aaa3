//! E25: every byte that can change what a host does travels by a decision. A host hears answers to its own
//! calls and nothing else, so the fields of those answers are all that there is; and of the operators' calls
//! only those named here lead to an order. A new field or call fails until somebody has said what it is.

use std::collections::{BTreeMap, BTreeSet};

use houston_common::api::FILE_DESCRIPTOR_SET;
use prost::Message as _;

/// The part of a descriptor set that names calls, messages and their fields. Other fields are skipped.
mod descriptor {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct File {
        #[prost(message, repeated, tag = "4")]
        pub messages: Vec<Type>,
        #[prost(message, repeated, tag = "6")]
        pub services: Vec<Service>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Type {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub fields: Vec<Field>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Field {
        #[prost(string, tag = "1")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Service {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub methods: Vec<Method>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Method {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub answer: String,
    }
}

/// What a field of an answer to a host can do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    /// When the host speaks next, and how; who it is. Nothing of what it runs.
    Conversation,
    /// An order, made from a member's record: the simulation's law E25 holds it to a rollout's pinned
    /// releases or the baked one.
    Decision,
    /// Bytes that are used only if their digest is the one that an order names.
    Named,
    /// It can take away permissions and directories of what is gone, and bring nothing.
    Stop,
}
use Power::{Conversation, Decision, Named, Stop};

const HEARD_BY_HOSTS: &[(&str, &str, Power)] = &[
    ("Renew", "certificate_pem", Conversation),
    ("Renew", "authority_pem", Conversation),
    ("CheckIn", "protocol", Conversation),
    ("CheckIn", "features", Conversation),
    ("CheckIn", "hold_ms", Conversation),
    ("CheckIn", "retry_after_ms", Conversation),
    ("CheckIn", "server_time_ms", Conversation),
    ("CheckIn", "assignments", Decision),
    ("CheckIn", "forget", Stop),
    ("CheckIn", "renew_now", Conversation),
    ("FetchManifest", "data", Named),
    ("FetchFiles", "index", Named),
    ("FetchFiles", "stored_offset", Named),
    ("FetchFiles", "encoding", Named),
    ("FetchFiles", "stored_length", Named),
    ("FetchFiles", "data", Named),
    ("FetchFiles", "last", Named),
];

/// What an operator's call can lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Read,
    /// Who may speak, and as whom.
    Access,
    /// Contents that nothing runs until a rollout names them, and that nothing may run when they go.
    Catalog,
    /// Hosts are given fewer orders than before, or none.
    Hold,
    /// It begins, steers or ends a rollout, or says who is in an environment and what its next rollout is
    /// like. Orders come of it through the planner alone.
    Rollout,
}
use Effect::{Access, Catalog, Hold, Read, Rollout};

const CALLED_BY_OPERATORS: &[(&str, Effect)] = &[
    ("WhoAmI", Read),
    ("CreateToken", Access),
    ("ListTokens", Read),
    ("RevokeToken", Access),
    ("AddOperator", Access),
    ("ListOperators", Read),
    ("RevokeOperator", Access),
    ("ListHosts", Read),
    ("GetHost", Read),
    ("EditHost", Rollout),
    ("DrainHost", Hold),
    ("HoldHost", Hold),
    ("RemoveHost", Hold),
    ("ReleaseHost", Rollout),
    ("RevokeHost", Hold),
    ("PackageStart", Catalog),
    ("UploadFiles", Catalog),
    ("PackageFinish", Catalog),
    ("ListPackages", Read),
    ("RemovePackage", Catalog),
    ("CreateVersionSet", Catalog),
    ("ListVersionSets", Read),
    ("GetVersionSet", Read),
    ("ApplyEnvironment", Rollout),
    ("ListEnvironments", Read),
    ("GetEnvironment", Read),
    ("PlanRollout", Read),
    ("StartRollout", Rollout),
    ("GetRollout", Read),
    ("ListRollouts", Read),
    ("ControlRollout", Rollout),
    ("DecideGate", Rollout),
    ("Explain", Read),
];

struct Protocol {
    services: BTreeMap<String, Vec<descriptor::Method>>,
    fields: BTreeMap<String, Vec<String>>,
}

fn protocol() -> Protocol {
    let set = descriptor::Set::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let messages = set.files.iter().flat_map(|file| file.messages.clone());
    let fields =
        messages.map(|of| (of.name, of.fields.into_iter().map(|field| field.name).collect())).collect();
    let services = set.files.into_iter().flat_map(|file| file.services);
    Protocol { services: services.map(|service| (service.name, service.methods)).collect(), fields }
}

#[test]
fn hosts_hear_of_changes_in_assignments_alone() {
    let Protocol { services, fields } = protocol();
    let mut heard = BTreeSet::new();
    for method in &services["Agent"] {
        let answer = method.answer.rsplit('.').next().expect("a name");
        heard.extend(fields[answer].iter().map(|field| (method.name.clone(), field.clone())));
    }
    let known: BTreeSet<(String, String)> =
        HEARD_BY_HOSTS.iter().map(|(call, field, _)| ((*call).to_owned(), (*field).to_owned())).collect();
    assert_eq!(heard, known, "E25 one path: say what each field can do to a host");
    let decisions: Vec<_> = HEARD_BY_HOSTS.iter().filter(|(.., power)| *power == Decision).collect();
    assert_eq!(decisions, [&("CheckIn", "assignments", Decision)], "E25 one path");
}

#[test]
fn every_call_of_an_operator_says_what_it_leads_to() {
    let calls: BTreeSet<String> =
        protocol().services["Operator"].iter().map(|method| method.name.clone()).collect();
    let known: BTreeSet<String> = CALLED_BY_OPERATORS.iter().map(|(call, _)| (*call).to_owned()).collect();
    assert_eq!(calls, known, "E25 one path: say what each call leads to");
}
