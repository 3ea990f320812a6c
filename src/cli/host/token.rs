//! `host token`: a token that lets one new host in. It follows from the fleet's key, so no daemon is asked, and nobody has
//! to remember it until it is used.

use super::super::args::HostToken;
use super::super::{Context, Error, Exit, Out};
use super::key_file;
use crate::contract::documents::Time;
use crate::domain::layout;
use crate::drivers::certificates::certificate_digest;
use crate::drivers::join::JoinToken;
use crate::drivers::seal::FleetKey;
use crate::model::TaskId;

pub(in crate::cli) fn run(context: &Context<'_>, args: &HostToken, out: &mut Out) -> Result<Exit, Error> {
    let key = key_file(context);
    if !key.exists() {
        return Err(Error::NoFleetKey(key));
    }
    let path = layout::ca_file(&context.options.data_dir);
    let authority = std::fs::read_to_string(&path).map_err(|source| Error::ReadFile { path: path.into(), source })?;
    let key = FleetKey::load_or_create(&key)?;
    let id = TaskId::parse(&format!("t{:016x}", context.random.next_u64())).map_err(Error::NotAnId)?;
    let life_s = i64::try_from(args.expires.as_secs()).unwrap_or(i64::MAX);
    let expires_at_s = (context.clock.now_ms() / 1000).saturating_add(life_s);
    let fleet = &context.options.fleet;
    let token = JoinToken::new(&key, fleet, &id, expires_at_s, &certificate_digest(&authority)?)?;
    out.line(token.to_text().expose())?;
    let until = Time::from_ms(expires_at_s.saturating_mul(1000));
    out.note(&format!("it lets one host into fleet {fleet}, until {until}: pgmoor host join TOKEN"));
    out.note("whoever has it gets the key of the fleet: hand it over as you would a password");
    Ok(Exit::Done)
}
