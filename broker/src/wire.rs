//! The bytes of MQTT: CONNECT and CONNACK, which the front itself reads and
//! writes, and the fields that every packet is made of. Parsing never allocates more than the packet and answers
//! `None` for anything malformed; what the front does not change is copied
//! byte for byte.

/// Keep-alive given to the engine, in seconds, for a client that asks for none.
pub(crate) const KEEP_ALIVE_LONGEST: u16 = u16::MAX;

const USERNAME: u8 = 0b1000_0000;
const PASSWORD: u8 = 0b0100_0000;
const WILL: u8 = 0b0000_0100;
const CLEAN: u8 = 0b0000_0010;
const RESERVED: u8 = 0b0000_0001;

/// The property "session expiry: never", which is what MQTT 3.1.1 means by a
/// session that is not clean.
const SESSION_FOR_EVER: [u8; 5] = [0x11, 0xff, 0xff, 0xff, 0xff];

const SERVER_KEEP_ALIVE: u8 = 0x13;
const AUTHENTICATION_METHOD: u8 = 0x15;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;

/// The protocol versions that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1
    V4,
    /// MQTT 5
    V5,
}

/// Why a client is refused; each has a CONNACK code in both versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotAuthorized,
    ClientId,
    Full,
    AuthenticationMethod,
    Unavailable,
}

impl Refusal {
    /// The CONNACK packet that says so.
    pub(crate) fn connack(self, version: Version) -> Vec<u8> {
        let (v4, v5) = match self {
            Self::NotAuthorized => (5, 0x87),
            Self::ClientId => (2, 0x85),
            Self::Full => (3, 0x97),
            Self::AuthenticationMethod => (5, 0x8c),
            Self::Unavailable => (3, 0x88),
        };
        match version {
            Version::V4 => vec![0x20, 2, 0, v4],
            Version::V5 => vec![0x20, 3, 0, v5, 0],
        }
    }
}

/// CONNACK "unacceptable protocol version" for clients older than 3.1.1.
pub(crate) const TOO_OLD: [u8; 4] = [0x20, 2, 0, 1];
/// CONNACK "unsupported protocol version" for clients newer than 5.
pub(crate) const TOO_NEW: [u8; 5] = [0x20, 3, 0, 0x84, 0];

/// DISCONNECT "session taken over"; MQTT 3.1.1 has no such word.
pub(crate) fn taken_over(version: Version) -> &'static [u8] {
    match version {
        Version::V4 => &[],
        Version::V5 => &[0xe0, 2, 0x8e, 0],
    }
}

/// What the body of a CONNECT begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Served(Version),
    TooOld,
    TooNew,
}

/// Reads the protocol name and level; `None`: this is not MQTT.
pub(crate) fn opening(body: &[u8]) -> Option<Opening> {
    let mut reader = Reader(body);
    let name = reader.binary()?;
    let level = reader.u8()?;
    match (name, level) {
        (b"MQTT", 4) => Some(Opening::Served(Version::V4)),
        (b"MQTT", 5) => Some(Opening::Served(Version::V5)),
        (b"MQIsdp", _) | (b"MQTT", 0..4) => Some(Opening::TooOld),
        (b"MQTT", _) => Some(Opening::TooNew),
        _ => None,
    }
}

/// A CONNECT packet, in the pieces that the front looks at.
pub(crate) struct Connect<'a> {
    pub(crate) version: Version,
    flags: u8,
    keep_alive: u16,
    properties: Vec<Property<'a>>,
    pub(crate) client_id: &'a str,
    /// Will properties, topic and payload with their lengths, as they came.
    will: &'a [u8],
    pub(crate) user: Option<&'a str>,
    pub(crate) password: Option<&'a [u8]>,
}

impl<'a> Connect<'a> {
    /// Parses the body of a CONNECT (all after the fixed header).
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Option<Self> {
        let mut reader = Reader(body);
        reader.binary()?;
        reader.u8()?;
        let flags = reader.u8()?;
        let keep_alive = reader.u16()?;
        let properties = match version {
            Version::V4 => Vec::new(),
            Version::V5 => reader.properties()?,
        };
        let client_id = reader.text()?;
        let before = reader.0;
        if flags & WILL != 0 {
            if version == Version::V5 {
                reader.properties()?;
            }
            reader.text()?;
            reader.binary()?;
        }
        let will = before.get(..before.len().checked_sub(reader.0.len())?)?;
        let user = if flags & USERNAME != 0 { Some(reader.text()?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        let orphan = version == Version::V4 && user.is_none() && password.is_some();
        if flags & RESERVED != 0 || orphan || !reader.0.is_empty() {
            return None;
        }
        Some(Self { version, flags, keep_alive, properties, client_id, will, user, password })
    }

    /// What a client with this id says that wants nothing else.
    pub(crate) fn clean(client_id: &'a str) -> Self {
        let (version, flags, keep_alive) = (Version::V5, CLEAN, KEEP_ALIVE_LONGEST);
        Self { version, flags, keep_alive, properties: Vec::new(), client_id, will: &[], user: None, password: None }
    }

    /// Whether the client asks for enhanced authentication, which nobody here does.
    pub(crate) fn wants_authentication_exchange(&self) -> bool {
        self.properties.iter().any(|property| property.id == AUTHENTICATION_METHOD)
    }

    /// Whether the keep-alive that the engine gets is not the one asked for.
    pub(crate) fn keep_alive_changes(&self) -> bool {
        self.keep_alive == 0
    }

    /// Whether the broker is to speak for this client when it is lost.
    pub(crate) fn has_will(&self) -> bool {
        self.flags & WILL != 0
    }

    /// Whether MQTT 3.1.1 forbids this: no id, and a session to come back to.
    pub(crate) fn session_of_nobody(&self) -> bool {
        self.version == Version::V4 && self.client_id.is_empty() && self.flags & CLEAN == 0
    }

    /// The packet for the engine, in MQTT 5 whatever the client speaks: same
    /// client, the engine's own credentials, no offer of topic aliases, and a
    /// keep-alive that the engine accepts.
    pub(crate) fn for_engine(&self, user: &str, password: &str) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        put_binary(&mut body, b"MQTT");
        body.push(5);
        body.push(self.flags | USERNAME | PASSWORD);
        let keep_alive = if self.keep_alive == 0 { KEEP_ALIVE_LONGEST } else { self.keep_alive };
        body.extend(keep_alive.to_be_bytes());
        let kept = self.properties.iter().filter(|p| p.id != TOPIC_ALIAS_MAXIMUM);
        let mut kept: Vec<u8> = kept.flat_map(|p| p.bytes).copied().collect();
        if self.version == Version::V4 && self.flags & CLEAN == 0 {
            kept.extend(SESSION_FOR_EVER);
        }
        put_length(&mut body, kept.len());
        body.extend(kept);
        put_binary(&mut body, self.client_id.as_bytes());
        if self.version == Version::V4 && self.has_will() {
            body.push(0);
        }
        body.extend(self.will);
        put_binary(&mut body, user.as_bytes());
        put_binary(&mut body, password.as_bytes());
        packet(0x10, &body)
    }
}

/// The engine's CONNACK for an MQTT 5 client, with what the front knows better:
/// no topic aliases, the largest packet, the keep-alive when it was changed.
pub(crate) fn connack_for_client(body: &[u8], packet_bytes_max: u32, keep_alive: Option<u16>) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let (flags, code) = (reader.u8()?, reader.u8()?);
    let ours = [SERVER_KEEP_ALIVE, TOPIC_ALIAS_MAXIMUM, MAXIMUM_PACKET_SIZE];
    let properties = reader.properties()?;
    let kept = properties.iter().filter(|p| !ours.contains(&p.id));
    let mut kept: Vec<u8> = kept.flat_map(|p| p.bytes).copied().collect();
    kept.push(MAXIMUM_PACKET_SIZE);
    kept.extend(packet_bytes_max.to_be_bytes());
    if let Some(seconds) = keep_alive {
        kept.push(SERVER_KEEP_ALIVE);
        kept.extend(seconds.to_be_bytes());
    }
    let mut answer = vec![flags, code];
    put_length(&mut answer, kept.len());
    answer.extend(kept);
    Some(packet(0x20, &answer))
}

/// The engine's CONNACK for an MQTT 3.1.1 client: session present, and the
/// nearest of the five codes.
pub(crate) fn connack_for_old_client(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let (flags, reason) = (reader.u8()?, reader.u8()?);
    let code = match reason {
        0 => 0,
        0x84 => 1,
        0x85 => 2,
        0x86 => 4,
        0x87 | 0x8a | 0x8c => 5,
        _ => 3,
    };
    Some(vec![0x20, 2, flags & 1, code])
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_length(&mut packet, body.len());
    packet.extend(body);
    packet
}

/// Appends a variable byte integer. Every length here comes from a packet that
/// was itself bounded, so it fits four bytes.
pub(crate) fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push((length & 0x7f) as u8);
}

/// Appends two bytes of length and the bytes, of which there are at most
/// 65,535: they came out of such a field, or are the engine's credentials.
fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}

/// One property of MQTT 5: its identifier, and all its bytes with it.
pub(crate) struct Property<'a> {
    pub(crate) id: u8,
    pub(crate) bytes: &'a [u8],
}

/// Takes fields off the front of a slice; `None` when there is too little.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A packet id, which is never 0.
    pub(crate) fn id(&mut self) -> Option<u16> {
        self.u16().filter(|&id| id != 0)
    }

    pub(crate) fn binary(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.binary()?).ok().filter(|text| !text.contains('\0'))
    }

    pub(crate) fn length(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn properties(&mut self) -> Option<Vec<Property<'a>>> {
        let length = self.length()?;
        let mut inner = Reader(self.take(length)?);
        let mut found = Vec::new();
        while !inner.0.is_empty() {
            let start = inner.0;
            let id = inner.u8()?;
            inner.skip_value(id)?;
            let bytes = start.get(..start.len().checked_sub(inner.0.len())?)?;
            found.push(Property { id, bytes });
        }
        Some(found)
    }

    /// Skips the value of a property; the table is section 2.2.2.2 of MQTT 5.
    fn skip_value(&mut self, id: u8) -> Option<()> {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => self.take(1)?,
            0x13 | 0x21..=0x23 => self.take(2)?,
            0x02 | 0x11 | 0x18 | 0x27 => self.take(4)?,
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => self.binary()?,
            0x26 => {
                self.binary()?;
                self.binary()?
            }
            0x0b => return self.length().map(|_| ()),
            _ => return None,
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CONNECT body with will, properties, user and password.
    fn body_v5() -> Vec<u8> {
        let mut body = b"\0\x04MQTT\x05\xe6\0\0".to_vec();
        body.extend(b"\x0b\x11\0\0\0\x3c\x22\0\x0a\x21\0\x14");
        body.extend(b"\0\x02id");
        body.extend(b"\x05\x18\0\0\0\x05\0\x01t\0\x02wp");
        body.extend(b"\0\x01u\0\x01p");
        body
    }

    #[test]
    fn connect_is_taken_apart_and_put_together_for_the_engine() {
        let body = body_v5();
        let connect = Connect::parse(&body, Version::V5).unwrap();
        assert_eq!((connect.client_id, connect.user, connect.password), ("id", Some("u"), Some(&b"p"[..])));
        assert!(connect.keep_alive_changes());
        assert!(!connect.wants_authentication_exchange());
        let mut expected = b"\0\x04MQTT\x05\xe6\xff\xff".to_vec();
        expected.extend(b"\x08\x11\0\0\0\x3c\x21\0\x14");
        expected.extend(b"\0\x02id");
        expected.extend(b"\x05\x18\0\0\0\x05\0\x01t\0\x02wp");
        expected.extend(b"\0\x02me\0\x03key");
        let packet = connect.for_engine("me", "key");
        assert_eq!(packet.get(..2), Some(&[0x10, u8::try_from(expected.len()).unwrap()][..]));
        assert_eq!(packet.get(2..), Some(&expected[..]));
    }

    #[test]
    fn an_old_connect_becomes_a_new_one() {
        let body = b"\0\x04MQTT\x04\x2c\0\x0a\0\x02id\0\x01t\0\x02wp";
        let connect = Connect::parse(body, Version::V4).unwrap();
        let mut expected = b"\0\x04MQTT\x05\xec\0\x0a\x05\x11\xff\xff\xff\xff\0\x02id".to_vec();
        expected.extend(b"\0\0\x01t\0\x02wp\0\x02me\0\x03key");
        assert_eq!(connect.for_engine("me", "key").get(2..), Some(&expected[..]));
        let clean = Connect::parse(b"\0\x04MQTT\x04\x02\0\x0a\0\x01i", Version::V4).unwrap();
        let expected = b"\0\x04MQTT\x05\xc2\0\x0a\0\0\x01i\0\x01u\0\x01p";
        assert_eq!(clean.for_engine("u", "p").get(2..), Some(&expected[..]));
    }

    #[test]
    fn an_old_client_gets_an_old_connack() {
        for (reason, code) in [(0, 0), (0x84, 1), (0x85, 2), (0x88, 3), (0x97, 3), (0x86, 4), (0x87, 5), (0x8c, 5)] {
            let from_engine = [1, reason, 3, 0x22, 0x10, 0];
            assert_eq!(connack_for_old_client(&from_engine), Some(vec![0x20, 2, 1, code]));
        }
        assert_eq!(connack_for_old_client(&[0]), None);
    }

    #[test]
    fn no_cut_off_or_bent_connect_is_accepted() {
        let body = body_v5();
        for end in 0..body.len() {
            assert!(Connect::parse(&body[..end], Version::V5).is_none(), "cut at {end}");
        }
        let mut longer = body;
        longer.push(0);
        assert!(Connect::parse(&longer, Version::V5).is_none());
        let reserved_flag = b"\0\x04MQTT\x04\x03\0\x0a\0\x01i";
        assert!(Connect::parse(reserved_flag, Version::V4).is_none());
        let password_without_user = b"\0\x04MQTT\x04\x42\0\x0a\0\x01i\0\x01p";
        assert!(Connect::parse(password_without_user, Version::V4).is_none());
        assert!(Connect::parse(password_without_user.as_slice(), Version::V5).is_none());
        let unknown_property = b"\0\x04MQTT\x05\x02\0\x0a\x02\x7f\0\0\x01i";
        assert!(Connect::parse(unknown_property, Version::V5).is_none());
    }

    #[test]
    fn versions_are_told_apart() {
        let cases: [(&[u8], Option<Opening>); 7] = [
            (b"\0\x04MQTT\x04", Some(Opening::Served(Version::V4))),
            (b"\0\x04MQTT\x05", Some(Opening::Served(Version::V5))),
            (b"\0\x04MQTT\x06", Some(Opening::TooNew)),
            (b"\0\x04MQTT\x03", Some(Opening::TooOld)),
            (b"\0\x06MQIsdp\x03", Some(Opening::TooOld)),
            (b"\0\x04HTTP\x04", None),
            (b"\0\x04MQ", None),
        ];
        for (body, expected) in cases {
            assert_eq!(opening(body), expected, "{body:?}");
        }
    }

    #[test]
    fn connack_says_what_the_front_knows() {
        let from_engine = b"\x01\0\x03\x22\x10\0";
        let packet = connack_for_client(from_engine, 0x0001_0203, Some(0xffff)).unwrap();
        assert_eq!(packet, b"\x20\x0b\x01\0\x08\x27\0\x01\x02\x03\x13\xff\xff");
        assert!(connack_for_client(b"\0\0\x05\x22", 1, None).is_none());
    }

    #[test]
    fn lengths_of_several_bytes_survive() {
        for length in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut bytes = Vec::new();
            put_length(&mut bytes, length);
            assert_eq!(Reader(&bytes).length(), Some(length));
        }
        assert_eq!(Reader(b"\xff\xff\xff\xff\x01").length(), None);
    }
}
