//! One round by message: publish a spec, write a row, publish the delete.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use pgmoor::contract::Topic;
use pgmoor::model::Scope;
use pgmoor::mqtt::{Message, Session};

use super::site::{Database, Site};
use super::sql;

/// How long the broker may take to acknowledge.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);

/// From the publish to the row.
pub(super) async fn round(site: &Site, session: &Session, database: &Database) -> anyhow::Result<Duration> {
    let topic = Topic::Spec(database.id.clone()).to_string(&site.fleet);
    let spec = Message::retained(topic.as_str(), database.spec());
    let begun = Instant::now();
    let publish = async { session.publish(&spec, ACKNOWLEDGED).await.context("publish the spec") };
    tokio::try_join!(publish, sql::until_role_writes(database)).with_context(|| format!("make {}", database.id))?;
    let took = begun.elapsed();

    let delete = Message::retained(topic, r#"{"deleted":true}"#);
    session.publish(&delete, ACKNOWLEDGED).await.context("publish the delete")?;
    site.gone(&site.fleet, &Scope::Database(database.id.clone()).label()).await?;
    Ok(took)
}
