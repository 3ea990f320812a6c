//! `report`: everything that somebody else needs to understand what went wrong here, in one file without secrets; and
//! `replay`, which makes its decisions again.
//!
//! Invariants: what cannot be reached is named in the manifest and keeps nothing else out; every look has a deadline;
//! nothing gets into the file but through [`draft::Draft::finish`].

mod draft;
mod file;
mod host;
mod redact;
pub(super) mod replay;
mod topics;

use std::path::PathBuf;

use super::args::Report as Args;
use super::output::plain;
use super::{Context, Error, Exit, Out};
use crate::contract::documents::Time;
use draft::{Draft, Finished};

pub(super) async fn report(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let mut draft = Draft::default();
    topics::gather(context, &args.databases, &mut draft).await?;
    host::gather(context, args.log_file.as_deref(), &mut draft).await?;
    let (fleet, now) = (&context.options.fleet, Time::from_ms(context.clock.now_ms()));
    let finished = draft.finish(fleet, now)?;
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("pgmoor-{fleet}-{}.tar.gz", stamp(now))));
    file::write(&path, &finished, context.clock.now_s())?;
    for missing in &finished.manifest.missing {
        out.note(&plain(&format!("not in it: {}: {}", missing.what, missing.why)));
    }
    out.line(&said(&path.display().to_string(), &finished))?;
    Ok(Exit::Done)
}

/// A time as a part of a file's name.
fn stamp(time: Time) -> String {
    let text = time.to_string();
    let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

fn said(path: &str, finished: &Finished) -> String {
    let bytes: usize = finished.manifest.files.values().sum();
    let kilobytes = bytes.div_ceil(1024);
    format!("wrote {}: {} files, {kilobytes} KiB unpacked", plain(path), finished.manifest.files.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FleetId;

    #[test]
    fn the_answer_names_the_file_and_how_much_is_in_it() {
        let mut draft = Draft::default();
        draft.put("a.log", draft::Content::Text("a".repeat(1025)));
        let finished = draft.finish(&FleetId::parse("harbour").unwrap(), Time::from_ms(0)).unwrap();
        assert_eq!(said("x.tar.gz", &finished), "wrote x.tar.gz: 1 files, 2 KiB unpacked");
        assert_eq!(stamp(Time::from_ms(0)), "19700101T000000Z");
    }
}
