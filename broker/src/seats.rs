//! Who is connected, by client id: a newer connection waits until the older one
//! with its id is gone from the engine.
//!
//! rumqttd gives the number of a replaced connection to its successor and then
//! takes the last word of the replaced one for the successor's: without this
//! order a client that comes back quickly is thrown out again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// All seats. A client without an id of its own needs none.
#[derive(Default)]
pub(crate) struct Seats {
    taken: Mutex<BTreeMap<String, Tokens>>,
}

#[derive(Clone, Default)]
struct Tokens {
    /// The holder must leave: a newer connection has its id.
    leave: CancellationToken,
    /// The holder left; the engine knows that it did.
    left: CancellationToken,
}

/// The seat of one connection, given back when dropped, which must be after the
/// engine closed its side.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    client_id: String,
    tokens: Tokens,
}

impl Seats {
    /// Takes the seat of this client id, asking whoever holds it to leave and
    /// waiting for that; the caller sets the deadline.
    pub(crate) async fn take(self: &Arc<Self>, client_id: &str) -> Seat {
        loop {
            let before = match self.try_take(client_id) {
                Ok(seat) => return seat,
                Err(before) => before,
            };
            before.leave.cancel();
            before.left.cancelled().await;
        }
    }

    fn try_take(self: &Arc<Self>, client_id: &str) -> Result<Seat, Tokens> {
        let tokens = Tokens::default();
        if !client_id.is_empty() {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(before) = taken.get(client_id) {
                return Err(before.clone());
            }
            taken.insert(client_id.to_owned(), tokens.clone());
        }
        Ok(Seat { seats: Arc::clone(self), client_id: client_id.to_owned(), tokens })
    }
}

impl Seat {
    /// Cancelled when a newer connection wants this seat.
    pub(crate) fn leave(&self) -> &CancellationToken {
        &self.tokens.leave
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.client_id.is_empty() {
            let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.remove(&self.client_id);
        }
        self.tokens.left.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn the_newer_waits_until_the_older_left() {
        let seats = Arc::new(Seats::default());
        let older = seats.take("a").await;
        assert!(!older.leave().is_cancelled());
        let newer = timeout(Duration::from_millis(50), seats.take("a")).await;
        assert!(newer.is_err(), "the older has not left");
        assert!(older.leave().is_cancelled());
        drop(older);
        let newer = seats.take("a").await;
        assert!(!newer.leave().is_cancelled());
    }

    #[tokio::test]
    async fn others_and_clients_without_an_id_do_not_meet() {
        let seats = Arc::new(Seats::default());
        let held = [seats.take("a").await, seats.take("b").await, seats.take("").await, seats.take("").await];
        assert!(held.iter().all(|seat| !seat.leave().is_cancelled()));
    }
}
