//! Which deliveries of a connection are still to be acknowledged.
//!
//! Invariants: acknowledgements leave in the order of the deliveries, whatever order they are given in (the embedded
//! broker's engine ends the connection otherwise); one that belongs to an earlier connection is worth nothing, since
//! packet ids begin anew with each. The window holds what the broker sent and we did not acknowledge, so the broker's
//! own limit bounds it.

use std::collections::VecDeque;

/// Stands for one delivery, and for the connection that it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckToken {
    epoch: u64,
    number: u64,
}

impl AckToken {
    /// The token of the delivery with this number, from 0, on the connection with this epoch: for a link that is not
    /// this room's own.
    #[must_use]
    pub const fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }

    /// The number of the connection.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// The number of the delivery on its connection, from 0.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }
}

/// The window of one connection; `A` is what has to be sent for an acknowledgement.
#[derive(Debug)]
pub(super) struct Window<A> {
    epoch: u64,
    /// Number of the oldest entry.
    first: u64,
    entries: VecDeque<Entry<A>>,
}

#[derive(Debug)]
struct Entry<A> {
    /// None: nothing is sent for it (QoS 0).
    ack: Option<A>,
    done: bool,
}

impl<A> Window<A> {
    /// The window of a new connection. The epoch grows with each.
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, first: 0, entries: VecDeque::new() }
    }

    /// A delivery came in.
    pub(super) fn arrived(&mut self, ack: Option<A>) -> AckToken {
        let number = self.first + self.entries.len() as u64;
        self.entries.push_back(Entry { ack, done: false });
        AckToken { epoch: self.epoch, number }
    }

    /// A delivery is done with: what may be sent now, oldest first.
    pub(super) fn done(&mut self, token: AckToken) -> Vec<A> {
        let mut due = Vec::new();
        let position = token.number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if token.epoch != self.epoch {
            return due;
        }
        let Some(entry) = position.and_then(|at| self.entries.get_mut(at)) else { return due };
        entry.done = true;
        while self.entries.front().is_some_and(|entry| entry.done) {
            self.first += 1;
            due.extend(self.entries.pop_front().and_then(|entry| entry.ack));
        }
        due
    }

    /// Deliveries that are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn acknowledgements_wait_for_their_elders() {
        let mut window = Window::new(1);
        let tokens: Vec<_> = [Some('a'), None, Some('c'), Some('d')].map(|ack| window.arrived(ack)).into();
        assert!(window.done(tokens[2]).is_empty());
        assert!(window.done(tokens[1]).is_empty());
        assert_eq!(window.done(tokens[0]), ['a', 'c']);
        assert_eq!(window.len(), 1);
        assert!(window.done(tokens[0]).is_empty(), "twice is once");
        assert_eq!(window.done(tokens[3]), ['d']);
    }

    #[test]
    fn a_token_of_an_earlier_connection_is_worth_nothing() {
        let mut before = Window::new(1);
        let stale = before.arrived(Some('x'));
        let mut after = Window::new(2);
        let fresh = after.arrived(Some('y'));
        assert!(after.done(stale).is_empty());
        assert_eq!(after.done(fresh), ['y']);
    }

    proptest! {
        #[test]
        fn all_leave_in_order_whatever_order_they_are_done_in(order in Just((0..50usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut window = Window::new(7);
            let tokens: Vec<_> = (0..50).map(|n| window.arrived(Some(n))).collect();
            let sent: Vec<i32> = order.iter().flat_map(|&at| window.done(tokens[at])).collect();
            prop_assert_eq!(sent, (0..50).collect::<Vec<_>>());
            prop_assert_eq!(window.len(), 0);
        }
    }
}
