//! Every packet between a client and the engine goes through here. The engine
//! speaks MQTT 5 only: to a 3.1.1 subscriber it would panic at the first message
//! with properties. So what a 3.1.1 client says becomes MQTT 5, and what it
//! hears is stripped of all that MQTT 3.1.1 does not know.
//!
//! Invariants:
//! - the engine gets whole, well-formed packets that a client may send, and
//!   nothing at which it panics: a task of it that panics leaves a place taken
//!   for ever, and the next client with that id would lock everybody out;
//! - nothing for which its router would throw the client out by itself either:
//!   a message of the connection that is still under way then ends the router.
//!   What would lead there ends the connection here instead;
//! - memory is bounded by the largest packet allowed, and grows with what
//!   arrives, not with what is announced;
//! - whatever the bytes, nothing here panics.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::wire::{Reader, Version, put_length};

/// The packet types, as the upper half of a first byte.
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x60;
const PUBCOMP: u8 = 0x70;
const SUBSCRIBE: u8 = 0x80;
const SUBACK: u8 = 0x90;
const UNSUBSCRIBE: u8 = 0xa0;
const UNSUBACK: u8 = 0xb0;
const PINGREQ: u8 = 0xc0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;

/// Properties of a PUBLISH that only the broker may set, or that were not
/// offered: subscription identifier and topic alias.
const NOT_FROM_CLIENTS: [u8; 2] = [0x0b, 0x23];
/// DISCONNECT reason by which a client asks for its own will.
const WITH_WILL: u8 = 0x04;
/// Capacity that a buffer keeps after a larger packet went through, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

/// This connection must end: a packet that is malformed, or too large, or one
/// that this side may not send now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Whether more may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// More may follow.
    Open,
    /// This side said good-bye; a client may ask for its will all the same.
    Ended {
        /// The will is to be published.
        with_will: bool,
    },
}

/// What both directions of one connection know together.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Open>);

/// What is under way. The engine holds at most 100 messages under way for a
/// client, and these lists mirror its own.
#[derive(Default)]
struct Open {
    /// Messages to the client, by id, until PUBACK or PUBREC: the engine wants
    /// them in order.
    sent: VecDeque<u16>,
    /// PUBREL to the client until PUBCOMP: in order too.
    released: VecDeque<u16>,
    /// Messages of QoS 2 from the client that it has not released.
    received: u64,
    /// Pings that the engine has not answered.
    pings: u64,
}

impl Ledger {
    fn with<T>(&self, act: impl FnOnce(&mut Open) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a ping of the front's own.
    pub(crate) fn ping(&self) {
        self.with(|open| open.pings += 1);
    }

    /// Whether the engine answered every ping.
    pub(crate) fn all_pings_answered(&self) -> bool {
        self.with(|open| open.pings == 0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// One direction of one connection: bytes in, whole packets out.
pub(crate) struct Translator<'a> {
    direction: Direction,
    version: Version,
    ledger: &'a Ledger,
    bytes_max: usize,
    pending: Vec<u8>,
}

impl<'a> Translator<'a> {
    /// From a client of this version to the engine; no packet may be larger.
    pub(crate) fn up(version: Version, ledger: &'a Ledger, bytes_max: usize) -> Self {
        Self { direction: Direction::Up, version, ledger, bytes_max, pending: Vec::new() }
    }

    /// From the engine to a client of this version.
    pub(crate) fn down(version: Version, ledger: &'a Ledger, bytes_max: usize) -> Self {
        Self { direction: Direction::Down, ..Self::up(version, ledger, bytes_max) }
    }

    /// Takes the next bytes and appends what the other side shall get, whole
    /// packets only. What follows a good-bye is dropped.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Flow, Broken> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut rest = Reader(&pending);
        let mut flow = Flow::Open;
        while flow == Flow::Open {
            let Some((first, body)) = next_packet(&mut rest, self.bytes_max)? else { break };
            flow = match self.direction {
                Direction::Up => self.client_says(first, body, out),
                Direction::Down => self.engine_says(first, body, out),
            }
            .ok_or(Broken)?;
        }
        let done = pending.len().saturating_sub(rest.0.len());
        pending.drain(..done);
        pending.shrink_to(KEPT_BYTES);
        self.pending = pending;
        Ok(flow)
    }

    fn client_says(&self, first: u8, body: &[u8], out: &mut Vec<u8>) -> Option<Flow> {
        match (first & 0xf0, first & 0x0f) {
            (PUBLISH, _) => self.publish_up(first, body, out)?,
            (PUBACK | PUBREC | PUBCOMP, 0) | (PUBREL, 2) => self.acknowledge_up(first, body, out)?,
            (SUBSCRIBE, 2) => self.filters_up(first, body, out, true)?,
            (UNSUBSCRIBE, 2) => self.filters_up(first, body, out, false)?,
            (PINGREQ, 0) if body.is_empty() => {
                self.ledger.ping();
                out.extend([PINGREQ, 0]);
            }
            (DISCONNECT, 0) => {
                let reason = body.first().copied().unwrap_or(0);
                if self.version == Version::V4 && !body.is_empty() {
                    return None;
                }
                return Some(Flow::Ended { with_will: reason == WITH_WILL });
            }
            _ => return None,
        }
        Some(Flow::Open)
    }

    fn publish_up(&self, first: u8, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut reader = Reader(body);
        let topic = reader.text()?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return None;
        }
        match first >> 1 & 3 {
            0 => {}
            1 => reader.id().map(|_| ())?,
            2 => {
                reader.id()?;
                self.ledger.with(|open| open.received += 1);
            }
            _ => return None,
        }
        let head = before(body, &reader)?;
        match self.version {
            Version::V4 => put_packet(out, first, &[head, &[0], reader.0]),
            Version::V5 => {
                let properties = reader.properties()?;
                if properties.iter().any(|property| NOT_FROM_CLIENTS.contains(&property.id)) {
                    return None;
                }
                put_packet(out, first, &[body]);
            }
        }
        Some(())
    }

    /// The engine makes nothing of reasons and properties, and it ignores a
    /// PUBREL that has some: only the id goes on.
    fn acknowledge_up(&self, first: u8, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut reader = Reader(body);
        let id = reader.id()?;
        self.tail(&mut reader)?;
        let expected = self.ledger.with(|open| match first & 0xf0 {
            PUBCOMP => open.released.pop_front() == Some(id),
            PUBREL => {
                let known = open.received > 0;
                open.received = open.received.saturating_sub(1);
                known
            }
            _ => open.sent.pop_front() == Some(id),
        });
        expected.then(|| put_packet(out, first, &[&id.to_be_bytes()]))
    }

    /// What may follow the id of an acknowledgement: nothing in 3.1.1, a reason
    /// and properties in 5.
    fn tail(&self, reader: &mut Reader<'_>) -> Option<()> {
        if self.version == Version::V5 && !reader.0.is_empty() {
            reader.u8()?;
            if !reader.0.is_empty() {
                reader.properties()?;
            }
        }
        reader.0.is_empty().then_some(())
    }

    fn filters_up(&self, first: u8, body: &[u8], out: &mut Vec<u8>, options: bool) -> Option<()> {
        let mut reader = Reader(body);
        reader.id()?;
        let head = before(body, &reader)?;
        if self.version == Version::V5 {
            // A subscription identifier of 0 is the engine's to refuse otherwise.
            let properties = reader.properties()?;
            if properties.iter().any(|property| property.bytes == [0x0b, 0]) {
                return None;
            }
        }
        let filters = reader.0;
        if filters.is_empty() {
            return None;
        }
        while !reader.0.is_empty() {
            let filter = reader.text()?;
            // The engine throws out whoever subscribes to a `$` topic, and dies
            // of a shared subscription that ends with messages under way.
            if filter.is_empty() || (options && filter.starts_with('$')) {
                return None;
            }
            if options && !self.subscription_options(reader.u8()?) {
                return None;
            }
        }
        match self.version {
            Version::V4 => put_packet(out, first, &[head, &[0], filters]),
            Version::V5 => put_packet(out, first, &[body]),
        }
        Some(())
    }

    fn subscription_options(&self, options: u8) -> bool {
        let known = match self.version {
            Version::V4 => 0b0000_0011,
            Version::V5 => 0b0011_1111,
        };
        options & !known == 0 && options & 3 != 3 && options >> 4 & 3 != 3
    }

    fn engine_says(&self, first: u8, body: &[u8], out: &mut Vec<u8>) -> Option<Flow> {
        let mut reader = Reader(body);
        match first & 0xf0 {
            PUBLISH => {
                reader.binary()?;
                if first & 0b0110 != 0 {
                    let id = reader.id()?;
                    self.ledger.with(|open| open.sent.push_back(id));
                }
                let head = before(body, &reader)?;
                reader.properties()?;
                self.put_down(out, first, body, &[head, reader.0]);
            }
            kind @ (PUBACK | PUBREC | PUBREL | PUBCOMP | UNSUBACK) => {
                let id = reader.id()?;
                if kind == PUBREL {
                    self.ledger.with(|open| open.released.push_back(id));
                }
                self.put_down(out, first, body, &[&id.to_be_bytes()]);
            }
            SUBACK => {
                let id = reader.id()?.to_be_bytes();
                reader.properties()?;
                let codes: Vec<u8> = reader.0.iter().map(|&code| code.min(0x80)).collect();
                self.put_down(out, first, body, &[&id, &codes]);
            }
            PINGRESP => {
                self.ledger.with(|open| open.pings = open.pings.saturating_sub(1));
                self.put_down(out, first, body, &[]);
            }
            DISCONNECT => {
                if self.version == Version::V5 {
                    put_packet(out, first, &[body]);
                }
                return Some(Flow::Ended { with_will: true });
            }
            _ => return None,
        }
        Some(Flow::Open)
    }

    fn put_down(&self, out: &mut Vec<u8>, first: u8, five: &[u8], four: &[&[u8]]) {
        match self.version {
            Version::V4 => put_packet(out, first, four),
            Version::V5 => put_packet(out, first, &[five]),
        }
    }
}

/// Takes the next whole packet: its first byte and its body; `None`: more bytes
/// are needed. An announced length above the bound is refused at once.
fn next_packet<'a>(from: &mut Reader<'a>, bytes_max: usize) -> Result<Option<(u8, &'a [u8])>, Broken> {
    let mut reader = Reader(from.0);
    let Some(first) = reader.u8() else { return Ok(None) };
    let Some(length) = reader.length() else {
        // Four bytes that all announce another one are no length.
        return if reader.0.is_empty() && from.0.len() <= 4 { Ok(None) } else { Err(Broken) };
    };
    if length > bytes_max {
        return Err(Broken);
    }
    let Some(body) = reader.take(length) else { return Ok(None) };
    *from = reader;
    Ok(Some((first, body)))
}

/// The part of a body that was read.
fn before<'a>(body: &'a [u8], reader: &Reader<'_>) -> Option<&'a [u8]> {
    body.get(..body.len().checked_sub(reader.0.len())?)
}

fn put_packet(out: &mut Vec<u8>, first: u8, parts: &[&[u8]]) {
    out.push(first);
    put_length(out, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
