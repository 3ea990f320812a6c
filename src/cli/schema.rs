//! What the binary carries with it for other tools: JSON Schemas and completions.

use super::args::{Completions, Schema};
use super::{Error, Exit, Out};
use crate::contract::schema::{Kind, schema};

pub(super) fn run(args: &Schema, out: &mut Out) -> Result<Exit, Error> {
    let Some(name) = &args.kind else {
        let lines: String = Kind::ALL.into_iter().map(|kind| format!("{}\n", kind.as_str())).collect();
        out.text(&lines)?;
        return Ok(Exit::Done);
    };
    let Some(kind) = Kind::parse(name) else {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        return Err(Error::NoKind { kind: name.clone(), kinds });
    };
    out.text(schema(kind))?;
    Ok(Exit::Done)
}

pub(super) fn completions(args: &Completions, mut program: clap::Command, out: &mut Out) -> Result<Exit, Error> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
