//! The connection to the Docker engine: made when first needed, its API version negotiated, every call under a
//! deadline, every error in our words.
//!
//! Invariant: no answer is `Unreachable`, never `NotFound`. Docker's own words are kept: they name objects, not secrets.

use std::future::Future;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::{API_DEFAULT_VERSION, Docker as Client};
use tokio::sync::Mutex;

use crate::drivers::{Error, Result};

/// How long one call may take. The engine answers in milliseconds; a manager without a quorum answers after 5 s.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// A connection that is made again when the engine was away or was replaced by another version.
#[derive(Debug)]
pub(super) struct Connection {
    socket: String,
    client: Mutex<Option<Client>>,
}

/// What a missing object means for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The call is about that object: `NotFound`.
    NotFound,
    /// The call makes something that needs it (a network, an image): `Failed` with Docker's words.
    Failed,
}

impl Connection {
    pub(super) fn new(socket: String) -> Self {
        Self { socket, client: Mutex::new(None) }
    }

    /// One call, under the usual deadline.
    pub(super) async fn call<T, F, Fut>(&self, act: &str, missing: Missing, call: F) -> Result<T>
    where
        F: FnOnce(Client) -> Fut + Send,
        Fut: Future<Output = std::result::Result<T, DockerError>> + Send,
    {
        self.call_within(act, missing, CALL_DEADLINE, call).await
    }

    /// One call, under a deadline of its own.
    pub(super) async fn call_within<T, F, Fut>(
        &self,
        act: &str,
        missing: Missing,
        deadline: Duration,
        call: F,
    ) -> Result<T>
    where
        F: FnOnce(Client) -> Fut + Send,
        Fut: Future<Output = std::result::Result<T, DockerError>> + Send,
    {
        let client = self.client(act).await?;
        let result = match tokio::time::timeout(deadline, call(client)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => {
                if speaks_another_version(&error) {
                    *self.client.lock().await = None;
                    return Err(Error::Unreachable { act: act.to_owned(), why: error.to_string() });
                }
                map(act, missing, &error)
            }
            Err(_) => {
                Error::Unreachable { act: act.to_owned(), why: format!("no answer within {} s", deadline.as_secs()) }
            }
        };
        if matches!(result, Error::Unreachable { .. }) {
            // Perhaps the engine was replaced: negotiate again next time.
            *self.client.lock().await = None;
        }
        Err(result)
    }

    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// The client, connected and speaking the engine's version.
    pub(super) async fn client(&self, act: &str) -> Result<Client> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref() {
            return Ok(client.clone());
        }
        let unreachable = |why: String| Error::Unreachable { act: act.to_owned(), why };
        // bollard's own timeout covers only the time to the answer's head; ours lies around the whole call.
        let fresh = Client::connect_with_unix(&self.socket, CALL_DEADLINE.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| unreachable(error.to_string()))?;
        let client = tokio::time::timeout(CALL_DEADLINE, fresh.negotiate_version())
            .await
            .map_err(|_| unreachable(format!("the engine did not say its version at {}", self.socket)))?
            .map_err(|error| unreachable(format!("{} at {}", chain(&error), self.socket)))?;
        *kept = Some(client.clone());
        Ok(client)
    }
}

/// Whether the engine was replaced by one that no longer speaks the negotiated version.
fn speaks_another_version(error: &DockerError) -> bool {
    matches!(error, DockerError::DockerResponseServerError { status_code: 400, message } if message.contains("client version"))
}

/// Our words for an error of Docker's.
pub(super) fn map(act: &str, missing: Missing, error: &DockerError) -> Error {
    let act = act.to_owned();
    if let DockerError::DockerResponseServerError { status_code, message } = error {
        return answer(act, missing, *status_code, message);
    }
    let why = chain(error);
    let answered = matches!(
        error,
        DockerError::DockerStreamError { .. }
            | DockerError::JsonDataError { .. }
            | DockerError::JsonSerdeError { .. }
            | DockerError::URLEncodedError { .. }
            | DockerError::InvalidURIError { .. }
            | DockerError::InvalidURIPartsError { .. }
    );
    if answered { Error::Failed { act, why } } else { Error::Unreachable { act, why } }
}

fn answer(act: String, missing: Missing, status: u16, message: &str) -> Error {
    let why = message.trim().to_owned();
    // Swarm's manager passes on what its store said; the HTTP status is 500 for all of these.
    let no_quorum = [
        "does not have a leader",
        // Said by a manager that led when it was asked, and was cut off: nobody knows what became of the change.
        "lost leader status",
        "DeadlineExceeded",
        "code = Unavailable",
        "context deadline exceeded",
    ];
    // 20.10 answers 400 or 403 where an object is in use, later engines 409.
    let in_use = ["is in use by", "has active endpoints", "update out of sequence"];
    if matches!(status, 502..=504) || no_quorum.iter().any(|words| why.contains(words)) {
        Error::Unreachable { act, why }
    } else if status == 409 || in_use.iter().any(|words| why.contains(words)) {
        Error::Conflict { act, why }
    } else if status == 404 && missing == Missing::NotFound {
        Error::NotFound { act }
    } else {
        Error::Failed { act, why }
    }
}

/// An error with what caused it, for the transport's own errors say little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(status: u16, message: &str, missing: Missing) -> Error {
        let error = DockerError::DockerResponseServerError { status_code: status, message: message.to_owned() };
        map("act", missing, &error)
    }

    #[test]
    fn answers_of_docker_have_their_meaning() {
        let why = |why: &str| ("act".to_owned(), why.to_owned());
        for (status, message, missing, wanted) in [
            (404, "service x not found", Missing::NotFound, Error::NotFound { act: "act".to_owned() }),
            (404, "network x not found", Missing::Failed, {
                let (act, why) = why("network x not found");
                Error::Failed { act, why }
            }),
            (409, "name conflicts with an existing object", Missing::Failed, {
                let (act, why) = why("name conflicts with an existing object");
                Error::Conflict { act, why }
            }),
            (400, "network 8q is in use by service gg", Missing::NotFound, {
                let (act, why) = why("network 8q is in use by service gg");
                Error::Conflict { act, why }
            }),
            (500, "rpc error: code = Unknown desc = update out of sequence", Missing::Failed, {
                let (act, why) = why("rpc error: code = Unknown desc = update out of sequence");
                Error::Conflict { act, why }
            }),
            (503, "This node is not a swarm manager.", Missing::NotFound, {
                let (act, why) = why("This node is not a swarm manager.");
                Error::Unreachable { act, why }
            }),
            (500, "rpc error: The swarm does not have a leader.", Missing::NotFound, {
                let (act, why) = why("rpc error: The swarm does not have a leader.");
                Error::Unreachable { act, why }
            }),
            (500, "rpc error: code = Unknown desc = raft: failed: node lost leader status", Missing::Failed, {
                let (act, why) = why("rpc error: code = Unknown desc = raft: failed: node lost leader status");
                Error::Unreachable { act, why }
            }),
            (500, "boom", Missing::NotFound, {
                let (act, why) = why("boom");
                Error::Failed { act, why }
            }),
        ] {
            assert_eq!(mapped(status, message, missing), wanted);
        }
        assert!(matches!(map("act", Missing::NotFound, &DockerError::RequestTimeoutError), Error::Unreachable { .. }));
    }

    #[tokio::test]
    async fn no_engine_is_unreachable() {
        let connection = Connection::new("/nowhere/docker.sock".to_owned());
        let seen = connection.call("ask", Missing::NotFound, |client| async move { client.info().await }).await;
        assert!(matches!(seen, Err(Error::Unreachable { .. })), "{seen:?}");
    }
}
