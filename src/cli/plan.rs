//! `plan`: asks the fleet's controller what a spec would change, and shows the answer.

use super::args::{Format, Plan as Args};
use super::ask::{Request, ask, rejected};
use super::input::Spec;
use super::{Context, Error, Exit, Out, render};
use crate::contract::commands::PLAN;
use crate::contract::documents::{CommandOutcome, PlanDoc};

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let spec = Spec::read(&args.spec)?;
    spec.publishable()?;
    let question = Request { database: &spec.database, verb: PLAN, payload: spec.bytes.clone(), timeout: args.timeout };
    let answer = ask(context, &question).await?;
    match answer.plan {
        Some(document) if answer.result == CommandOutcome::Accepted => show(&document, args.output.format, out),
        Some(_) | None => rejected(&spec.database, &answer.faults, args.output.format, out),
    }
}

/// Shows a plan; its exit code says whether there is anything to do. What waits is still to be done.
pub(super) fn show(document: &PlanDoc, format: Format, out: &mut Out) -> Result<Exit, Error> {
    out.document(format, document, |style| render::plan(document, style))?;
    Ok(if document.is_empty() && document.waiting.is_empty() { Exit::Done } else { Exit::Changes })
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::Written;
    use super::*;
    use crate::model::Digest;

    #[test]
    fn what_waits_is_still_to_be_done() {
        let document = |waiting: serde_json::Value| -> PlanDoc {
            serde_json::from_value(serde_json::json!({
                "database": "shop", "state": "proposed", "digest": Digest::of_bytes(b"").to_string(),
                "counts": {"create": 0, "update": 0, "recreate": 0, "delete": 0}, "disruption": "none",
                "stages": [], "waiting": waiting, "updated_at": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        let written = Written::default();
        let mut out = Out::to(Box::new(written.clone()), Box::new(std::io::sink()));
        let nothing = show(&document(serde_json::json!([])), Format::Text, &mut out).unwrap();
        assert_eq!(nothing, Exit::Done);
        let waits = show(&document(serde_json::json!([{"reason": "r"}])), Format::Text, &mut out).unwrap();
        assert_eq!(waits, Exit::Changes);
        assert!(written.text().contains("nothing to do now, 1 waiting"));
    }
}
