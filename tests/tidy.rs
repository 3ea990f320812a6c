//! The tidy test: it holds the borders between the rooms, keeps the pure rooms pure, asks for a head on every file,
//! and keeps files short.
//!
//! The table below is the one of the architecture page: a room may use those named beside it, and all may use `model`.
//! Comments and texts are not read. That these rules can fail is tested on planted sources.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A room, and the rooms that it may use besides `model` and itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("contract", &[]),
    ("domain", &[]),
    ("plan", &[]),
    ("flow", &[]),
    ("report", &["contract", "plan", "flow"]),
    ("runtime", &[]),
    ("store", &["contract", "plan", "flow"]),
    ("drivers", &["runtime"]),
    ("mqtt", &["contract", "runtime"]),
    ("intake", &["contract", "domain", "report", "flow", "store", "mqtt", "runtime"]),
    ("world", &["domain", "plan", "drivers", "runtime"]),
    ("execute", &["domain", "plan", "drivers", "world", "runtime"]),
    ("reconcile", &["contract", "domain", "plan", "report", "store", "drivers", "world", "execute", "runtime"]),
    ("operate", &["domain", "plan", "flow", "report", "store", "drivers", "world", "runtime"]),
    ("monitor", &["contract", "domain", "report", "store", "drivers", "world", "execute", "runtime"]),
    ("agent", &["contract", "domain", "plan", "store", "drivers", "mqtt", "world", "execute", "runtime"]),
    ("outbox", &["contract", "store", "mqtt", "runtime"]),
    ("cli", &["contract", "domain", "plan", "report", "mqtt", "drivers", "runtime"]),
];

/// What knows all rooms: `app` serves, `main` chooses between it and `cli`, `lib` lists them.
const ABOVE_THE_ROOMS: &[&str] = &["app", "main", "lib"];

/// Rooms without clock, network, disk and async.
const PURE: &[&str] = &["model", "contract", "domain", "plan", "flow", "report"];

/// What a pure room may not name. Addresses (`std::net::IpAddr`) are values and allowed.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "async fn",
    ".await",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "getrandom",
    "bollard",
    "redb",
    "reqwest",
    "rumqttc",
    "tokio_postgres",
];

/// Lines that a file may have.
const LINES_MAX: usize = 500;

/// Files that are longer, with the most lines each may have. The list only shrinks: no entry is added or raised.
const OVERLONG: &[(&str, usize)] = &[];

/// Folders whose sources are read.
const FOLDERS: &[&str] = &["src", "broker", "tests", "benches"];

#[test]
fn rooms_keep_to_their_borders() {
    expect_none(sources().iter().flat_map(|(path, text)| border_faults(path, text)));
}

#[test]
fn pure_rooms_are_pure() {
    expect_none(sources().iter().flat_map(|(path, text)| purity_faults(path, text)));
}

#[test]
fn every_file_has_a_head() {
    expect_none(sources().iter().filter_map(|(path, text)| head_fault(path, text)));
}

#[test]
fn files_are_short() {
    let lines = sources().into_iter().map(|(path, text)| (path, text.lines().count())).collect();
    expect_none(length_faults(&lines, OVERLONG));
}

fn expect_none(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<String> = faults.into_iter().collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// All Rust sources by their path from the root.
fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).filter(|path| path.exists()).collect();
    let mut sources = BTreeMap::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                sources.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(sources.contains_key("tests/tidy.rs"), "the sources were found");
    sources
}

/// The room of a source file: the first folder or file under `src`.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    Some(inside.split('/').next()?.trim_end_matches(".rs"))
}

fn border_faults(path: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of(path) else { return Vec::new() };
    if ABOVE_THE_ROOMS.contains(&room) {
        return Vec::new();
    }
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{path}: {room} is no room of the architecture: add it to the table there and here")];
    };
    used_rooms(&code_of(text))
        .into_iter()
        .filter(|used| used != room && used != "model" && !allowed.contains(&used.as_str()))
        .map(|used| format!("{path}: room {room} may not use {used}"))
        .collect()
}

/// The rooms, and `app`, that paths in the code lead to: `crate::x`, `crate::{x, y}`, `pgmoor::x`, and chains of
/// `super` that end at one of their names.
fn used_rooms(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for prefix in ["crate::", "pgmoor::", "super::super::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code.get(..at).and_then(|before| before.chars().next_back());
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = code.get(at + prefix.len()..).unwrap_or_default().trim_start_matches("super::");
            used.extend(first_names(rest));
        }
    }
    let names = |used: &String| ROOMS.iter().any(|(name, _)| name == used) || used == "app";
    used.retain(names);
    used
}

/// The first segment of a path, or of each path in a group.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.trim_start().strip_prefix('{') else { return vec![word(rest)] };
    let mut names = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            ',' | '}' => {
                names.push(word(group.get(start..at).unwrap_or_default()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

fn purity_faults(path: &str, text: &str) -> Vec<String> {
    if !room_of(path).is_some_and(|room| PURE.contains(&room)) {
        return Vec::new();
    }
    let code = code_of(text);
    IMPURE
        .iter()
        .filter(|word| names_word(&code, word))
        .map(|word| format!("{path}: a pure room may not name {word}"))
        .collect()
}

fn names_word(code: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        let after = code.get(at + word.len()..).and_then(|after| after.chars().next());
        (word.starts_with('.') || !inside(before)) && !inside(after)
    })
}

/// A head is a `//!` line with a sentence, before any code but inner attributes.
fn head_fault(path: &str, text: &str) -> Option<String> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
    let has_head =
        first.and_then(|line| line.strip_prefix("//!")).is_some_and(|head| head.split_whitespace().count() >= 3);
    (!has_head).then(|| format!("{path}: no `//!` head that says its one job"))
}

fn length_faults(lines: &BTreeMap<String, usize>, overlong: &[(&str, usize)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, count) in lines {
        let max = overlong.iter().find(|(name, _)| name == path).map_or(LINES_MAX, |(_, max)| *max);
        if *count > max {
            faults.push(format!("{path}: {count} lines, at most {max}"));
        }
    }
    for (path, max) in overlong {
        match lines.get(*path) {
            Some(count) if *count > LINES_MAX && count == max => {}
            Some(count) if *count > LINES_MAX && count < max => {
                faults.push(format!("{path}: {count} lines now: lower its entry from {max}"));
            }
            Some(count) if *count > *max => {}
            Some(_) | None => faults.push(format!("{path}: not overlong any more: remove its entry")),
        }
    }
    faults
}

/// The source without comments and without what stands in texts and characters.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted_len(rest),
            'r' if !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => raw_len(rest).unwrap_or(0),
            '\'' => char_len(rest).unwrap_or(0),
            _ => 0,
        };
        if skipped == 0 {
            code.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        } else {
            code.push(' ');
            rest = rest.get(skipped..).unwrap_or_default();
        }
    }
    code
}

fn quoted_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_len(rest: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    rest.get(1 + hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let from = 2 + hashes;
    Some(rest.get(from..)?.find(&end).map_or(rest.len(), |at| from + at + end.len()))
}

/// A character literal, not a lifetime.
fn char_len(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return inside.get(2..)?.find('\'').map(|at| at + 4);
    }
    let first = inside.chars().next()?;
    inside.get(first.len_utf8()..)?.starts_with('\'').then(|| first.len_utf8() + 2)
}

#[test]
fn a_crossed_border_is_found() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        let found = border_faults(path, text);
        let expected: Vec<String> = expected.iter().map(|fault| format!("{path}: {fault}")).collect();
        assert_eq!(found, expected, "{text}");
    };
    check("src/plan/x.rs", "use crate::store::Store;", &["room plan may not use store"]);
    check("src/plan/x.rs", "fn f() { crate::drivers::read(); }", &["room plan may not use drivers"]);
    check("src/plan/x.rs", "use crate::{model::{Kind, store}, mqtt::{a, b}};", &["room plan may not use mqtt"]);
    check("src/plan/deep/x.rs", "use super::super::store::Store;", &["room plan may not use store"]);
    check("src/cli/x.rs", "use pgmoor::store::Store;", &["room cli may not use store"]);
    check("src/cli/x.rs", "use crate::app::App;", &["room cli may not use app"]);
    check("src/outbox.rs", "use crate::reconcile::x;", &["room outbox may not use reconcile"]);
    check("src/attic/x.rs", "", &["attic is no room of the architecture: add it to the table there and here"]);
    check("src/store/x.rs", "use crate::plan::Plan; use crate::store::x; use crate::model::Kind;", &[]);
    check("src/plan/x.rs", "// use crate::store::Store;\nlet a = \"crate::store::x\"; /* crate::mqtt */", &[]);
    check("src/plan/x.rs", "let a = r#\"crate::store \"::x\"#; let b = '\"'; use mycrate::store;", &[]);
    check("src/app.rs", "use crate::store::Store;", &[]);
    check("tests/live.rs", "use pgmoor::store::Store;", &[]);
}

#[test]
fn an_impure_room_is_found() {
    let finds = |path: &str, text: &str| !purity_faults(path, text).is_empty();
    for text in [
        "use tokio::sync::mpsc;",
        "use std::fs;",
        "std::fs::read(x)",
        "async fn f() {}",
        "f().await;",
        "std::time::SystemTime::now()",
        "use std::net::TcpStream;",
        "getrandom::fill(&mut x)",
    ] {
        assert!(finds("src/plan/x.rs", text), "{text}");
        assert!(!finds("src/drivers/x.rs", text), "{text}");
    }
    for text in ["use std::net::IpAddr;", "let my_tokio = 1;", "// tokio", "let redbird = 1;", "\"std::fs\""] {
        assert!(!finds("src/plan/x.rs", text), "{text}");
    }
}

#[test]
fn a_missing_head_is_found() {
    for text in ["", "use x;\n//! Too late for a head.", "//!", "//! Two words", "// A plain comment is no head."] {
        assert!(head_fault("src/x.rs", text).is_some(), "{text}");
    }
    for text in ["//! Its one job.", "#![cfg(test)]\n\n//! Its one job, after an attribute."] {
        assert_eq!(head_fault("src/x.rs", text), None);
    }
}

#[test]
fn a_long_file_is_found() {
    let lines = |count| BTreeMap::from([("a.rs".to_owned(), count)]);
    assert_eq!(length_faults(&lines(500), &[]).len(), 0);
    assert_eq!(length_faults(&lines(501), &[]).len(), 1);
    assert_eq!(length_faults(&lines(600), &[("a.rs", 600)]).len(), 0);
    assert_eq!(length_faults(&lines(601), &[("a.rs", 600)]).len(), 1);
    assert_eq!(length_faults(&lines(599), &[("a.rs", 600)]), ["a.rs: 599 lines now: lower its entry from 600"]);
    assert_eq!(length_faults(&lines(400), &[("a.rs", 600)]).len(), 1);
    assert_eq!(length_faults(&lines(400), &[("b.rs", 600)]).len(), 1);
}
