//! The file of a bundle: tar, packed with gzip. Written 0600, and whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::Error;
use super::draft::Finished;

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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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

    #[test]
    fn a_bundle_is_private_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = bundle(directory.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()));
        assert_eq!(archive.entries().unwrap().map(|entry| entry.unwrap().size()).max(), Some(7000));
    }
}
