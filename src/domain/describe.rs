//! Small hands for describing resources: ids, dependencies, and the attributes that several places make alike.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Error, Owner};
use crate::model::resource::{CertificateAttributes, OnDelete};
use crate::model::{Attributes, Dependency, Digest, Executor, Kind, Member, Payload, Resource, ResourceId, Secret};

/// The user alone.
pub(super) const PRIVATE: u32 = 0o600;
/// The user alone, a directory.
pub(super) const PRIVATE_DIRECTORY: u32 = 0o700;
/// Everybody may read: no secret.
pub(super) const PUBLIC: u32 = 0o644;

/// A resource in the making.
#[derive(Debug)]
pub(super) struct Draft(Resource);

impl Draft {
    pub(super) fn new(kind: Kind, name: impl Into<String>, executor: Executor, attributes: Attributes) -> Self {
        Self(Resource {
            id: ResourceId::new(kind, name),
            executor,
            member: None,
            dependencies: std::collections::BTreeMap::new(),
            attributes,
            may_differ: Vec::new(),
            payload: Payload::None,
        })
    }

    /// These must be there first.
    pub(super) fn after<'a>(mut self, ids: impl IntoIterator<Item = &'a ResourceId>) -> Self {
        self.0.dependencies.extend(ids.into_iter().map(|id| (id.clone(), Dependency::Order)));
        self
    }

    /// One of these must be there first.
    pub(super) fn after_any<'a>(mut self, ids: impl IntoIterator<Item = &'a ResourceId>) -> Self {
        self.0.dependencies.extend(ids.into_iter().map(|id| (id.clone(), Dependency::Any)));
        self
    }

    /// It is made from these: a change of one updates it.
    pub(super) fn from<'a>(mut self, ids: impl IntoIterator<Item = &'a ResourceId>) -> Self {
        self.0.dependencies.extend(ids.into_iter().map(|id| (id.clone(), Dependency::Content)));
        self
    }

    pub(super) fn carrying(mut self, payload: Payload) -> Self {
        self.0.payload = payload;
        self
    }

    pub(super) fn may_differ(mut self, pointer: Option<&'static str>) -> Self {
        self.0.may_differ.extend(pointer.map(str::to_owned));
        self
    }
}

/// The resources of one scope. All come after the scope's record.
#[derive(Debug)]
pub(super) struct Drafts {
    record: ResourceId,
    /// The instance that all resources are a part of until another is set.
    member: Option<Member>,
    resources: Vec<Resource>,
}

impl Drafts {
    /// Starts with the record: its revision is compared, its text is sealed by whoever writes it.
    pub(super) fn new<T: serde::Serialize>(name: String, revision: u64, record: &T) -> Result<Self, Error> {
        let text = serde_json::to_string(record)
            .map_err(|error| Error::Render { what: "the record", why: error.to_string() })?;
        let draft = Draft::new(Kind::Record, name, Executor::Manager, Attributes::Record { revision })
            .carrying(Payload::Content(Secret::new(text)));
        Ok(Self { record: draft.0.id.clone(), member: None, resources: vec![draft.0] })
    }

    /// What is added from now on is a part of this instance; of none, or of all.
    pub(super) fn part_of(&mut self, member: Option<Member>) {
        self.member = member;
    }

    /// Adds a resource and gives its id.
    pub(super) fn add(&mut self, draft: Draft) -> ResourceId {
        let mut resource = draft.0;
        resource.dependencies.entry(self.record.clone()).or_insert(Dependency::Order);
        resource.member.clone_from(&self.member);
        let id = resource.id.clone();
        self.resources.push(resource);
        id
    }

    pub(super) fn done(self) -> Vec<Resource> {
        self.resources
    }
}

pub(super) fn directory(path: String, owner: Owner, on_delete: OnDelete) -> Attributes {
    Attributes::Directory { path, mode: PRIVATE_DIRECTORY, uid: owner.uid, gid: owner.gid, on_delete }
}

/// A file's attributes and what it carries.
pub(super) fn file(path: String, mode: u32, owner: Owner, content: Secret) -> (Attributes, Payload) {
    let digest = Digest::of_bytes(content.expose().as_bytes());
    (Attributes::File { path, mode, uid: owner.uid, gid: owner.gid, content: digest }, Payload::Content(content))
}

/// Who may show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Server,
    Client,
    Both,
}

pub(super) fn certificate(
    stem: String,
    owner: Owner,
    common_name: &str,
    subject_alt_names: BTreeSet<String>,
    usage: Usage,
    issuer: &Digest,
) -> Attributes {
    Attributes::Certificate(CertificateAttributes {
        stem,
        uid: owner.uid,
        gid: owner.gid,
        common_name: common_name.to_owned(),
        subject_alt_names,
        server: matches!(usage, Usage::Server | Usage::Both),
        client: matches!(usage, Usage::Client | Usage::Both),
        issuer: issuer.clone(),
        fresh: true,
    })
}

/// The digest of the authority's certificate.
pub(super) fn issuer(ca_certificate_pem: &str) -> Result<Digest, Error> {
    let der = CertificateDer::from_pem_slice(ca_certificate_pem.as_bytes())
        .map_err(|error| Error::Authority(error.to_string()))?;
    Ok(Digest::of_bytes(&der))
}
