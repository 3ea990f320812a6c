//! `pg_hba.conf`: which lines Postgres can load, and which one decides about a login.

/// Kinds of connections.
const TYPES: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];

/// Methods that Postgres knows.
const METHODS: [&str; 12] =
    ["trust", "reject", "scram-sha-256", "md5", "password", "gss", "sspi", "ident", "peer", "ldap", "radius", "cert"];

/// A line that can be loaded.
struct Line<'a> {
    kind: &'a str,
    databases: &'a str,
    users: &'a str,
    address: Option<&'a str>,
    method: &'a str,
}

fn parse(line: &str) -> Result<Option<Line<'_>>, String> {
    let mut words = line.split_whitespace();
    let Some(kind) = words.next().filter(|word| !word.starts_with('#')) else { return Ok(None) };
    if !TYPES.contains(&kind) {
        return Err(format!("invalid connection type \"{kind}\""));
    }
    let mut next = |what: &str| words.next().ok_or_else(|| format!("end-of-line before {what} specification"));
    let databases = next("database")?;
    let users = next("role")?;
    let address = if kind == "local" { None } else { Some(next("IP address")?) };
    let mut method = next("authentication method")?;
    // An address may be followed by a mask in a field of its own.
    if address.is_some() && method.parse::<std::net::IpAddr>().is_ok() {
        method = next("authentication method")?;
    }
    if !METHODS.contains(&method) {
        return Err(format!("invalid authentication method \"{method}\""));
    }
    Ok(Some(Line { kind, databases, users, address, method }))
}

/// What Postgres says about lines that it cannot load; empty when it loads them all.
pub(super) fn errors(lines: &[String]) -> Vec<String> {
    let numbered = lines.iter().enumerate();
    numbered.filter_map(|(at, line)| parse(line).err().map(|why| format!("line {}: {why}", at + 1))).collect()
}

/// The method that decides about a TLS login from another machine; none when no line is about it.
pub(super) fn method<'a>(lines: &'a [String], user: &str, database: &str) -> Option<&'a str> {
    let named = |list: &str, name: &str| list.split(',').any(|word| word == "all" || word.trim_matches('"') == name);
    let remote = |address: &str| !matches!(address, "127.0.0.1/32" | "::1/128" | "localhost" | "samehost");
    let lines = lines.iter().filter_map(|line| parse(line).ok().flatten());
    lines
        .filter(|line| matches!(line.kind, "host" | "hostssl") && line.address.is_some_and(remote))
        .find(|line| named(line.users, user) && named(line.databases, database))
        .map(|line| line.method)
}
