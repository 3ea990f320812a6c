//! What the outbox needs of a link to a broker.

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::store::OutMessage;

/// Becomes ready when the broker has the message, or will not get it.
pub type Receipt = BoxFuture<'static, Result<(), PublishError>>;

/// Why a message was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The connection is gone, or the answer did not come: whether the broker has the message is not known.
    #[error("not acknowledged: {why}")]
    Lost {
        /// What happened.
        why: String,
    },
    /// The broker refuses this message, and would refuse it again.
    #[error("the broker refuses the message on {topic}: {why}")]
    Refused {
        /// The topic.
        topic: String,
        /// The broker's reason.
        why: String,
    },
}

/// A link that publishes at QoS 1.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Waits until there is a connection and gives its number. May be dropped while it waits.
    async fn ready(&self) -> u64;

    /// Sends the message on this connection and no other, after those of earlier calls: on the next connection it
    /// would overtake what this one lost. The receipt says when the broker has it.
    ///
    /// # Errors
    /// The message cannot be sent, or the connection is no longer the one.
    async fn send(&self, connection: u64, message: &OutMessage) -> Result<Receipt, PublishError>;
}
