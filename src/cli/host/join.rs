//! `host join`: a new host knocks at the broker with a token, becomes a manager of the fleet's Swarm, and keeps the fleet's
//! key. `pgmoor serve` does the rest.
//!
//! Invariants: a key that is there is never replaced; nothing is written before the answer's authority is the token's;
//! the key comes last, so that whatever fails before it may be tried again with another token.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use super::super::args::HostJoin as Args;
use super::super::link::{Link, nobody_online};
use super::super::output::plain;
use super::super::{Context, Error, Exit, Options, Out, render};
use super::{configuration, key_file};
use crate::contract::documents::{HostAdmission, HostJoin, to_bytes};
use crate::contract::topics::Topic;
use crate::contract::{Code, Fault};
use crate::drivers::join::{JoinToken, Knock, Welcome};
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::{Docker, Swarm as _};
use crate::model::{HostId, TaskId};
use crate::mqtt::{Message, Subscription};

/// How long an answer may take until the host knocks again.
const AGAIN: Duration = Duration::from_secs(5);
/// The pause after a host that cannot let anybody in now.
const PAUSE: Duration = Duration::from_millis(500);
/// How long Docker may take, once it has joined, until it is a manager.
const MANAGER_LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(in crate::cli) async fn run(context: &Context<'_>, args: &Args, out: &mut Out) -> Result<Exit, Error> {
    let token: JoinToken = given(args)?.parse()?;
    // The token says which fleet, whatever the settings of a new host say.
    let options = Options { fleet: token.fleet.clone(), ..context.options.clone() };
    let context = &Context { options: &options, clock: context.clock.clone(), random: context.random.clone() };
    let host = context.options.machine.clone().ok_or(Error::NoHost)?;
    let key = key_file(context);
    if key.exists() {
        return Err(Error::HasFleetKey(key));
    }
    let docker = Docker::new(&context.options.docker_socket);
    let cluster = match docker.engine().await?.swarm_node {
        Some(_) => Some(docker.cluster().await?),
        None => None,
    };
    let welcome = match knock(context, &token, &host, args.timeout).await? {
        Ok(welcome) => welcome,
        Err(faults) => {
            let style = out.style();
            out.text(&render::faults(&faults, style))?;
            return Ok(Exit::Failed);
        }
    };
    if !token.is_of(&welcome.authority_pem) {
        return Err(Error::OtherAuthority);
    }
    match cluster {
        Some(cluster) if cluster == welcome.swarm.cluster => out.line("this host is in the fleet's Swarm already")?,
        Some(_) => return Err(Error::OtherSwarm),
        None => {
            docker.join(&welcome.swarm, context.options.advertise_address).await?;
            manager(&docker).await?;
            out.line("joined the Swarm as a manager")?;
        }
    }
    let folder = &context.options.data_dir;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Error::WriteFile { path: folder.into(), source })?;
    FleetKey::write_new(&key, &welcome.fleet_key)?;
    let (file, fleet) = (&args.write_config, &token.fleet);
    if configuration::write(context, file, fleet, &host)? {
        out.line(&format!("wrote {}", file.display()))?;
    } else {
        out.note(&format!("{} stays as it is; it must say fleet = \"{fleet}\"", file.display()));
    }
    out.line(&format!("{host} is a host of fleet {fleet}: start pgmoor serve"))?;
    Ok(Exit::Done)
}

fn given(args: &Args) -> Result<String, Error> {
    if args.token != "-" {
        return Ok(args.token.clone());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(Error::ReadPassword)?;
    Ok(line)
}

/// Asks until somebody answers.
async fn knock(
    context: &Context<'_>,
    token: &JoinToken,
    host: &HostId,
    limit: Duration,
) -> Result<Result<Welcome, Vec<Fault>>, Error> {
    let topic = Topic::HostJoin(host.clone()).to_string(&token.fleet);
    let id = format!("j{:016x}{:016x}", context.random.next_u64(), context.random.next_u64());
    let id = TaskId::parse(&id).map_err(Error::NotAnId)?;
    let sealed = token.seal(&topic, &id, &Knock { host: host.clone() })?;
    let document = HostJoin {
        id: id.clone(),
        token: token.id.clone(),
        expires_at_s: token.expires_at_s,
        authority: token.authority.clone(),
        sealed,
    };
    let link = Link::connect(context).await?;
    let reply = Topic::HostAdmission(host.clone()).to_string(&token.fleet);
    let mut answers = link.subscribe(std::slice::from_ref(&reply)).await?;
    let message = Message::new(topic, to_bytes(&document));
    let mut declined = None;
    let asking = async {
        loop {
            link.publish(&message).await?;
            match tokio::time::timeout(AGAIN, answer_to(&link, &mut answers, &id)).await {
                // Another host may be able to.
                Ok(Ok(answer)) if answer.faults.iter().any(|fault| fault.code == Code::Unavailable) => {
                    declined = Some(answer);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(answer) => return answer,
                Err(_silence) => {}
            }
        }
    };
    let asked = tokio::time::timeout(limit, asking).await;
    if let (Err(_late), Some(answer)) = (&asked, declined) {
        return Ok(Err(answer.faults));
    }
    let Ok(answer) = asked else {
        let controllers = link.controllers(context).await.unwrap_or_default();
        let controllers = nobody_online(context, link.server(), &controllers)
            .unwrap_or_else(|| format!("is {} the broker of fleet {}?", link.server(), token.fleet));
        return Err(Error::NoAnswer { limit, controllers });
    };
    let answer = answer?;
    link.close().await;
    match answer.sealed {
        Some(sealed) => Ok(Ok(token.open(&reply, &id, &sealed)?)),
        None => Ok(Err(answer.faults)),
    }
}

async fn answer_to(link: &Link, answers: &mut Subscription, id: &TaskId) -> Result<HostAdmission, Error> {
    loop {
        let message = answers.next().await.map_err(|source| link.error(source))?;
        let answer: HostAdmission = serde_json::from_slice(&message.payload)
            .map_err(|error| Error::Unreadable { topic: plain(&message.topic), why: error.to_string() })?;
        if answer.id == *id {
            return Ok(answer);
        }
    }
}

/// Waits until this host is a manager.
async fn manager(docker: &Docker) -> Result<(), Error> {
    let waiting = async {
        while !docker.engine().await.is_ok_and(|engine| engine.manager) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(MANAGER_LIMIT, waiting).await.map_err(|_elapsed| Error::NoManager { limit: MANAGER_LIMIT })
}
