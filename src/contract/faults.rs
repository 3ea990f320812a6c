//! Faults: what is wrong with a document, in a form for programs and for people.
//!
//! Invariants: a code never changes its meaning and its name is part of the contract; a message never holds a value
//! that may be secret (passwords, keys, parameters, scripts, `pg_hba` lines). `docs/faults.md` is generated from here.

use serde::{Deserialize, Serialize};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fault {
    /// Where it is: a JSON pointer (RFC 6901) into the document. Of something missing: where it should be.
    pub pointer: String,
    /// What kind of fault it is.
    pub code: Code,
    /// What is wrong, as a sentence for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    #[must_use]
    pub fn new(code: Code, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pointer = if self.pointer.is_empty() { "(document)" } else { &self.pointer };
        write!(f, "{pointer}: {} [{}]", self.message, self.code.as_str())?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Appends one reference token to a JSON pointer, escaped as RFC 6901 says.
#[must_use]
pub fn pointer(base: &str, token: impl std::fmt::Display) -> String {
    let token = token.to_string().replace('~', "~0").replace('/', "~1");
    format!("{base}/{token}")
}

macro_rules! codes {
    ($($variant:ident $name:literal $doc:literal,)+) => {
        /// The kind of a fault. The set is closed, the names are stable.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
        )]
        pub enum Code {
            $(#[doc = $doc] #[serde(rename = $name)] $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code's name, as it stands in documents.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What the code says, in a line.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self {
                    $(Self::$variant => $doc,)+
                }
            }
        }
    };
}

codes! {
    PayloadTooLarge "payload-too-large" "The document is larger than 128 KiB.",
    InvalidJson "invalid-json" "The payload is not JSON; the message says at which line and column.",
    DuplicateKey "duplicate-key" "An object has the same key twice; readers disagree on which one counts.",
    UnknownField "unknown-field" "The contract has no such field here.",
    TypeMismatch "type-mismatch" "The value has the wrong JSON type.",
    Required "required" "A field that must be there is missing.",
    OutOfRange "out-of-range" "A number, text, list or map is smaller or larger than allowed.",
    InvalidFormat "invalid-format" "A text is not of the form that the field asks for.",
    InvalidValue "invalid-value" "The value is not one of those that the field can have.",
    InvalidId "invalid-id" "An id breaks the rule for ids.",
    Unsupported "unsupported" "The contract knows the field, this build does not act on it yet.",
    DuplicateName "duplicate-name" "A name stands twice where it must be unique.",
    MultipleOwners "multiple-owners" "More than one user has db_owner.",
    ReservedName "reserved-name" "The name, or its prefix, belongs to pgmoor or to Postgres.",
    UnknownReference "unknown-reference" "The value names something that the document does not have.",
    Conflict "conflict" "Two parts of the document exclude each other.",
    MembershipCycle "membership-cycle" "Roles are members of each other in a circle.",
    ManagedParameter "managed-parameter" "The parameter is set by pgmoor itself and cannot be set in a spec.",
    InvalidParameter "invalid-parameter" "The name or value cannot stand in postgresql.conf.",
    InvalidHba "invalid-hba" "The line is not a pg_hba.conf entry.",
    InvalidIdent "invalid-ident" "The line is not a pg_ident.conf entry.",
    InvalidQuantity "invalid-quantity" "An amount of memory or processors cannot be read.",
    InvalidAttribute "invalid-attribute" "The role attribute is not on the allow-list.",
    InvalidScript "invalid-script" "The statement is not SQL that Postgres can parse.",
    ScriptNotTransactional "script-not-transactional" "The statement cannot run inside a transaction block.",
    InvalidCron "invalid-cron" "The schedule is not a cron expression of five fields.",
    InvalidOption "invalid-option" "The option's name is not one that pgBackRest can have.",
    InvalidPath "invalid-path" "The path is not absolute, not clean, or lies where pgmoor keeps its own files.",
    UnknownVersion "unknown-version" "The catalogue does not have this Postgres version.",
    UnknownTemplate "unknown-template" "The catalogue does not have this template.",
    UnknownExtension "unknown-extension" "The image does not have this extension, or not in this version.",
    UnknownHost "unknown-host" "The fleet does not have this host.",
    ImageMismatch "image-mismatch" "The pinned image's tag names another Postgres version than the spec.",
    PortClash "port-clash" "Another database of the host, or another node, already has the port.",
    ImmutableField "immutable-field" "The field cannot be changed once the database exists.",
    MajorVersionChange "major-version-change" "The Postgres major version cannot be changed in place.",
    GenerationConflict "generation-conflict" "The generation was already applied with another content.",
    StaleGeneration "stale-generation" "The generation is lower than the one applied.",
    DeletionProtected "deletion-protected" "The database is protected against deletion.",
    RetainedCommand "retained-command" "A command was published retained; it would run again at each reconnect.",
    UnknownCommand "unknown-command" "This build knows no such command.",
    StaleApproval "stale-approval" "The digest is not that of a plan that waits for approval; the message says what differs.",
    Internal "internal" "pgmoor itself failed over the document, which changed nothing: a defect of pgmoor.",
    NotFound "not-found" "What the command names is not there: no such database, no such generation, no held delete.",
    NotDeleted "not-deleted" "The command is for a database whose data is in the trash, and this one is not deleted.",
    IsDeleted "is-deleted" "The command is for a database that lives, and this one is deleted.",
    Unavailable "unavailable" "The request cannot be answered now: Docker, the host or the store does not answer.",
    NameTaken "name-taken" "Live check: a service or network of the Swarm that is not this fleet's has the database's name.",
    PortInUse "port-in-use" "Live check: something else listens on the port of the host.",
    VolumePathMissing "volume-path-missing" "Live check: the host has no directory or file of that path.",
    NetworkMissing "network-missing" "Live check: the Swarm has no network of that name or id.",
    NetworkNotAttachable "network-not-attachable" "Live check: the network is not of the Swarm, or not attachable.",
    ImageMissing "image-missing" "Live check: the image is neither on the host nor in a registry that answers.",
    MemoryOvercommitted "memory-overcommitted" "Live check: the host's memory is already promised to others.",
    CpuOvercommitted "cpu-overcommitted" "Live check: the host has fewer processors than that.",
    SubnetsExhausted "subnets-exhausted" "Live check: Swarm has no subnet left for another network.",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Puts faults in the order in which they are told: by place, then by code. Equal ones stand once.
#[must_use]
pub fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort();
    faults.dedup();
    faults
}
