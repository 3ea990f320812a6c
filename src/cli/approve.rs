//! `approve`: a person's word for what a plan interrupts.

use super::args::Approve as Args;
use super::ask::{Request, ask, rejected};
use super::{Context, Error, Exit, Out};
use crate::contract::commands::APPLY;
use crate::contract::documents::{Approve, CommandOutcome, to_bytes};

pub(super) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let database = &args.database;
    let payload = to_bytes(&Approve { digest: args.digest.clone() });
    let answer = ask(context, &Request { database, verb: APPLY, payload, timeout: args.timeout }).await?;
    if answer.result == CommandOutcome::Rejected {
        return rejected(database, &answer.faults, args.output.format, out);
    }
    out.document(args.output.format, &answer, |_| {
        format!("approved; `pgmoor status {database} -w` shows what becomes of it\n")
    })?;
    Ok(Exit::Done)
}
