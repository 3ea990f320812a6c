//! The translator: what each packet becomes, what is refused, and that neither
//! the way the bytes are cut nor the bytes themselves matter to its safety.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const BYTES_MAX: usize = 1000;

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    put_packet(&mut out, first, parts);
    out
}

/// Translates one way with the ledger of a connection in use.
fn translate(direction: Direction, version: Version, ledger: &Ledger, bytes: &[u8]) -> Result<(Vec<u8>, Flow), Broken> {
    let mut translator = Translator { direction, ..Translator::up(version, ledger, BYTES_MAX) };
    let mut out = Vec::new();
    let flow = translator.push(bytes, &mut out)?;
    Ok((out, flow))
}

fn up(version: Version, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
    translate(Direction::Up, version, &busy(), bytes).map(|(out, _)| out)
}

fn down(version: Version, bytes: &[u8]) -> Result<Vec<u8>, Broken> {
    translate(Direction::Down, version, &busy(), bytes).map(|(out, _)| out)
}

/// Message 7 is under way to the client, 8 is released, one came in.
fn busy() -> Ledger {
    let open = Open { sent: [7].into(), released: [8].into(), received: 1, pings: 0 };
    Ledger(Mutex::new(open))
}

#[test]
fn what_an_old_client_says_becomes_new() {
    let cases: [(&[u8], &[u8]); 10] = [
        (b"\x30\x04\0\x01tx", b"\x30\x05\0\x01t\0x"),
        (b"\x3b\x06\0\x01t\0\x09x", b"\x3b\x07\0\x01t\0\x09\0x"),
        (b"\x40\x02\0\x07", b"\x40\x02\0\x07"),
        (b"\x50\x02\0\x07", b"\x50\x02\0\x07"),
        (b"\x62\x02\0\x01", b"\x62\x02\0\x01"),
        (b"\x70\x02\0\x08", b"\x70\x02\0\x08"),
        (b"\x82\x0a\0\x01\0\x01a\x02\0\x01#\0", b"\x82\x0b\0\x01\0\0\x01a\x02\0\x01#\0"),
        (b"\xa2\x05\0\x01\0\x01a", b"\xa2\x06\0\x01\0\0\x01a"),
        (b"\xc0\0", b"\xc0\0"),
        (b"\xe0\0", b""),
    ];
    for (four, five) in cases {
        assert_eq!(up(Version::V4, four).as_deref(), Ok(five), "{four:x?}");
    }
}

#[test]
fn what_the_engine_says_becomes_old() {
    let cases: [(&[u8], &[u8]); 12] = [
        (b"\x31\x05\0\x01t\0x", b"\x31\x04\0\x01tx"),
        (b"\x32\x0d\0\x01t\0\x09\x06\x01\x01\x03\0\x01cx", b"\x32\x06\0\x01t\0\x09x"),
        (b"\x40\x02\0\x07", b"\x40\x02\0\x07"),
        (b"\x40\x04\0\x07\x10\0", b"\x40\x02\0\x07"),
        (b"\x50\x02\0\x07", b"\x50\x02\0\x07"),
        (b"\x62\x04\0\x07\0\0", b"\x62\x02\0\x07"),
        (b"\x70\x02\0\x07", b"\x70\x02\0\x07"),
        (b"\x90\x06\0\x01\0\0\x02\x97", b"\x90\x05\0\x01\0\x02\x80"),
        (b"\x90\x08\0\x01\x04\x1f\0\x01r\x01", b"\x90\x03\0\x01\x01"),
        (b"\xb0\x05\0\x01\0\0\x11", b"\xb0\x02\0\x01"),
        (b"\xd0\0", b"\xd0\0"),
        (b"\xe0\x02\x8e\0", b""),
    ];
    for (five, four) in cases {
        assert_eq!(down(Version::V4, five).as_deref(), Ok(four), "{five:x?}");
        assert_eq!(down(Version::V5, five).as_deref(), Ok(five), "{five:x?}");
    }
}

#[test]
fn a_new_client_is_carried_as_it_is_but_for_its_acknowledgements() {
    let same: [&[u8]; 5] = [
        b"\x3d\x0d\0\x01t\0\x09\x06\x01\x01\x03\0\x01cx",
        b"\x82\x09\0\x01\x02\x0b\x05\0\x01a\x2e",
        b"\xa2\x06\0\x01\0\0\x01a",
        b"\xc0\0",
        b"\x40\x02\0\x07",
    ];
    for bytes in same {
        assert_eq!(up(Version::V5, bytes).as_deref(), Ok(bytes), "{bytes:x?}");
    }
    let shorter: [(&[u8], &[u8]); 3] = [
        (b"\x40\x04\0\x07\x10\0", b"\x40\x02\0\x07"),
        (b"\x62\x08\0\x01\0\x04\x1f\0\x01r", b"\x62\x02\0\x01"),
        (b"\x50\x03\0\x07\x80", b"\x50\x02\0\x07"),
    ];
    for (bytes, expected) in shorter {
        assert_eq!(up(Version::V5, bytes).as_deref(), Ok(expected), "{bytes:x?}");
    }
}

#[test]
fn what_would_break_the_engine_is_refused() {
    let of_both: [&[u8]; 17] = [
        b"\x20\x03\0\0\0",
        b"\xb0\x04\0\x01\0\0",
        b"\x90\x04\0\x01\0\0",
        b"\xd0\0",
        b"\xf0\x02\0\0",
        b"\x10\0",
        b"\x36\x06\0\x01t\0\x01\0",
        b"\x32\x06\0\x01t\0\0\0",
        b"\x30\x04\0\x01+\0",
        b"\x30\x04\0\x01\xff\0",
        b"\x30\x03\0\0\0",
        b"\x40\x02\0\x09",
        b"\x70\x02\0\x09",
        b"\x80\x06\0\x01\0\0\x01a",
        b"\x82\x02\0\x01",
        b"\xc0\x01\0",
        b"\x30\xff\xff\xff\xff\x01",
    ];
    for bytes in of_both {
        for version in [Version::V4, Version::V5] {
            assert_eq!(up(version, bytes), Err(Broken), "{version:?} {bytes:x?}");
        }
    }
    let of_five: [&[u8]; 8] = [
        b"\x30\x07\0\x01t\x03\x23\0\x01",
        b"\x30\x06\0\x01t\x02\x0b\x01",
        b"\x30\x06\0\x01t\x02\x7f\x01",
        b"\x30\x04\0\x01t\x09",
        b"\x82\x09\0\x01\x02\x0b\0\0\x01a\0",
        b"\x82\x07\0\x01\0\0\x01$\0",
        b"\x82\x07\0\x01\0\0\x01a\x30",
        b"\xa2\x03\0\x01\0",
    ];
    for bytes in of_five {
        assert_eq!(up(Version::V5, bytes), Err(Broken), "{bytes:x?}");
    }
    let of_four: [&[u8]; 4] =
        [b"\x82\x06\0\x01\0\x01a\x04", b"\x82\x0a\0\x01\0\x05$SYS/\0", b"\xe0\x01\0", b"\x40\x03\0\x07\0"];
    for bytes in of_four {
        assert_eq!(up(Version::V4, bytes), Err(Broken), "{bytes:x?}");
    }
}

#[test]
fn acknowledgements_must_follow_what_is_under_way() {
    let ledger = Ledger::default();
    for version in [Version::V4, Version::V5] {
        for (engine, client) in
            [(b"\x32\x06\0\x01t\0\x05\0", b"\x40\x02\0\x05"), (b"\x62\x06\0\x05\0\x02\0\0", b"\x70\x02\0\x05")]
        {
            assert_eq!(translate(Direction::Up, version, &ledger, client), Err(Broken));
            translate(Direction::Down, version, &ledger, engine).unwrap();
            translate(Direction::Up, version, &ledger, client).unwrap();
            assert_eq!(translate(Direction::Up, version, &ledger, client), Err(Broken), "twice");
        }
        assert_eq!(translate(Direction::Up, version, &ledger, b"\x62\x02\0\x03"), Err(Broken));
        translate(Direction::Up, version, &ledger, b"\x34\x06\0\x01t\0\x03\0").unwrap();
        translate(Direction::Up, version, &ledger, b"\x62\x02\0\x03").unwrap();
    }
}

#[test]
fn good_byes_are_told_from_the_call_for_the_will() {
    let ended = |version, bytes: &[u8]| translate(Direction::Up, version, &busy(), bytes).map(|(_, flow)| flow);
    assert_eq!(ended(Version::V4, b"\xe0\0\xff\xff"), Ok(Flow::Ended { with_will: false }));
    assert_eq!(ended(Version::V5, b"\xe0\x01\0"), Ok(Flow::Ended { with_will: false }));
    assert_eq!(ended(Version::V5, b"\xe0\x02\x04\0"), Ok(Flow::Ended { with_will: true }));
}

#[test]
fn a_packet_above_the_bound_is_refused_before_it_arrives() {
    let at_bound = packet(0x30, &[b"\0\x01t", &[0; BYTES_MAX - 3]]);
    assert!(up(Version::V4, &at_bound).is_ok());
    let announced = packet(0x30, &[b"\0\x01t", &[0; BYTES_MAX - 2]]);
    assert_eq!(up(Version::V4, &announced[..3]), Err(Broken));
}

/// A stream of right packets of an old client.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let publish = ("[a-z/]{1,9}", vec(any::<u8>(), 0..200), any::<bool>()).prop_map(|(topic, payload, id)| {
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let id: &[u8] = if id { b"\0\x05" } else { b"" };
        packet(if id.is_empty() { 0x30 } else { 0x32 }, &[&length, topic.as_bytes(), id, &payload])
    });
    let fixed = prop_oneof![
        Just(b"\xc0\0".to_vec()),
        Just(b"\x82\x06\0\x01\0\x01a\x01".to_vec()),
        Just(b"\xa2\x05\0\x01\0\x01a".to_vec()),
    ];
    vec(prop_oneof![publish, fixed], 1..6).prop_map(|packets| packets.concat())
}

proptest! {
    #[test]
    fn a_message_is_the_same_after_going_up_and_down(
        topic in "[^\0+#]{1,20}",
        payload in vec(any::<u8>(), 0..300),
        qos in 0..3_u8,
        retain in any::<bool>(),
    ) {
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        let id: &[u8] = if qos > 0 { b"\x01\x02" } else { b"" };
        let four = packet(0x30 | qos << 1 | u8::from(retain), &[&length, topic.as_bytes(), id, &payload]);
        let five = up(Version::V4, &four).unwrap();
        prop_assert_eq!(up(Version::V5, &five), Ok(five.clone()));
        prop_assert_eq!(down(Version::V4, &five).unwrap(), four);
    }

    #[test]
    fn properties_of_any_kind_are_stripped(
        texts in vec(("[a-z]{0,200}", 0..4_usize), 0..4),
        payload in vec(any::<u8>(), 0..100),
    ) {
        let mut properties = Vec::new();
        for (text, kind) in texts {
            let length = u16::try_from(text.len()).unwrap().to_be_bytes();
            let field = [&length, text.as_bytes()].concat();
            properties.push([0x03, 0x08, 0x09, 0x26][kind]);
            properties.extend(&field);
            if kind == 3 {
                properties.extend(&field);
            }
        }
        let mut length = Vec::new();
        put_length(&mut length, properties.len());
        let five = packet(0x30, &[b"\0\x01t", &length, &properties, &payload]);
        prop_assume!(five.len() < BYTES_MAX);
        prop_assert_eq!(down(Version::V4, &five).unwrap(), packet(0x30, &[b"\0\x01t", &payload]));
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut(stream in stream()) {
        let whole = up(Version::V4, &stream).unwrap();
        for cut in 0..=stream.len() {
            let ledger = busy();
            let mut translator = Translator::up(Version::V4, &ledger, BYTES_MAX);
            let mut out = Vec::new();
            translator.push(&stream[..cut], &mut out).unwrap();
            translator.push(&stream[cut..], &mut out).unwrap();
            prop_assert_eq!(&out, &whole);
            prop_assert!(translator.pending.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_more_than_one_packet(chunks in vec(vec(any::<u8>(), 0..60), 0..20)) {
        for version in [Version::V4, Version::V5] {
            for direction in [Direction::Up, Direction::Down] {
                let ledger = busy();
                let mut translator = Translator { direction, ..Translator::up(version, &ledger, 100) };
                for chunk in &chunks {
                    let mut out = Vec::new();
                    if translator.push(chunk, &mut out) != Ok(Flow::Open) {
                        break;
                    }
                    prop_assert!(translator.pending.len() <= 105);
                }
            }
        }
    }

    #[test]
    fn what_the_engine_gets_is_what_a_new_client_may_say(first in any::<u8>(), body in vec(any::<u8>(), 0..40)) {
        let said = packet(first, &[&body]);
        for version in [Version::V4, Version::V5] {
            if let Ok(out) = up(version, &said) {
                prop_assert_eq!(up(Version::V5, &out), Ok(out.clone()));
            }
        }
    }
}
