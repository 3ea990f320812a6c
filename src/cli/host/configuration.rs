//! The daemon's configuration on a host that joins: what the command line was told, as a file.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::super::{Context, Error};
use crate::model::{FleetId, HostId};

/// Writes it where no file is; gives whether it did.
pub(super) fn write(context: &Context<'_>, path: &Path, fleet: &FleetId, host: &HostId) -> Result<bool, Error> {
    let text = text(context, fleet, host)?;
    let written = || {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?.write_all(text.as_bytes())
    };
    match written() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::WriteFile { path: path.to_owned(), source }),
    }
}

fn text(context: &Context<'_>, fleet: &FleetId, host: &HostId) -> Result<String, Error> {
    let options = context.options;
    let broker = &options.broker;
    let file = |path: &Option<PathBuf>| {
        let path = path
            .as_ref()
            .map(|path| std::path::absolute(path).map_err(|source| Error::ReadFile { path: path.clone(), source }));
        path.transpose().map(|path| path.map(|path| path.display().to_string()))
    };
    let rows = [
        ("fleet", Some(fleet.to_string())),
        ("host", Some(host.to_string())),
        ("data_dir", Some(options.data_dir.clone())),
        ("broker_url", broker.url.clone()),
        ("broker_username", broker.username.clone()),
        ("broker_password_file", file(&broker.password_file)?),
        ("broker_ca_file", file(&broker.ca_file)?),
        ("broker_cert_file", file(&broker.cert_file)?),
        ("broker_key_file", file(&broker.key_file)?),
        ("catalogue", file(&options.catalogue)?),
        ("advertise_address", options.advertise_address.map(|address| address.to_string())),
    ];
    let mut text =
        String::from("# Written by `pgmoor host join`. deploy/config.example.toml explains every setting.\n");
    for (key, value) in rows {
        if let Some(value) = value {
            // Writing to a String cannot fail; TOML quotes the value.
            let _infallible = writeln!(text, "{key} = {}", toml::Value::String(value));
        }
    }
    Ok(text)
}
