//! Every generated file of the contract, as path and content: schemas, AsyncAPI, tables in the documentation.
//!
//! `make generate` writes them (the test binary `spec` with `PGMOOR_WRITE=1`), a test fails when one differs.
//! Invariant: equal types and tables give equal bytes.

use std::fmt::Write as _;

use super::access::{self, User};
use super::asyncapi;
use super::commands::{FLEET_VERBS, VERBS};
use super::faults::Code;
use super::schema::{self, Kind};
use super::topics::{Publisher, ROOT, Retained, TABLE};

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path from the project's root.
    pub path: String,
    /// Its content.
    pub content: String,
}

/// All generated files.
#[must_use]
pub fn files() -> Vec<File> {
    let mut files: Vec<File> = Kind::ALL.into_iter().filter(|kind| kind.has_own_schema()).map(schema_file).collect();
    files.push(File { path: "schemas/asyncapi.yaml".to_owned(), content: asyncapi::yaml() });
    files.push(File { path: "docs/faults.md".to_owned(), content: faults() });
    files.push(File { path: "docs/topics.md".to_owned(), content: topics() });
    files.push(File { path: "broker/mosquitto/pgmoor.acl".to_owned(), content: access::list("FLEET", &User::usual()) });
    files
}

fn schema_file(kind: Kind) -> File {
    let schema = schema::value(kind);
    // A value of serde_json always prints; an empty file would fail the test that compares it.
    let mut content = serde_json::to_string_pretty(&schema).unwrap_or_default();
    content.push('\n');
    File { path: format!("schemas/v1/{}.schema.json", kind.as_str()), content }
}

const HEAD: &str = "<!-- Generated from the code by `make generate`; edits here are lost. -->\n\n";

fn faults() -> String {
    let mut text = format!("{HEAD}# Faults\n\n");
    text.push_str(
        "Whoever publishes something that pgmoor refuses gets every fault at once, in `status.verdict.faults` or in \
         the answer to a command. A fault has a `code` from the table, a `pointer` (JSON pointer, RFC 6901; of \
         something missing: where it should be), a `message` for people, and a `hint`: the one in the table, \
         or one that knows more. Codes are stable.\n\n\
         | code | meaning | hint |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        line(&mut text, &format!("| `{}` | {} | {} |", code.as_str(), code.describe(), code.remedy()));
    }
    text
}

fn topics() -> String {
    let mut text = format!("{HEAD}# Topics\n\n");
    let intro = format!(
        "All topics start with `{ROOT}/`. Everything is QoS 1, JSON, UTF-8. Ids are lowercase letters, digits and \
         single hyphens. R: the broker keeps the last message; W: and the last will sets it; E: until it expires. \
         Topics without a document are reserved: this build neither reads nor publishes them.\n\n\
         | topic | | who | document | what |\n|---|---|---|---|---|"
    );
    line(&mut text, &intro);
    for row in TABLE {
        let retained = match row.retained {
            Retained::No => "",
            Retained::Yes => "R",
            Retained::Will => "R W",
            Retained::Expires => "R E",
        };
        let who = match row.publisher {
            Publisher::User => "user",
            Publisher::Pgmoor => "pgmoor",
        };
        let document = row.document.map_or(String::new(), link);
        let address = row.address();
        line(&mut text, &format!("| `{address}` | {retained} | {who} | {document} | {} |", row.description));
    }
    for (head, rows) in [(COMMANDS, &VERBS[..]), (FLEET_COMMANDS, &FLEET_VERBS[..])] {
        text.push_str(head);
        for row in rows {
            let payload = link(row.payload);
            line(&mut text, &format!("| `{}` | {payload} | {} |", row.name, row.description));
        }
    }
    text
}

const COMMANDS: &str = "\n## Commands\n\nPublished on `databases/{db}/commands/{verb}`, never retained. One that comes twice \
with the same correlation data within 24 hours is done once. The answer names the digest of the payload, so that a client \
without MQTT 5 knows its own.\n\n| verb | payload | what |\n|---|---|---|\n";

const FLEET_COMMANDS: &str =
    "\nOn `commands/{verb}`, about the whole fleet:\n\n| verb | payload | what |\n|---|---|---|\n";

/// A link to the schema of a kind.
fn link(kind: Kind) -> String {
    format!("[{}](../schemas/v1/{}.schema.json)", kind.as_str(), kind.schema_name())
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{line}");
}
