//! `broker passwd`: lines of the embedded broker's password file.
//!
//! Invariants: a password is typed or piped, never an argument; the file is replaced as a whole and is 0600 from the
//! start.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::args::Passwd;
use super::{Error, Exit, Out};
use crate::model::Secret;

pub(super) fn run(args: &Passwd, out: &mut Out) -> Result<Exit, Error> {
    let password = password(&args.user, out)?;
    let line = pgmoor_broker::password_line(&args.user, password.expose()).map_err(Error::PasswordLine)?;
    match &args.file {
        None => out.line(&line)?,
        Some(path) => {
            put(path, &args.user, &line)?;
            out.note(&format!("{} is in {}; the broker reads it when it starts", args.user, path.display()));
        }
    }
    Ok(Exit::Done)
}

fn password(user: &str, out: &mut Out) -> Result<Secret, Error> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let _silence = Silence::begin().map_err(|errno| Error::ReadPassword(errno.into()))?;
    out.ask(&format!("password of {user}: "));
    let first = read_line()?;
    out.ask("\nonce more: ");
    let second = read_line()?;
    out.note("");
    if first == second { Ok(first) } else { Err(Error::PasswordsDiffer) }
}

fn read_line() -> Result<Secret, Error> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(Error::ReadPassword)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}

/// The terminal shows nothing of what is typed while this lives.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that went away shows nothing anyway.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Puts the line into the file, in the place of the user's old one or at the end.
fn put(path: &Path, user: &str, line: &str) -> Result<(), Error> {
    let failed = |source| Error::WriteFile { path: path.to_owned(), source };
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::ReadFile { path: path.to_owned(), source }),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(with_line(&before, user, line).as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(failed)
}

fn with_line(before: &str, user: &str, line: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut placed = false;
    for old in before.lines() {
        let same = old.split_once(':').is_some_and(|(name, _)| name == user);
        if !same {
            lines.push(old);
        } else if !placed {
            lines.push(line);
            placed = true;
        }
    }
    if !placed {
        lines.push(line);
    }
    format!("{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_users_line_is_replaced_in_place() {
        assert_eq!(with_line("", "anna", "anna:1"), "anna:1\n");
        assert_eq!(with_line("# x\nanna:0\nbert:0\nanna:2\n", "anna", "anna:1"), "# x\nanna:1\nbert:0\n");
        assert_eq!(with_line("annabel:0\n", "anna", "anna:1"), "annabel:0\nanna:1\n");
    }

    #[test]
    fn the_file_is_private_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        put(&path, "anna", "anna:1").unwrap();
        put(&path, "bert", "bert:1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "anna:1\nbert:1\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
