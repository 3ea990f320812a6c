//! What follows the method of a `pg_hba.conf` line: options, as Postgres 17 takes them for this type and this method.

/// Options of a method, besides those of any method.
const LDAP: [&str; 12] = [
    "ldapbasedn",
    "ldapbinddn",
    "ldapbindpasswd",
    "ldapport",
    "ldapprefix",
    "ldapscheme",
    "ldapsearchattribute",
    "ldapsearchfilter",
    "ldapserver",
    "ldapsuffix",
    "ldaptls",
    "ldapurl",
];
const RADIUS: [&str; 4] = ["radiusidentifiers", "radiusports", "radiussecrets", "radiusservers"];

/// Judges the options, each with its name before the first `=`. A message names options, never their values.
pub(super) fn judge(options: &[&str], kind: &str, method: &str) -> Result<(), String> {
    let mut known: Vec<(&str, &str)> = Vec::new();
    for option in options {
        let Some((name, value)) = option.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err("what follows the method must be name=value".to_owned());
        };
        one(name, value, kind, method)?;
        known.push((name, value));
    }
    let given = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    match method {
        "ldap" => ldap(&given),
        "radius" => radius(&given),
        _ => Ok(()),
    }
}

fn one(name: &str, value: &str, kind: &str, method: &str) -> Result<(), String> {
    let of_methods = |methods: &[&str]| match methods.contains(&method) {
        true => Ok(()),
        false => Err(format!("the option {name} is for the methods {}", methods.join(", "))),
    };
    let words = |words: &[&str]| match words.contains(&value) {
        true => Ok(()),
        false => Err(format!("the option {name} is one of {}", words.join(", "))),
    };
    match name {
        "map" => of_methods(&["ident", "peer", "gss", "cert"]),
        "clientcert" | "clientname" if kind != "hostssl" => Err(format!("the option {name} is for hostssl entries")),
        "clientcert" if method == "cert" => words(&["verify-full"]),
        "clientcert" => words(&["verify-ca", "verify-full"]),
        "clientname" => words(&["CN", "DN"]),
        "pamservice" | "pam_use_hostname" => of_methods(&["pam"]),
        "krb_realm" | "include_realm" => of_methods(&["gss"]),
        "ldapscheme" => of_methods(&["ldap"]).and_then(|()| words(&["ldap", "ldaps"])),
        "ldapport" => of_methods(&["ldap"]).and_then(|()| port(name, value)),
        "ldapurl" if method == "ldap" && !["ldap://", "ldaps://"].iter().any(|scheme| value.starts_with(scheme)) => {
            Err("the option ldapurl begins with ldap:// or ldaps://".to_owned())
        }
        "radiusports" => of_methods(&["radius"]).and_then(|()| list(value).try_for_each(|one| port(name, one))),
        name if LDAP.contains(&name) => of_methods(&["ldap"]),
        name if RADIUS.contains(&name) => of_methods(&["radius"]),
        _ => Err("there is an option that Postgres does not know".to_owned()),
    }
}

fn port(name: &str, value: &str) -> Result<(), String> {
    match value.trim().parse::<u16>() {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) => Err(format!("the option {name} is a port from 1 to 65535")),
    }
}

fn ldap<'a>(given: &dyn Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    let any = |names: &[&str]| names.iter().any(|name| given(name).is_some());
    let bind = any(&["ldapprefix", "ldapsuffix"]);
    if bind
        && any(&["ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl"])
    {
        return Err("the method ldap takes ldapprefix and ldapsuffix, or the options of a search".to_owned());
    }
    if !bind && !any(&["ldapbasedn", "ldapurl"]) {
        return Err("the method ldap asks for ldapprefix, ldapsuffix or ldapbasedn".to_owned());
    }
    if any(&["ldapsearchattribute"]) && any(&["ldapsearchfilter"]) {
        return Err("the method ldap takes ldapsearchattribute or ldapsearchfilter, not both".to_owned());
    }
    Ok(())
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// Each server has a secret of its own, or all have one; so have ports and identifiers.
fn radius<'a>(given: &dyn Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    let count = |name: &str| given(name).filter(|value| !value.is_empty()).map(|value| list(value).count());
    let (Some(servers), Some(_)) = (count("radiusservers"), count("radiussecrets")) else {
        return Err("the method radius asks for radiusservers and radiussecrets".to_owned());
    };
    for name in ["radiussecrets", "radiusports", "radiusidentifiers"] {
        if count(name).is_some_and(|count| count != 1 && count != servers) {
            return Err(format!("the option {name} has one entry, or as many as radiusservers"));
        }
    }
    Ok(())
}

/// What is wrong with a regular expression (a name with a slash before it), as far as brackets and repetitions go.
pub(super) fn regex(text: &str) -> Result<(), String> {
    let mut open = 0_usize;
    let mut repeatable = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                rest.next().ok_or("a regular expression ends with a backslash")?;
                repeatable = true;
            }
            '[' => {
                // A closing bracket that comes first stands for itself.
                rest.next_if_eq(&'^');
                rest.next_if_eq(&']');
                if !rest.by_ref().any(|c| c == ']') {
                    return Err("a regular expression has a [ without its ]".to_owned());
                }
                repeatable = true;
            }
            '(' => {
                open += 1;
                // (?: (?= (?! (?<= (?<!
                if rest.next_if_eq(&'?').is_some() {
                    rest.next();
                }
                repeatable = false;
            }
            ')' => {
                open = open.checked_sub(1).ok_or("a regular expression has a ) without its (")?;
                repeatable = true;
            }
            '*' | '+' | '?' if !repeatable => {
                return Err("a regular expression repeats nothing".to_owned());
            }
            '*' | '+' | '?' => {
                // A second question mark makes it non-greedy; nothing else may follow.
                rest.next_if_eq(&'?');
                repeatable = false;
            }
            '|' | '^' => repeatable = false,
            _ => repeatable = true,
        }
    }
    if open > 0 { Err("a regular expression has a ( without its )".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_fit_type_and_method() {
        for (kind, method, options) in [
            ("hostssl", "scram-sha-256", &["clientcert=verify-full"][..]),
            ("hostssl", "cert", &["map=office", "clientname=DN"]),
            ("local", "peer", &["map=office"]),
            ("host", "ldap", &["ldapserver=x", "ldapprefix=cn=", "ldapport=389"]),
            ("host", "ldap", &["ldapurl=ldap://x/dc=example?uid?sub"]),
            ("host", "pam", &["pamservice=postgresql"]),
            ("host", "radius", &["radiusservers=a,b", "radiussecrets=x", "radiusports=1812"]),
            ("host", "gss", &["include_realm=1", "krb_realm=X"]),
            ("host", "md5", &[]),
        ] {
            assert_eq!(judge(options, kind, method), Ok(()), "{kind} {method} {options:?}");
        }
    }

    #[test]
    fn others_are_refused() {
        for (kind, method, options, says) in [
            ("host", "scram-sha-256", &["clientcert=verify-full"][..], "hostssl"),
            ("hostssl", "md5", &["clientcert=1"], "verify-ca, verify-full"),
            ("hostssl", "cert", &["clientcert=verify-ca"], "verify-full"),
            ("host", "md5", &["map=x"], "for the methods"),
            ("host", "md5", &["hunter2=hunter2"], "does not know"),
            ("host", "md5", &["hunter2"], "name=value"),
            ("host", "ldap", &["ldapserver=x"], "asks for"),
            ("host", "ldap", &["ldapprefix=x", "ldapbasedn=y"], "search"),
            ("host", "ldap", &["ldapbasedn=y", "ldapport=0"], "port"),
            ("host", "ldap", &["ldapbasedn=y", "ldapscheme=http"], "ldap, ldaps"),
            ("host", "radius", &["radiusservers=a"], "radiussecrets"),
            ("host", "radius", &["radiusservers=a", "radiussecrets=x,y"], "as many"),
        ] {
            let message = judge(options, kind, method).expect_err(says);
            assert!(message.contains(says) && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn regular_expressions() {
        for good in ["^app_", "a|b", "(a|b)+", "[]x]*", "[^]]", "a??", "(?:x)y", "\\d+", "", "^(.*)@example\\.com$"] {
            assert_eq!(regex(good), Ok(()), "{good}");
        }
        for bad in ["[", "[]", "(", "a)", "*a", "a\\", "a**", "(+a)", "a|?"] {
            assert!(regex(bad).is_err(), "{bad}");
        }
    }
}
