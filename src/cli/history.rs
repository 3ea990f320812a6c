//! `history`, `diff` and `rollback`: what was accepted and done, and the way back.

use super::args::{Diff, History, Rollback};
use super::ask::{Request, ask, rejected};
use super::{Context, Error, Exit, Out, render, trash};
use crate::contract::commands::{DIFF, DiffRequest, HISTORY, Nothing, ROLLBACK, RollbackRequest};

pub(super) async fn history(context: &Context<'_>, args: &History, out: &mut Out) -> Result<Exit, Error> {
    let answer = ask(context, &Request::of(&args.database, HISTORY, &Nothing {})?).await?;
    let Some(history) = &answer.history else {
        return rejected(&args.database, &answer.faults, args.output.format, out);
    };
    out.document(args.output.format, history, |style| render::history(&args.database, history, style))?;
    Ok(Exit::Done)
}

pub(super) async fn diff(context: &Context<'_>, args: &Diff, out: &mut Out) -> Result<Exit, Error> {
    let request = Request::of(&args.database, DIFF, &DiffRequest { from: args.from, to: args.to })?;
    let answer = ask(context, &request).await?;
    let Some(diff) = &answer.diff else {
        return rejected(&args.database, &answer.faults, args.output.format, out);
    };
    out.document(args.output.format, diff, |style| render::diff(diff, style))?;
    Ok(Exit::Done)
}

pub(super) async fn rollback(context: &Context<'_>, args: &Rollback, out: &mut Out) -> Result<Exit, Error> {
    let answer = ask(context, &Request::of(&args.database, ROLLBACK, &RollbackRequest { to: args.to })?).await?;
    trash::published(context, (&args.database, &answer), (args.wait, args.output.format), out).await
}
