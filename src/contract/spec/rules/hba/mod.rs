//! `pg_hba_conf` and `pg_ident_conf`: lines that Postgres takes. A line that it does not take makes it refuse the
//! whole file, at a start for good, so this parser is as strict as Postgres' own, and stricter where pgmoor's own roles
//! are concerned. A message never repeats a line: options may hold a password.

mod options;

use std::net::IpAddr;

use super::Check;
use crate::contract::faults::{Code, pointer};

const SYSTEM: [&str; 2] = ["pgmoor", "patroni_replicator"];

/// The methods of a Postgres as Debian builds it; reference 1.6 leaves them unchecked.
const METHODS: [&str; 11] =
    ["trust", "reject", "scram-sha-256", "md5", "password", "gss", "ident", "peer", "ldap", "cert", "pam"];

/// Methods that need a server of their own and are otherwise as the others.
const RADIUS: &str = "radius";

/// What is wrong with a line.
type Wrong = (Code, String);

pub(super) fn check(check: &mut Check<'_>) {
    let spec = check.spec;
    lines(check, &spec.pg_hba_conf, "/pg_hba_conf", hba);
    lines(check, &spec.pg_ident_conf, "/pg_ident_conf", ident);
    for (index, node) in spec.nodes.iter().flatten().enumerate() {
        lines(check, &node.pg_hba_conf, &format!("/nodes/{index}/pg_hba_conf"), hba);
        lines(check, &node.pg_ident_conf, &format!("/nodes/{index}/pg_ident_conf"), ident);
    }
}

/// Whether a line of `pg_hba.conf` has an option that holds a password.
pub(in crate::contract::spec) fn line_holds_secret(line: &str) -> bool {
    let options = fields(line).unwrap_or_default();
    let mut options = options.iter().flatten().filter_map(|word| word.text.split_once('='));
    options.any(|(name, _)| ["ldapbindpasswd", "radiussecrets"].contains(&name))
}

fn lines(check: &mut Check<'_>, lines: &[String], place: &str, judge: fn(&str) -> Result<(), Wrong>) {
    for (index, line) in lines.iter().enumerate() {
        if let Err((code, message)) = judge(line) {
            check.add(code, pointer(place, index), message);
        }
    }
}

/// A word of a line.
struct Word {
    text: String,
    /// A quoted word loses its special meaning (`all`, `@file`, `/regex`).
    quoted: bool,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// The fields of a line, each a list of words that commas part. A comment ends the line.
fn fields(line: &str) -> Result<Vec<Vec<Word>>, String> {
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a line cannot have line breaks or control characters".to_owned());
    }
    if line.ends_with('\\') {
        return Err("a line cannot go on in the next one".to_owned());
    }
    let mut fields: Vec<Vec<Word>> = Vec::new();
    let mut rest = line.chars().peekable();
    let mut list_goes_on = false;
    loop {
        while rest.next_if(is_blank).is_some() {}
        match rest.peek() {
            None | Some('#') => break,
            Some(_) => {}
        }
        let word = word(&mut rest)?;
        match fields.last_mut().filter(|_| list_goes_on) {
            Some(list) => list.push(word),
            None => fields.push(vec![word]),
        }
        list_goes_on = rest.next_if_eq(&',').is_some();
    }
    if list_goes_on { Err("a list ends with a comma".to_owned()) } else { Ok(fields) }
}

/// What parts words in Postgres. Other white space (a no-break space out of a web page) is a letter there.
fn is_blank(c: &char) -> bool {
    matches!(c, ' ' | '\t')
}

fn word(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Word, String> {
    let mut word = Word { text: String::new(), quoted: false };
    let mut inside = false;
    while let Some(c) = rest.peek().copied() {
        if !inside && (is_blank(&c) || c == ',' || c == '#') {
            break;
        }
        rest.next();
        if c == '"' {
            inside = !inside;
            word.quoted = true;
        } else {
            word.text.push(c);
        }
    }
    if inside {
        return Err("unterminated quoted string".to_owned());
    }
    if word.text.is_empty() && !word.quoted {
        return Err("a list has an empty place".to_owned());
    }
    Ok(word)
}

fn hba(line: &str) -> Result<(), Wrong> {
    let wrong = |message: String| (Code::InvalidHba, format!("invalid pg_hba entry: {message}"));
    let fields = fields(line).map_err(wrong)?;
    let mut rest = fields.iter();
    let Some(kind) = rest.next() else { return Ok(()) };
    let [kind] = kind.as_slice() else {
        return Err(wrong("one connection type is asked for".to_owned()));
    };
    let local = match kind.text.as_str() {
        "local" => true,
        "host" | "hostssl" | "hostnossl" | "hostgssenc" | "hostnogssenc" => false,
        "include" | "include_if_exists" | "include_dir" => {
            return Err(wrong("other files cannot be included".to_owned()));
        }
        other => return Err(wrong(format!("unknown connection type \"{}\"", short(other)))),
    };
    let shape = if local {
        "local entry requires a database, a user and a method"
    } else {
        "host entry requires a database, a user, an address and a method"
    };
    let (Some(databases), Some(users)) = (rest.next(), rest.next()) else {
        return Err(wrong(shape.to_owned()));
    };
    names(databases).map_err(wrong)?;
    names(users).map_err(wrong)?;
    if let Some(own) = users.iter().find(|user| SYSTEM.contains(&user.text.as_str())) {
        let message = format!("invalid pg_hba entry: who logs in as \"{}\" is pgmoor's to say", own.text);
        return Err((Code::ReservedName, message));
    }
    if !local {
        let Some([address]) = rest.next().map(Vec::as_slice) else {
            return Err(wrong(shape.to_owned()));
        };
        if address_needs_mask(address).map_err(wrong)? {
            mask(rest.next(), address).map_err(wrong)?;
        }
    }
    let Some([method]) = rest.next().map(Vec::as_slice) else {
        return Err(wrong(shape.to_owned()));
    };
    method_fits(&method.text, &kind.text).map_err(wrong)?;
    let options: Vec<&str> = rest.flatten().map(|option| option.text.as_str()).collect();
    options::judge(&options, &kind.text, &method.text).map_err(wrong)
}

/// The first characters of a word that is no secret by its place.
fn short(word: &str) -> String {
    word.chars().take(20).collect()
}

fn names(list: &[Word]) -> Result<(), String> {
    if list.iter().any(|word| !word.quoted && word.text.starts_with('@')) {
        return Err("names cannot be read from a file".to_owned());
    }
    if list.iter().any(|word| word.text.is_empty()) {
        return Err("a name is empty".to_owned());
    }
    if list.iter().any(|word| !word.quoted && word.text.contains(|c: char| c.is_whitespace())) {
        return Err("a name has white space that is none to Postgres (a no-break space?)".to_owned());
    }
    list.iter().filter_map(|word| word.text.strip_prefix('/')).try_for_each(options::regex)
}

/// Whether the address is an IP address whose mask is the next field.
fn address_needs_mask(word: &Word) -> Result<bool, String> {
    if ["all", "samehost", "samenet"].iter().any(|keyword| word.is(keyword)) {
        return Ok(false);
    }
    if let Some((address, bits)) = word.text.split_once('/') {
        let most = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return Err("the address before the slash is no IP address".to_owned()),
        };
        let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        return match bits.parse::<u8>() {
            Ok(bits) if digits && bits <= most => Ok(false),
            Ok(_) | Err(_) => Err(format!("the number after the slash must be 0 to {most}")),
        };
    }
    if word.text.parse::<IpAddr>().is_ok() {
        return Ok(true);
    }
    let host = word.text.strip_prefix('.').unwrap_or(&word.text);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let numeric = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if host.is_empty() || numeric || !host.chars().all(fits) {
        return Err("the address is neither an IP address nor a host name".to_owned());
    }
    Ok(false)
}

fn mask(field: Option<&Vec<Word>>, address: &Word) -> Result<(), String> {
    let missing = || "an IP address needs /bits, or a mask after it".to_owned();
    let Some([mask]) = field.map(Vec::as_slice) else { return Err(missing()) };
    let (Ok(address), Ok(mask)) = (address.text.parse::<IpAddr>(), mask.text.parse::<IpAddr>()) else {
        return Err(missing());
    };
    if address.is_ipv4() == mask.is_ipv4() { Ok(()) } else { Err("address and mask are of two families".to_owned()) }
}

fn method_fits(method: &str, kind: &str) -> Result<(), String> {
    if method == RADIUS || METHODS.contains(&method) {
        return match (method, kind) {
            ("peer", kind) if kind != "local" => Err("the method peer is for local entries".to_owned()),
            ("cert", kind) if kind != "hostssl" => Err("the method cert is for hostssl entries".to_owned()),
            ("gss", "local") => Err("the method gss is not for local entries".to_owned()),
            _ => Ok(()),
        };
    }
    Err(format!("unknown method; known are {}, {RADIUS}", METHODS.join(", ")))
}

fn ident(line: &str) -> Result<(), Wrong> {
    let wrong = |message: &str| (Code::InvalidIdent, format!("invalid pg_ident entry: {message}"));
    let fields = fields(line).map_err(|message| wrong(&message))?;
    let [map, system, role] = fields.as_slice() else {
        if fields.is_empty() {
            return Ok(());
        }
        return Err(wrong("a map, a system user and a database user are asked for"));
    };
    let ([map], [system], [role]) = (map.as_slice(), system.as_slice(), role.as_slice()) else {
        return Err(wrong("a map, a system user and a database user cannot be lists"));
    };
    for user in [system, role] {
        user.text.strip_prefix('/').map_or(Ok(()), options::regex).map_err(|message| wrong(&message))?;
    }
    if map.text.starts_with("include") && !map.quoted {
        return Err(wrong("other files cannot be included"));
    }
    if map.text == "pgmoor" || SYSTEM.contains(&role.text.as_str()) {
        let message = "invalid pg_ident entry: the map \"pgmoor\" and the system's roles are pgmoor's own".to_owned();
        return Err((Code::ReservedName, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_postgres_takes() {
        for line in [
            "",
            "  # a comment",
            "local all all scram-sha-256",
            "local\tall\tapp\tpeer map=x",
            "host all all 10.0.0.0/8 scram-sha-256",
            "host shop,\"Other DB\" app,+group 192.168.1.1 255.255.255.255 md5 # why",
            "hostssl all all ::/0 cert clientcert=verify-full",
            "hostnossl replication all samenet reject",
            "host all /^app_ .example.com ldap ldapserver=x ldapprefix=\"cn=\"",
            "host sameuser all all trust",
            "host all \"@quoted\" all password",
            "host all, shop all all password",
        ] {
            assert_eq!(hba(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn lines_that_postgres_refuses() {
        for (line, says) in [
            ("hostx all all all md5", "unknown connection type \"hostx\""),
            ("local all all", "local entry requires"),
            ("host all all md5", "host entry requires"),
            ("host all", "host entry requires"),
            ("host all \"all 10.0.0.0/8 md5", "unterminated quoted string"),
            ("host all all 10.0.0.0/33 md5", "0 to 32"),
            ("host all all 10.0.0.0/ md5", "0 to 32"),
            ("host all all 10.0.0/8 md5", "no IP address"),
            ("host all all 10.0.0.300 md5", "neither"),
            ("host all all 10.0.0.1 md5", "needs /bits"),
            ("host all all 10.0.0.1 ffff:: md5", "two families"),
            ("host all all all magic", "unknown method"),
            ("host all all all peer", "peer is for local"),
            ("host all all all cert", "cert is for hostssl"),
            ("host all all all md5 x", "name=value"),
            ("host all @admins all md5", "read from a file"),
            ("host all,, all all md5", "empty place"),
            ("include other.conf", "included"),
            ("local all all trust \\", "next one"),
            ("local all all trust\nlocal all all trust", "line breaks"),
            ("host all all all md5,", "comma"),
            ("host all all 10.0.0.0/8 scram-sha-256 clientcert=verify-full", "hostssl"),
            ("host all all 10.0.0.0/8 md5 colour=red", "does not know"),
            ("host all all 10.0.0.0/8 ldap", "asks for"),
            ("host all /[ all md5", "regular expression"),
            ("host all\u{a0}all all all md5", "no-break space"),
            ("host all a\u{a0}b all md5", "no-break space"),
        ] {
            let (code, message) = hba(line).expect_err(line);
            assert_eq!(code, Code::InvalidHba, "{line}");
            assert!(message.contains(says), "{line}: {message}");
        }
        assert_eq!(hba("local all app,pgmoor trust").map_err(|(code, _)| code), Err(Code::ReservedName));
    }

    #[test]
    fn passwords_in_lines_are_seen() {
        assert!(line_holds_secret("host all all all ldap ldapbasedn=x ldapbinddn=y \"ldapbindpasswd=z z\""));
        assert!(line_holds_secret("host all all all radius radiusservers=a radiussecrets=b"));
        assert!(!line_holds_secret("host all all all ldap ldapserver=x ldapprefix=cn= # ldapbindpasswd=z"));
        assert!(!line_holds_secret("host all \"all"));
    }

    #[test]
    fn ident_lines() {
        for line in ["", "#", "m root app", "m /^(.*)@x$ \\1", "\"a b\" \"c d\" e"] {
            assert_eq!(ident(line), Ok(()), "{line}");
        }
        for line in ["m", "m root", "m root app more", "m a,b c", "m /( app", "include_dir x y", "m \"root app"] {
            assert_eq!(ident(line).map_err(|(code, _)| code), Err(Code::InvalidIdent), "{line}");
        }
        for line in ["pgmoor root app", "m root pgmoor"] {
            assert_eq!(ident(line).map_err(|(code, _)| code), Err(Code::ReservedName), "{line}");
        }
    }
}
