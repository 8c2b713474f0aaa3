//! Every error that a person or a program can meet has a stable code. All codes live here;
//! `docs/errors.md` lists them, and a test holds the two together.

use std::fmt;

/// What a program's exit means. Stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// The operation failed, or the rollout was taken back.
    Failed = 1,
    /// The command or a file that a person wrote is wrong.
    Usage = 2,
    /// Refused by policy or for lack of a role.
    Refused = 3,
    /// Something else is active, or has changed in between.
    Conflict = 4,
    Unreachable = 5,
    /// Succeeded, with exceptions that are named.
    Partial = 6,
}

macro_rules! codes {
    ($($variant:ident $text:literal $exit:ident $meaning:literal)*) => {
        /// A stable error code. The text form is a contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $meaning] $variant,)* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The exit code of a program that ends with this error.
            pub const fn exit(self) -> Exit {
                match self { $(Self::$variant => Exit::$exit,)* }
            }

            /// What it means, in a sentence of docs/errors.md.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }
    };
}

codes! {
    // The command line.
    CliVerb "E-CLI-VERB" Usage "No such command."
    CliFlag "E-CLI-FLAG" Usage "No such flag, or a flag without its value."
    CliMissing "E-CLI-MISSING" Usage "A required argument is missing."
    CliValue "E-CLI-VALUE" Usage "An argument's value is not understood."
    Context "E-CONTEXT" Usage "No usable context: the context file names no coordinator or credential."
    Address "E-ADDR" Usage "An address is not HOST:PORT."
    KeyPermission "E-KEY-PERM" Usage "A private key can be read by others."
    // Names and values that people write.
    Name "E-NAME" Usage "A name has characters or a length that are not allowed."
    Duration "E-DURATION" Usage "A duration is not a whole number with a unit."
    Budget "E-BUDGET" Usage "A share or count of hosts is out of range."
    ZoneTwice "E-ZONE-TWICE" Usage "A zone is named twice."
    ZoneUnknown "E-ZONE-UNKNOWN" Usage "No host and no join token names the zone."
    BudgetAll "E-BUDGET-ALL" Refused "Under its floors, no host of the environment could ever move."
    // Files that people write.
    ConfigFile "E-CFG-FILE" Usage "A configuration file is missing, unreadable or not a plain file."
    ConfigPermission "E-CFG-PERM" Usage "A configuration file can be written by others."
    ConfigSyntax "E-CFG-SYNTAX" Usage "A configuration file is not valid TOML."
    ConfigKey "E-CFG-KEY" Usage "A configuration file has a key that does not exist, or one twice."
    ConfigValue "E-CFG-VALUE" Usage "A configuration value has the wrong type or is out of range."
    ConfigConflict "E-CFG-CONFLICT" Usage "Two configuration values contradict each other."
    // State on disk.
    State "E-STATE" Failed "The state directory cannot be used."
    StateNewer "E-STATE-NEWER" Failed "The state was written by a newer version."
    StateEnrolled "E-STATE-ENROLLED" Conflict "A host has enrolled in this state directory already."
    StateForeign "E-STATE-FOREIGN" Failed "The state belongs to another host or store."
    Locked "E-LOCKED" Conflict "Another process uses this state directory."
    Store "E-STORE" Failed "The store failed, or holds a record that cannot be read."
    DiskSpace "E-DISK-SPACE" Failed "There is not enough space on the disk."
    DiskInodes "E-DISK-INODES" Failed "There are not enough inodes on the disk."
    // Trust.
    Unauthenticated "E-AUTH" Refused "The caller's certificate is missing, unknown, expired or revoked."
    Role "E-ROLE" Refused "The caller's roles do not allow this."
    NotYours "E-NOT-YOURS" Refused "A host spoke for another host."
    CertificateExpired "E-CERT-EXPIRED" Refused "A certificate has expired or is not yet valid."
    CertificateAuthority "E-CERT-CA" Refused "A certificate was issued by another authority."
    Credential "E-CREDENTIAL" Usage "A certificate or private key is missing, cannot be read, or does not fit its other half."
    Token "E-TOKEN" Refused "The join token was not accepted."
    TokenUnknown "E-TOKEN-UNKNOWN" Usage "No such join token."
    Csr "E-CSR" Refused "The certificate request is not acceptable."
    // The protocol.
    Protocol "E-PROTO" Failed "The two programs' protocol versions do not overlap."
    Field "E-FIELD" Usage "A field of a message is missing or out of range."
    Sequence "E-SEQ" Failed "A report's start counter or sequence is not possible."
    GenerationFuture "E-GEN-FUTURE" Refused "A host shows an assignment that this store never gave; it is held."
    Clone "E-CLONE" Refused "Two machines speak with one host's identity; both are held."
    Limit "E-LIMIT" Refused "A limit was reached."
    Busy "E-BUSY" Unreachable "The coordinator asks to come back later."
    Unreachable "E-UNREACHABLE" Unreachable "The coordinator cannot be reached."
    Tls "E-TLS" Unreachable "The TLS handshake failed."
    Internal "E-INTERNAL" Failed "Houston has a bug."
    // Things that are named.
    EnvironmentUnknown "E-ENV-UNKNOWN" Usage "No such environment."
    EnvironmentEmpty "E-SELECT-NONE" Refused "The environment's selector matches no host."
    HostUnknown "E-HOST-UNKNOWN" Usage "No such host, or the name fits several."
    HostBusy "E-HOST-BUSY" Conflict "The host is in the middle of an activation."
    HostHeld "E-HOST-HELD" Conflict "Houston holds the host already, for a reason of its own."
    PackageUnknown "E-PACKAGE-UNKNOWN" Usage "No such package version."
    PackageExists "E-PACKAGE-EXISTS" Conflict "The package version exists with other contents."
    PackageInUse "E-PACKAGE-IN-USE" Conflict "A version set refers to the package version."
    VersionSetUnknown "E-VER-UNKNOWN" Usage "No such version set."
    VersionSetExists "E-VER-EXISTS" Conflict "The version set's name or contents exist already."
    RolloutUnknown "E-ROLLOUT-UNKNOWN" Usage "No such rollout."
    OperatorUnknown "E-OPERATOR-UNKNOWN" Usage "No such operator."
    OperatorExists "E-OPERATOR-EXISTS" Conflict "An operator of this name exists."
    LastAdmin "E-LAST-ADMIN" Refused "The last operator with the admin role everywhere cannot be revoked."
    // Rollouts.
    NoChange "E-NOOP" Done "There is nothing to do: the environment is there already."
    Conflict "E-CONFLICT" Conflict "Another rollout is active in the environment."
    RolloutState "E-ROLLOUT-STATE" Conflict "The rollout is in a state that does not allow this."
    BadVersion "E-BAD-VERSION" Refused "This release was taken back in this environment before."
    Downgrade "E-UNINSTALL" Refused "The empty version set uninstalls; it needs the plan's hash."
    SelfApproval "E-SELF-APPROVAL" Refused "Whoever started the rollout may not open this gate."
    PlanChanged "E-PLAN-CHANGED" Conflict "The fleet or the policy has changed since the plan was made."
    Idempotency "E-IDEMPOTENCY" Conflict "The idempotency key was used for another request."
    RolledBack "E-ROLLED-BACK" Failed "The rollout failed and was taken back."
    Halted "E-HALTED" Failed "The rollout is halted and needs a person."
    Timeout "E-TIMEOUT" Failed "What was waited for did not happen in time."
    PlatformMissing "E-PLATFORM" Failed "The package has no tree for the host's platform."
    // Trees, manifests, packages.
    TreeSyntax "E-TREE-SYNTAX" Failed "A manifest is not in canonical form."
    TreePath "E-TREE-PATH" Usage "A manifest names a path that is not allowed."
    TreeLink "E-TREE-LINK" Usage "A manifest's link leaves the tree."
    TreeType "E-TREE-TYPE" Usage "A tree has something other than files, directories and links."
    TreeMode "E-TREE-MODE" Usage "A file's mode is not one that trees carry."
    TreeDuplicate "E-TREE-DUP" Usage "A manifest names a path twice, or two that differ only in case."
    TreeLimit "E-TREE-LIMIT" Usage "A manifest has too many entries or bytes."
    TreeDiffers "E-TREE-DIFF" Failed "A tree on disk differs from its manifest."
    FileDigest "E-ART-DIGEST" Failed "A file's contents do not have the digest that was named."
    FileLength "E-ART-LENGTH" Failed "A file does not have the length that was named."
    FileDamaged "E-ART-DAMAGED" Failed "A stored file or manifest was damaged on the coordinator's disk; it was set aside."
    FileMissing "E-ART-MISSING" Failed "The coordinator does not have this file or manifest."
    PackageSyntax "E-PKG-SYNTAX" Usage "houston.toml is not valid."
    PackageKey "E-PKG-KEY" Usage "houston.toml has a key that does not exist."
    PackageValue "E-PKG-VALUE" Usage "houston.toml has a value that is out of range."
    HookMissing "E-HOOK-MISSING" Usage "A hook or service names a file that the tree lacks or that is not executable."
    HookTimeoutValue "E-HOOK-TIMEOUT-VALUE" Usage "A hook's timeout is zero or above the cap."
    HookEnvironment "E-HOOK-ENV" Usage "A name may not be set in a hook's environment."
    HealthNone "E-HEALTH-NONE" Usage "A service declares no health check and does not say process-only."
    HealthValue "E-HEALTH-VALUE" Usage "A health check's numbers contradict each other or are out of range."
    // What happens on hosts.
    HookExec "E-HOOK-EXEC" Failed "A hook could not be executed."
    HookExit "E-HOOK-EXIT" Failed "A hook ended with a failure."
    HookSignal "E-HOOK-SIGNAL" Failed "A hook was ended by a signal."
    HookTimeout "E-HOOK-TIMEOUT" Failed "A hook did not end within its timeout."
    HookInterrupted "E-HOOK-INTERRUPTED" Failed "A hook that must not run twice was interrupted."
    HookUser "E-HOOK-USER" Failed "The user that a hook or service names does not exist on the host."
    SecretMissing "E-SECRET-MISSING" Failed "A secret that the package needs is not on the host."
    SettingMissing "E-SETTING-MISSING" Failed "A setting that the package needs is not in the environment."
    ServiceOwned "E-SERVICE-OWNED" Failed "A service or port belongs to another environment on the host."
    ServiceStart "E-SERVICE-START" Failed "A service could not be started."
    ServiceStop "E-SERVICE-STOP" Failed "A service could not be stopped."
    Unhealthy "E-UNHEALTHY" Failed "A release did not become healthy within its time, or turned unhealthy."
    ApplyDeadline "E-DEADLINE" Failed "An activation missed its deadline."
    DeadlineShort "E-DEADLINE-SHORT" Failed "A release's timeouts add up to more than its apply deadline."
    Io "E-IO" Failed "The host's disk or kernel refused an operation."
    Demo "E-DEMO" Failed "The demo did not go as it should."
    HostLost "E-LOST" Failed "The host was silent past its deadline."
    AssignmentOlder "E-ASSIGN-OLDER" Failed "A host refused an assignment older than one that it had accepted."
    AssignmentDiffers "E-ASSIGN-DIFF" Failed "A host refused an assignment that differs from the accepted one of the same number."
    JournalDamaged "E-JOURNAL" Failed "A host's journal was unreadable; its state was rebuilt from disk."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An error for a person: which, what and where, and what to do next.
/// Shown as `E-CODE: what; next`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    pub code: Code,
    /// What is wrong and where. Somebody's text in it is already made safe by [`crate::id::quoted`].
    pub what: String,
    /// The next step. Empty where there is none.
    pub next: String,
}

impl Refusal {
    pub fn new(code: Code, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, what: what.into(), next: next.into() }
    }

    pub fn internal(what: impl Into<String>) -> Self {
        Self::new(Code::Internal, what, "please report it with the coordinator's log")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.what)?;
        if self.next.is_empty() { Ok(()) } else { write!(f, "; {}", self.next) }
    }
}

/// An error with its causes, once each, joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// The candidate nearest to `wanted`, if one is near enough to be a typing mistake.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(wanted, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(wanted.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insert, delete, replace, swap neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert_eq!(Code::from_text(code.as_str()), Some(*code));
            assert!(code.as_str().starts_with("E-"));
        }
    }

    #[test]
    fn nearest_finds_typing_mistakes_only() {
        assert_eq!(nearest("prdo", ["prod", "staging"]), Some("prod"));
        assert_eq!(nearest("delpoy", ["deploy", "destroy"]), Some("deploy"));
        assert_eq!(nearest("zebra", ["prod", "staging"]), None);
    }
}
