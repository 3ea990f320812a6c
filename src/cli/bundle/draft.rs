//! A bundle in the making: what was gathered, what could not be, and the secrets that must not be in it.
//!
//! Invariant: [`Draft::finish`] is the only way out, and what it gives holds no known secret.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Error;
use super::redact::Redactor;
use crate::contract::documents::Time;
use crate::contract::spec::hidden;
use crate::model::{FleetId, Secret};

/// The form of bundles that this version writes and reads.
pub(super) const FORM: u32 = 1;
/// Where a bundle tells of itself.
pub(super) const MANIFEST: &str = "manifest.json";

/// The most bytes of one text: of a log the end counts.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most bytes of one document.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// The most bytes of all together.
const BYTES_MAX: usize = 64 << 20;

/// One thing that was gathered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// A spec as its author published it: fields that may be secret are hidden.
    Spec(Value),
    /// A document that pgmoor wrote.
    Document(Value),
    /// A log or an answer for people.
    Text(String),
}

/// What could not be gathered, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Missing {
    pub(super) what: String,
    pub(super) why: String,
}

/// What a bundle says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`FORM`].
    pub(super) bundle: u32,
    /// The version of pgmoor that wrote it.
    pub(super) pgmoor: String,
    pub(super) fleet: FleetId,
    pub(super) made_at: Time,
    /// Bytes of every other file, by its name.
    pub(super) files: BTreeMap<String, usize>,
    pub(super) missing: Vec<Missing>,
}

/// What was gathered until now.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) contents: BTreeMap<String, Content>,
    missing: BTreeSet<Missing>,
    secrets: BTreeSet<Secret>,
}

/// A finished bundle.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) manifest: Manifest,
    /// Every file by its name, the manifest too.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Draft {
    pub(super) fn put(&mut self, name: impl Into<String>, content: Content) {
        self.contents.insert(name.into(), content);
    }

    /// Puts a value of ours.
    pub(super) fn document<T: Serialize>(&mut self, name: impl Into<String>, document: &T) -> Result<(), Error> {
        self.put(name, Content::Document(serde_json::to_value(document).map_err(Error::of_json)?));
        Ok(())
    }

    pub(super) fn missing(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.missing.insert(Missing { what: what.into(), why: why.into() });
    }

    /// Something that must not be found in the bundle.
    pub(super) fn secret(&mut self, secret: Secret) {
        self.secrets.insert(secret);
    }

    /// Takes all secrets out, sets bounds, and looks through the result once more.
    pub(super) fn finish(mut self, fleet: &FleetId, made_at: Time) -> Result<Finished, Error> {
        for content in self.contents.values() {
            if let Content::Spec(value) = content {
                self.secrets.extend(hidden::secrets(value).into_iter().map(Secret::new));
            }
        }
        let redactor = Redactor::new(&self.secrets);
        if redactor.too_short > 0 {
            let why = format!("{} are shorter than four characters and were not searched for", redactor.too_short);
            self.missing("known secrets", why);
        }
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut left = BYTES_MAX;
        for (name, content) in std::mem::take(&mut self.contents) {
            let bytes = match content {
                Content::Spec(value) => pretty(&redactor.document(&hidden::hide(&value)))?,
                Content::Document(value) => pretty(&redactor.document(&value))?,
                Content::Text(text) => redactor.text(end_of(&text)).into_bytes(),
            };
            if bytes.len() > DOCUMENT_BYTES_MAX || bytes.len() > left {
                let why = format!("it has {} bytes, and a bundle stays small", bytes.len());
                self.missing.insert(Missing { what: redactor.text(&name), why });
                continue;
            }
            left -= bytes.len();
            files.insert(redactor.text(&name), bytes);
        }
        let missing = self.missing.into_iter();
        let manifest = Manifest {
            bundle: FORM,
            pgmoor: env!("CARGO_PKG_VERSION").to_owned(),
            fleet: fleet.clone(),
            made_at,
            files: files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect(),
            missing: missing
                .map(|one| Missing { what: redactor.text(&one.what), why: redactor.text(&one.why) })
                .collect(),
        };
        files.insert(MANIFEST.to_owned(), pretty(&serde_json::to_value(&manifest).map_err(Error::of_json)?)?);
        match files.iter().find(|(name, bytes)| name.as_str() != MANIFEST && holds(&redactor, bytes)) {
            Some((name, _)) => Err(Error::BundleHoldsSecret { file: name.clone() }),
            None => Ok(Finished { manifest, files }),
        }
    }
}

/// Whether a finished file holds a known secret.
fn holds(redactor: &Redactor, bytes: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(document) => redactor.document_holds(&document),
        Err(_) => redactor.holds(&String::from_utf8_lossy(bytes)),
    }
}

fn pretty(value: &Value) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(Error::of_json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The last lines of a text that is too long.
fn end_of(text: &str) -> &str {
    let Some(from) = text.len().checked_sub(TEXT_BYTES_MAX) else { return text };
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let end = text.get(from..).unwrap_or_default();
    end.split_once('\n').map_or(end, |(_cut, whole)| whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finish(draft: Draft) -> Finished {
        draft.finish(&FleetId::parse("harbour").unwrap(), Time::from_ms(0)).unwrap()
    }

    #[test]
    fn a_password_of_a_spec_is_nowhere() {
        let mut draft = Draft::default();
        draft.secret(Secret::new("generated-one"));
        draft
            .put("spec.json", Content::Spec(json!({"database_users": [{"username": "a", "password": "of-the-spec"}]})));
        draft.put("status.json", Content::Document(json!({"message": "login with of-the-spec failed", "port": 5432})));
        draft.put("generated-one.log", Content::Text("a of-the-spec\nb generated-one\n".to_owned()));
        draft.missing("of-the-spec", "generated-one");
        let finished = finish(draft);
        for (name, bytes) in &finished.files {
            let text = String::from_utf8(bytes.clone()).unwrap();
            for secret in ["generated-one", "of-the-spec"] {
                assert!(!text.contains(secret) && !name.contains(secret), "{name}: {text}");
            }
        }
        let names: Vec<&str> = finished.files.keys().map(String::as_str).collect();
        assert_eq!(names, ["(hidden).log", "manifest.json", "spec.json", "status.json"]);
        assert_eq!(finished.manifest.files["(hidden).log"], "a (hidden)\nb (hidden)\n".len());
    }

    #[test]
    fn bounds_are_kept_and_told() {
        let mut draft = Draft::default();
        draft.put("huge.json", Content::Document(json!("x".repeat(DOCUMENT_BYTES_MAX))));
        draft.put("long.log", Content::Text(format!("first\n{}last\n", "ä line\n".repeat(TEXT_BYTES_MAX / 8))));
        draft.secret(Secret::new("abc"));
        let finished = finish(draft);
        let log = String::from_utf8(finished.files["long.log"].clone()).unwrap();
        assert!(log.len() <= TEXT_BYTES_MAX && log.starts_with("ä line\n") && log.ends_with("\nlast\n"));
        let missing: Vec<&str> = finished.manifest.missing.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(missing, ["huge.json", "known secrets"]);
        assert!(!finished.files.contains_key("huge.json"));
    }
}
