//! A spec from a file or from standard input, and the id of the database that it is for.

use std::io::Read as _;
use std::path::Path;

use super::Error;
use super::args::SpecFile;
use crate::contract::spec::SPEC_BYTES_MAX;
use crate::model::{DatabaseId, Digest};

/// A spec as it was read, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) database: DatabaseId,
    pub(super) bytes: Vec<u8>,
}

impl Spec {
    pub(super) fn read(from: &SpecFile) -> Result<Self, Error> {
        let database = database(from)?;
        // One byte more than allowed shows that there is too much, however much there is.
        let limit = u64::try_from(SPEC_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let read = if is_stdin(&from.file) {
            std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(&from.file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
        };
        read.map_err(|source| Error::ReadSpec { path: from.file.clone(), source })?;
        Ok(Self { database, bytes })
    }

    /// Whether it may go to the broker: an empty payload means something else there, and a large one does not arrive.
    pub(super) fn publishable(&self) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Err(Error::EmptySpec(self.database.clone()));
        }
        if self.bytes.len() > SPEC_BYTES_MAX {
            return Err(Error::SpecTooLarge { bytes_max: SPEC_BYTES_MAX });
        }
        Ok(())
    }

    /// What a status names it by.
    pub(super) fn digest(&self) -> Digest {
        Digest::of_bytes(&self.bytes)
    }

    /// Whether it asks for the deletion of the database.
    pub(super) fn deletes(&self) -> bool {
        serde_json::from_slice::<serde_json::Value>(&self.bytes)
            .is_ok_and(|value| value.get("deleted").and_then(serde_json::Value::as_bool) == Some(true))
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn database(from: &SpecFile) -> Result<DatabaseId, Error> {
    if let Some(id) = &from.database {
        return Ok(id.clone());
    }
    if is_stdin(&from.file) {
        return Err(Error::NoDatabaseId);
    }
    let stem = from.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    DatabaseId::parse(&stem).map_err(Error::FileNameIsNoId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(file: &str, database: Option<&str>) -> Result<String, Error> {
        let database = database.map(|id| DatabaseId::parse(id).unwrap());
        super::database(&SpecFile { file: file.into(), database }).map(String::from)
    }

    #[test]
    fn the_file_names_the_database() {
        assert_eq!(id("specs/shop.json", None).unwrap(), "shop");
        assert_eq!(id("specs/shop.json", Some("other")).unwrap(), "other");
        assert_eq!(id("-", Some("other")).unwrap(), "other");
        assert!(matches!(id("-", None), Err(Error::NoDatabaseId)));
        assert!(matches!(id("My Shop.json", None), Err(Error::FileNameIsNoId(_))));
    }

    #[test]
    fn what_deletes_is_known() {
        let spec = |text: &str| Spec { database: DatabaseId::parse("a").unwrap(), bytes: text.into() };
        assert!(spec(r#"{"deleted": true}"#).deletes());
        for text in [r#"{"deleted": false}"#, "{}", "", r#"{"deleted": "true"}"#] {
            assert!(!spec(text).deletes(), "{text}");
        }
    }
}
