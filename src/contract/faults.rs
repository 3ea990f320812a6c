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
    /// A fault with the hint of its code.
    #[must_use]
    pub fn new(code: Code, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into(), hint: Some(code.remedy().to_owned()) }
    }

    /// The same with a hint that knows more.
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
    ($($variant:ident $name:literal $doc:literal $remedy:literal,)+) => {
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

            /// What to do about it, where nothing more exact is known.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self {
                    $(Self::$variant => $remedy,)+
                }
            }
        }
    };
}

codes! {
    PayloadTooLarge "payload-too-large" "The document is larger than 128 KiB."
        "make it smaller; what is long are mostly scripts: run those over SQL once the database stands",
    InvalidJson "invalid-json" "The payload is not JSON; the message says at which line and column."
        "check it with `pgmoor validate FILE`, or any JSON tool",
    DuplicateKey "duplicate-key" "An object has the same key twice; readers disagree on which one counts."
        "keep one of the two",
    UnknownField "unknown-field" "The contract has no such field here."
        "take it out, or correct its name: `pgmoor schema database-spec` has all fields",
    TypeMismatch "type-mismatch" "The value has the wrong JSON type."
        "give it the type that the message names",
    Required "required" "A field that must be there is missing."
        "add it",
    OutOfRange "out-of-range" "A number, text, list or map is smaller or larger than allowed."
        "choose a value within the limit",
    InvalidFormat "invalid-format" "A text is not of the form that the field asks for."
        "write it in the form that the message names",
    InvalidValue "invalid-value" "The value is not one of those that the field can have."
        "choose one of the values that the message names",
    InvalidId "invalid-id" "An id breaks the rule for ids."
        "choose another id",
    Unsupported "unsupported" "The contract knows the field, this build does not act on it yet."
        "take the field out; ARCHITECTURE.md says what this build does not do yet",
    DuplicateName "duplicate-name" "A name stands twice where it must be unique."
        "take one of the two out, or rename it",
    MultipleOwners "multiple-owners" "More than one user has db_owner."
        "leave db_owner with one user; give the others its role in `roles`",
    ReservedName "reserved-name" "The name, or its prefix, belongs to pgmoor or to Postgres."
        "choose another name",
    UnknownReference "unknown-reference" "The value names something that the document does not have."
        "correct the name, or add what it names",
    Conflict "conflict" "Two parts of the document exclude each other."
        "take one of the two back",
    MembershipCycle "membership-cycle" "Roles are members of each other in a circle."
        "take one of the memberships out of `roles`",
    ManagedParameter "managed-parameter" "The parameter is set by pgmoor itself and cannot be set in a spec."
        "take it out of postgresql_conf",
    InvalidParameter "invalid-parameter" "The name or value cannot stand in postgresql.conf."
        "correct it as the message says; PostgreSQL's documentation has names and units",
    InvalidHba "invalid-hba" "The line is not a pg_hba.conf entry."
        "write it as pg_hba.conf has it: type, database, user, address, method, options",
    InvalidIdent "invalid-ident" "The line is not a pg_ident.conf entry."
        "write it as pg_ident.conf has it: map, system user, database user",
    InvalidQuantity "invalid-quantity" "An amount of memory or processors cannot be read."
        "write it as in the message's examples",
    InvalidAttribute "invalid-attribute" "The role attribute is not on the allow-list."
        "the allow-list: SUPERUSER, CREATEDB, CREATEROLE, INHERIT, LOGIN, REPLICATION, BYPASSRLS, each also with NO before it",
    InvalidScript "invalid-script" "The statement is not SQL that Postgres can parse."
        "try the statement in psql first",
    ScriptNotTransactional "script-not-transactional" "The statement cannot run inside a transaction block."
        "run it by hand once the database stands",
    InvalidCron "invalid-cron" "The schedule is not a cron expression of five fields."
        "for example `0 3 * * *`: every night at three",
    InvalidOption "invalid-option" "The option's name is not one that pgBackRest can have."
        "correct its name; pgBackRest's documentation has all options",
    InvalidPath "invalid-path" "The path is not absolute, not clean, or lies where pgmoor keeps its own files."
        "choose another path",
    UnknownVersion "unknown-version" "The catalogue does not have this Postgres version."
        "choose one of the catalogue's, or give the daemon another catalogue (--catalogue)",
    UnknownTemplate "unknown-template" "The catalogue does not have this template."
        "choose one of the catalogue's, or leave it out",
    UnknownExtension "unknown-extension" "The image does not have this extension, or not in this version."
        "choose one that the image has, or pin an image that has it",
    UnknownHost "unknown-host" "The fleet does not have this host."
        "correct the id: hosts/+/status names the fleet's hosts",
    HostInUse "host-in-use" "Instances of databases, or the only member of etcd, are on the host."
        "take it out of host_ids, and drain it; or, if it is dead: `pgmoor host remove HOST --force`",
    HostDrained "host-drained" "The host is to be left: it gets no new instances."
        "name another host, or take it into use again: `pgmoor host use HOST`",
    NotEnoughHosts "not-enough-hosts" "Live check: fewer hosts can be chosen than the node needs; the message says of each why."
        "ask for fewer replicas or other labels, or bring a host in: `pgmoor hosts` shows them with their labels",
    ImageMismatch "image-mismatch" "The pinned image's tag names another Postgres version than the spec."
        "pin an image of that version, or ask for the version of the image",
    PortClash "port-clash" "Another database of the host, or another node, already has the port."
        "choose another port, or 0: then pgmoor chooses a free one",
    NodeMissing "node-missing" "A node that the database has is not in the spec: leaving it out does not remove it."
        "list it as it was; to remove it and move its data to the trash, list it with `\"deleted\": true`",
    ImmutableField "immutable-field" "The field cannot be changed once the database exists."
        "put back what it was, or make another database",
    MajorVersionChange "major-version-change" "The Postgres major version cannot be changed in place."
        "put back the old version; make a new database of the new one and move the data",
    GenerationConflict "generation-conflict" "The generation was already applied with another content."
        "raise `generation`, or leave it out",
    StaleGeneration "stale-generation" "The generation is lower than the one applied."
        "raise `generation`, or leave it out",
    DeletionProtected "deletion-protected" "The database is protected against deletion."
        "set deletion_protection to false first, in a spec of its own",
    RetainedCommand "retained-command" "A command was published retained; it would run again at each reconnect."
        "publish it without the retain flag, and clear the topic with an empty retained message",
    UnknownCommand "unknown-command" "This build knows no such command."
        "docs/topics.md has all commands",
    StaleApproval "stale-approval" "The digest is not that of a plan that waits for approval; the message says what differs."
        "look at the plan on its topic and approve of its digest",
    Internal "internal" "pgmoor itself failed over the document, which changed nothing: a defect of pgmoor."
        "please report it, with the bundle of `pgmoor report`",
    NotFound "not-found" "What the command names is not there: no such database, no such generation, no held delete."
        "check the name: `pgmoor status` lists the databases, `pgmoor history DB` the generations",
    NotDeleted "not-deleted" "The command is for a database whose data is in the trash, and this one is not deleted."
        "delete it first, if that is meant",
    IsDeleted "is-deleted" "The command is for a database that lives, and this one is deleted."
        "bring it back first: `pgmoor undelete DB`, or publish its spec again",
    TokenInvalid "token-invalid" "The token of a host that joins is not one of this fleet, or was changed."
        "make one on a host of the fleet: `pgmoor host token`, and copy it whole",
    TokenExpired "token-expired" "The token of a host that joins is over."
        "make another on a host of the fleet: `pgmoor host token`",
    TokenUsed "token-used" "A host has joined with the token; each lets in one."
        "make another on a host of the fleet: `pgmoor host token`",
    Unavailable "unavailable" "The request cannot be answered now: Docker, the host or the store does not answer."
        "try again; `pgmoor doctor` and hosts/{host}/status say what does not answer",
    NameTaken "name-taken" "Live check: a service or network of the Swarm that is not this fleet's has the database's name."
        "choose another database id, or remove the foreign object",
    PortInUse "port-in-use" "Live check: something else listens on the port of the host."
        "stop what listens there, choose another port, or 0: then pgmoor chooses a free one",
    VolumePathMissing "volume-path-missing" "Live check: the host has no directory or file of that path."
        "make it on the host, with the owner that the container needs",
    NetworkMissing "network-missing" "Live check: the Swarm has no network of that name or id."
        "make it: docker network create --driver overlay --attachable NAME",
    NetworkNotAttachable "network-not-attachable" "Live check: the network is not of the Swarm, or not attachable."
        "make one with --driver overlay --attachable, and name that",
    ImageMissing "image-missing" "Live check: the image is neither on the host nor in a registry that answers."
        "load or pull it on the host; `make images` builds the project's own",
    MemoryOvercommitted "memory-overcommitted" "Live check: the host's memory is already promised to others."
        "ask for less memory, or give another database less",
    CpuOvercommitted "cpu-overcommitted" "Live check: the host has fewer processors than that."
        "ask for fewer processors",
    SubnetsExhausted "subnets-exhausted" "Live check: Swarm has no subnet left for another network."
        "delete networks that nobody uses, or make the Swarm with a larger --default-addr-pool",
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
