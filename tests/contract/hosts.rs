//! The line between hosts: what one says the other hears, on every broker, as its user, and again after its restart.

use std::time::Duration;

use pgmoor::agent::{Heard, Laid, Line, Wire};
use pgmoor::contract::topics::filters;
use pgmoor::mqtt::Message;
use pgmoor::runtime::Random;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::brokers::{PATIENCE, Running, identity, topic};

crate::against_every_broker!(hosts_hear_each_other_and_again_after_a_restart);

/// Says it until it is heard: the line loses what is said while one of the two is not connected.
async fn said_until_heard(line: &dyn Line, heard: &mut mpsc::Receiver<Heard>, topic: &str) {
    let word = Heard { topic: topic.to_owned(), payload: b"word".to_vec() };
    let heard = async {
        loop {
            let said = line.say(topic, b"word").await;
            let hears = timeout(Duration::from_millis(300), heard.recv()).await;
            if let (Ok(()), Ok(Some(hears))) = (said, hears) {
                return hears;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, heard).await.expect("it is heard"), word);
}

async fn hosts_hear_each_other_and_again_after_a_restart(mut broker: Running) {
    let (work, answers) = (topic("hosts/host-2/work"), topic("hosts/host-2/answers"));
    let lay = |filter| Wire::lay(broker.options("controller"), vec![filter], Random::System);
    let Laid { line: leads, arriving: mut answered, run: lead } = lay(filters::answers(&identity().fleet));
    let Laid { line: does, arriving: mut asked, run: follow } = lay(work.clone());
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    for run in [lead, follow] {
        tasks.spawn(run(stop.clone()));
    }
    said_until_heard(&*leads, &mut asked, &work).await;
    said_until_heard(&*does, &mut answered, &answers).await;

    // What a broker keeps is nobody's work.
    let session = broker.session("controller").await;
    session.publish(&Message::retained(work.clone(), "kept"), PATIENCE).await.unwrap();
    session.close().await;
    broker.stop().await;
    assert!(leads.say(&work, b"lost").await.is_err(), "without a broker nothing is said");
    broker.start_again().await;
    while asked.try_recv().is_ok() {}
    said_until_heard(&*leads, &mut asked, &work).await;
    said_until_heard(&*does, &mut answered, &answers).await;
    stop.cancel();
    while tasks.join_next().await.is_some() {}
}
