//! A database that nobody remembers.

use super::super::pass::Next;
use super::site::Site;
use crate::contract::topics::Topic;
use crate::store::Rows as _;

#[tokio::test(start_paused = true)]
async fn what_a_lost_store_told_of_it_is_cleared_by_a_delete() {
    let site = &Site::new().await;
    site.publish(r#"{"deleted": true}"#).await;
    assert_eq!(site.look().await, Next::Gone);
    let waiting = site.shared.store.read(|reader| reader.messages_after(None, usize::MAX)).unwrap();
    for topic in Topic::all_reports(&site.id, [&site.shared.world.facts.host]) {
        let topic = topic.to_string(&site.shared.world.fleet);
        let cleared = waiting.iter().any(|waiting| waiting.message.topic == topic && waiting.message.clears());
        assert!(cleared, "{topic}");
    }
}
