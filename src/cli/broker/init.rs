//! `broker init`: everything that a mosquitto of a fleet needs, in one directory that mirrors /etc/mosquitto, and beside
//! it what each user logs in with.
//!
//! Invariants: what is there and still good is kept (authority, keys, passwords), so it may be run again for new users,
//! other names, or certificates that near their end; everything is 0600; a key or password is in no other file.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::args::BrokerInit;
use super::super::{Context, Error, Exit, Out};
use super::users;
use crate::contract::access::{self, User};
use crate::drivers::certificates::{self, Authority};
use crate::model::Secret;
use crate::model::resource::CertificateAttributes;

/// The configuration that we ship, of which everything but the listeners is taken.
const SHIPPED: &str = include_str!("../../../broker/mosquitto/mosquitto.conf");
/// Where the part about listeners begins and ends.
const LISTENERS: (&str, &str) = ("# --- where to listen", "# --- nothing is dropped");
/// The listeners of a broker that others reach.
const OPEN: &str = "\
# --- where to listen -------------------------------------------------------
per_listener_settings false
# User and password, over TLS.
listener 8883
certfile /etc/mosquitto/certs/server.crt
keyfile /etc/mosquitto/certs/server.key
tls_version tlsv1.2
# A certificate of ca.crt, whose common name is the user; no password.
listener 8884
certfile /etc/mosquitto/certs/server.crt
keyfile /etc/mosquitto/certs/server.key
tls_version tlsv1.2
cafile /etc/mosquitto/certs/clients-ca.crt
require_certificate true
use_identity_as_username true

# --- the bridge to a central broker, where there is one ---------------------
include_dir /etc/mosquitto/conf.d

";
/// The files of a bridge, and what stands in them where there is none: Swarm takes no empty ones.
const NO_BRIDGE: [(&str, &str); 2] = [
    ("conf.d/bridge.conf", "# No bridge. `pgmoor broker bridge` prints what belongs here.\n"),
    ("certs/central-ca.crt", "# No bridge. The authority of the central broker belongs here.\n"),
];
/// Bytes of randomness in a password: 192 bits.
const PASSWORD_BYTES: usize = 24;

pub(in crate::cli) fn run(context: &Context<'_>, args: &BrokerInit, out: &mut Out) -> Result<Exit, Error> {
    let folder = Folder { root: &args.directory, made: Vec::new() };
    let made = folder.fill(context, args)?;
    let at = args.directory.display();
    out.line(&match made.as_slice() {
        [] => format!("{at}: nothing to do"),
        made => format!("{at}: {}", made.join(", ")),
    })?;
    Ok(Exit::Done)
}

/// The directory, and what was written in it.
struct Folder<'a> {
    root: &'a Path,
    made: Vec<String>,
}

impl Folder<'_> {
    fn fill(mut self, context: &Context<'_>, args: &BrokerInit) -> Result<Vec<String>, Error> {
        let fleet = &context.options.fleet;
        let now_s = context.clock.now_ms() / 1000;
        let users = users(&args.users);
        let authority = self.authority(context, now_s)?;
        self.put("certs/clients-ca.crt", &authority.certificate_pem)?;
        let names: BTreeSet<String> = args.names.iter().cloned().collect();
        self.certificate(&authority, "certs/server", "broker", names, now_s)?;
        let mut lines = Vec::new();
        for User { name, .. } in &users {
            self.certificate(&authority, &format!("clients/{name}"), name, BTreeSet::new(), now_s)?;
            lines.push(self.password(context, name)?);
        }
        self.put("pgmoor.passwords", &format!("{}\n", lines.join("\n")))?;
        self.put("pgmoor.acl", &access::list(fleet.as_str(), &users))?;
        self.put("mosquitto.conf", &configuration())?;
        for (file, nothing) in NO_BRIDGE {
            if self.read(file)?.is_none() {
                self.put(file, nothing)?;
            }
        }
        Ok(self.made)
    }

    fn authority(&mut self, context: &Context<'_>, now_s: i64) -> Result<Authority, Error> {
        if let (Some(certificate_pem), Some(key_pem)) = (self.read("ca.crt")?, self.read("ca.key")?) {
            return Ok(Authority { certificate_pem, key_pem: Secret::new(key_pem) });
        }
        let authority = certificates::make_authority(&context.options.fleet, now_s)?;
        self.put("ca.key", authority.key_pem.expose())?;
        self.put("ca.crt", &authority.certificate_pem)?;
        Ok(authority)
    }

    /// A certificate and its key, where there is none that is as wanted and has a third of its life before it.
    fn certificate(
        &mut self,
        authority: &Authority,
        stem: &str,
        common_name: &str,
        names: BTreeSet<String>,
        now_s: i64,
    ) -> Result<(), Error> {
        let server = !names.is_empty();
        let wanted = CertificateAttributes {
            stem: stem.to_owned(),
            uid: 0,
            gid: 0,
            common_name: common_name.to_owned(),
            subject_alt_names: names,
            server,
            client: !server,
            issuer: certificates::certificate_digest(&authority.certificate_pem)?,
            fresh: true,
        };
        let (crt, key) = (format!("{stem}.crt"), format!("{stem}.key"));
        if let (Some(pem), Some(key_pem)) = (self.read(&crt)?, self.read(&key)?) {
            let seen = certificates::inspect(stem, &pem, &authority.certificate_pem, now_s, 0, 0);
            // What cannot be read is no certificate of ours: it is made anew.
            let same = seen.is_ok_and(|seen| seen == wanted);
            if same && certificates::key_matches(&pem, &Secret::new(key_pem)) {
                return Ok(());
            }
        }
        let issued = certificates::issue(authority, &wanted, now_s)?;
        self.put(&key, issued.key_pem.expose())?;
        self.put(&crt, &issued.certificate_pem)
    }

    /// The line of the password file for a user; its password is made where it has none.
    fn password(&mut self, context: &Context<'_>, user: &str) -> Result<String, Error> {
        let file = format!("clients/{user}.password");
        let kept = self.read(&file)?;
        if kept.is_some() {
            let before = self.read("pgmoor.passwords")?.unwrap_or_default();
            let own = before.lines().find(|line| line.split_once(':').is_some_and(|(name, _)| name == user));
            if let Some(own) = own {
                return Ok(own.to_owned());
            }
        }
        let password = match kept {
            Some(text) => text.trim_end().to_owned(),
            None => {
                let mut bytes = [0_u8; PASSWORD_BYTES];
                context.random.fill(&mut bytes).map_err(|error| Error::ReadPassword(io::Error::other(error)))?;
                URL_SAFE_NO_PAD.encode(bytes)
            }
        };
        self.put(&file, &format!("{password}\n"))?;
        pgmoor_broker::drawn_password_line(user, &password).map_err(Error::PasswordLine)
    }

    fn read(&self, file: &str) -> Result<Option<String>, Error> {
        let path = self.root.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::ReadFile { path, source }),
        }
    }

    /// Writes a file as a whole, where it does not hold that already.
    fn put(&mut self, file: &str, text: &str) -> Result<(), Error> {
        if self.read(file)?.as_deref() == Some(text) {
            return Ok(());
        }
        let path = self.root.join(file);
        write_private(&path, text).map_err(|source| Error::WriteFile { path: path.clone(), source })?;
        self.made.push(file.to_owned());
        Ok(())
    }
}

/// Replaces a file by one that only its owner reads, and makes its directory.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = PathBuf::from(format!("{}.new", path.display()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// The configuration that we ship, with listeners for others.
fn configuration() -> String {
    let (start, end) = LISTENERS;
    // A test holds that both stand in it.
    let (before, rest) = SHIPPED.split_once(start).unwrap_or((SHIPPED, ""));
    let (_, after) = rest.split_once(end).unwrap_or(("", ""));
    format!("{before}{OPEN}{end}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listeners_are_replaced_and_nothing_else() {
        let text = configuration();
        for kept in ["allow_anonymous false", "max_queued_messages 1000000", "persistence true", "log_type notice"] {
            assert_eq!(text.lines().filter(|line| *line == kept).count(), 1, "{kept}");
        }
        let listeners: Vec<&str> = text.lines().filter(|line| line.starts_with("listener ")).collect();
        assert_eq!(listeners, ["listener 8883", "listener 8884"]);
        let settings = |text: &str| {
            let set = |line: &&str| !line.is_empty() && !line.starts_with('#');
            text.lines().filter(set).map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let lost: Vec<_> = settings(SHIPPED).difference(&settings(&text)).cloned().collect();
        assert_eq!(lost, ["listener 1883 127.0.0.1"]);
    }
}
