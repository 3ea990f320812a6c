//! From `docker kill` of an instance's container to the message on the database's health topic.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use pgmoor::contract::Topic;
use pgmoor::contract::documents::HealthDoc;
use pgmoor::domain::layout;
use pgmoor::drivers::swarm::Labels;
use pgmoor::model::{Health, InstanceId, NodeName, Scope};
use pgmoor::mqtt::{Message, Session, Subscription};
use pgmoor::runtime::within;
use tokio::process::Command;

use super::site::{Database, FLEET_LABEL, Site};
use super::sql;

/// How long the broker may take to answer.
const ANSWERED: Duration = Duration::from_secs(10);
/// How long until health is told: of a database that was made, or whose container was killed.
const TOLD: Duration = Duration::from_secs(120);
/// How long it stands between two kills, so that Swarm's own delays of one do not count for the next.
const REST: Duration = Duration::from_secs(3);
/// The label that Swarm puts on a container of a service.
const SERVICE_LABEL: &str = "com.docker.swarm.service.name";

/// Kills so often; gives what each took, from the start of `docker kill` to the message.
pub(super) async fn rounds(
    site: &Site,
    session: &Session,
    database: &Database,
    rounds: usize,
) -> anyhow::Result<Vec<Duration>> {
    let topic = Topic::Spec(database.id.clone()).to_string(&site.fleet);
    session.publish(&Message::retained(topic.as_str(), database.spec()), ANSWERED).await.context("publish the spec")?;
    sql::until_role_writes(database).await?;
    let health = Topic::Health(database.id.clone()).to_string(&site.fleet);
    let mut told = session.subscribe(&[health], ANSWERED).await.context("follow the health")?;
    let mut took = Vec::new();
    for number in 1..=rounds {
        until(&mut told, "it is healthy", |health| health == Health::Healthy).await?;
        tokio::time::sleep(REST).await;
        let container = container(site, database).await?;
        let begun = Instant::now();
        let mut docker = Command::new("docker");
        let killed = docker.args(["kill", &container]).kill_on_drop(true).output();
        let kill = async {
            let output = killed.await.context("run docker")?;
            if !output.status.success() {
                bail!("docker kill: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(())
        };
        let hear = async {
            until(&mut told, "its death is told", |health| health != Health::Healthy).await?;
            Ok(begun.elapsed())
        };
        let ((), after) = tokio::try_join!(kill, hear)?;
        eprintln!("first_sql: kill {number} of {rounds}: told after {} ms", after.as_millis());
        took.push(after);
    }
    drop(told);
    let delete = Message::retained(topic, r#"{"deleted":true}"#);
    session.publish(&delete, ANSWERED).await.context("publish the delete")?;
    site.gone(&site.fleet, &Scope::Database(database.id.clone()).label()).await?;
    Ok(took)
}

/// The running container of the database's instance.
async fn container(site: &Site, database: &Database) -> anyhow::Result<String> {
    let node = NodeName::parse("n1").map_err(|why| anyhow::anyhow!("{why}"))?;
    let instance = InstanceId::derive(&database.id, &node, &site.host);
    let labels = Labels::from([
        (FLEET_LABEL.to_owned(), site.fleet.to_string()),
        (SERVICE_LABEL.to_owned(), layout::service(&instance)),
    ]);
    let containers = site.swarm.containers(&labels).await?;
    let running = containers.into_iter().find(|container| container.state == "running");
    Ok(running.context("the instance has a running container")?.id)
}

async fn until(told: &mut Subscription, what: &str, so: impl Fn(Health) -> bool) -> anyhow::Result<()> {
    let heard = async {
        loop {
            let message = told.next().await?;
            let document: HealthDoc = serde_json::from_slice(&message.payload).context("read a health document")?;
            if so(document.health) {
                return anyhow::Ok(());
            }
        }
    };
    within("a message on the health topic", TOLD, heard).await.with_context(|| format!("until {what}"))?
}
