//! The file of a bundle: tar, packed with gzip. Written 0600 and whole or not at all; read without unpacking it to disk.
//!
//! Invariant: what is read is bounded, however small the file is.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::super::Error;
use super::draft::{FORM, Finished, MANIFEST, Manifest};

/// The most bytes that are unpacked: somewhat more than a bundle may have.
const UNPACKED_MAX: u64 = 96 << 20;

/// Writes a bundle.
pub(super) fn write(path: &Path, finished: &Finished, now_s: i64) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        // One that was left there by somebody keeps its own mode.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        pack(&file, finished, now_s)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| {
        let _half_made = fs::remove_file(&new);
        Error::WriteFile { path: path.to_owned(), source }
    })
}

fn pack(to: &fs::File, finished: &Finished, now_s: i64) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(io::BufWriter::new(to), Compression::default()));
    for (name, bytes) in &finished.files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(bytes.len() as u64);
        header.set_mtime(u64::try_from(now_s).unwrap_or_default());
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// What was read of a bundle.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) manifest: Manifest,
    /// The files that were wanted, by their names.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

/// Reads a bundle's manifest and the files that are wanted.
pub(super) fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Opened, Error> {
    let file = fs::File::open(path).map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
    let bad = |why: String| Error::BadBundle { path: PathBuf::from(path), why };
    let mut files = unpack(&file, |name| name == MANIFEST || wanted(name)).map_err(|error| bad(words(&error)))?;
    let manifest = files.remove(MANIFEST).ok_or_else(|| bad(format!("there is no {MANIFEST} in it")))?;
    let manifest: serde_json::Value =
        serde_json::from_slice(&manifest).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
    let form = manifest.get("bundle").and_then(serde_json::Value::as_u64);
    if form != Some(u64::from(FORM)) {
        let form = form.map_or("of no known form".to_owned(), |form| format!("of form {form}"));
        return Err(bad(format!("it is {form}, and this version reads form {FORM}")));
    }
    let manifest = serde_json::from_value(manifest).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
    Ok(Opened { manifest, files })
}

fn unpack(file: &fs::File, wanted: impl Fn(&str) -> bool) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut archive = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)).take(UNPACKED_MAX));
    let mut files = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        if wanted(name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            files.insert(name.to_owned(), bytes);
        }
    }
    // To the end: there stands the checksum.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    if rest.limit() == 0 {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it unpacks to more than {UNPACKED_MAX} bytes"),
        ));
    }
    Ok(files)
}

fn words(error: &io::Error) -> String {
    let cut = error.kind() == io::ErrorKind::UnexpectedEof;
    if cut { "its end is missing".to_owned() } else { crate::runtime::chain(error) }
}

#[cfg(test)]
mod tests {
    use super::super::draft::{Content, Draft};
    use super::*;
    use crate::contract::documents::Time;
    use crate::model::FleetId;

    fn bundle(directory: &Path) -> PathBuf {
        let mut draft = Draft::default();
        draft.put(format!("{}/a.log", "long-".repeat(40)), Content::Text("a line\n".repeat(1000)));
        draft.put("b.log", Content::Text("b".to_owned()));
        let finished = draft.finish(&FleetId::parse("harbour").unwrap(), Time::from_ms(0)).unwrap();
        let path = directory.join("bundle.tar.gz");
        fs::write(directory.join("bundle.tar.gz.new"), "left").unwrap();
        fs::set_permissions(directory.join("bundle.tar.gz.new"), fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, &finished, 7).unwrap();
        path
    }

    fn why(path: &Path) -> String {
        let Err(Error::BadBundle { why, .. }) = read(path, |_| true) else { panic!("{} was read", path.display()) };
        why
    }

    #[test]
    fn a_bundle_is_private_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        let opened = read(&path, |name| name.ends_with("a.log")).unwrap();
        assert_eq!((opened.manifest.bundle, opened.manifest.files.len(), opened.files.len()), (FORM, 2, 1));
        assert_eq!(opened.files.into_values().next().unwrap(), "a line\n".repeat(1000).into_bytes());
    }

    #[test]
    fn what_is_no_whole_bundle_is_said_to_be_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        assert_eq!(why(&path), "its end is missing");
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(!why(&path).is_empty());
        let mut flipped = whole;
        let at = flipped.len() - 6;
        flipped[at] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(why(&path).contains("checksum"), "{}", why(&path));
        fs::write(&path, "no archive").unwrap();
        assert!(why(&path).contains("gzip"), "{}", why(&path));
        let mut other = GzEncoder::new(Vec::new(), Compression::default());
        other.write_all(&[0; 1024]).unwrap();
        fs::write(&path, other.finish().unwrap()).unwrap();
        assert_eq!(why(&path), "there is no manifest.json in it");
        assert!(matches!(read(&directory.path().join("none"), |_| true), Err(Error::ReadFile { .. })));
    }
}
