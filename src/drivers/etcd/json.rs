//! The gateway's JSON: keys and values in base64, 64-bit numbers as texts, fields with the value zero left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::KeySeen;

/// Bytes as the gateway wants them.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A field of bytes; empty where it is left out or is not base64.
pub(super) fn bytes(value: &Value, field: &str) -> Vec<u8> {
    value.get(field).and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default()
}

/// A field that is a list; empty where it is left out.
pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A field that is a list of texts.
pub(super) fn texts(value: &Value, field: &str) -> Vec<String> {
    list(value, field).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A key and its value out of an answer's `kvs`.
pub(super) fn key_seen(pair: &Value) -> KeySeen {
    let revision = pair.get("mod_revision").and_then(Value::as_str).and_then(|text| text.parse().ok());
    KeySeen { value: bytes(pair, "value"), mod_revision: revision.unwrap_or_default() }
}

/// The first key after all keys that begin with `prefix`: etcd's `range_end`. `\0` stands for "to the end".
pub(super) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// The range of all keys below a prefix. The empty prefix is the whole store, which etcd writes as `\0`.
pub(super) fn below(prefix: &str) -> Value {
    let start = if prefix.is_empty() { &[0_u8][..] } else { prefix.as_bytes() };
    json!({ "key": encode(start), "range_end": encode(&prefix_end(prefix.as_bytes())) })
}

/// What a role's permission allows, as the prefix that it is for; a permission of another form shows as a text that is
/// no prefix of ours.
pub(super) fn permitted(permission: &Value) -> String {
    let (key, end) = (bytes(permission, "key"), bytes(permission, "range_end"));
    let kind = permission.get("permType").and_then(Value::as_str).unwrap_or("READ");
    let text = String::from_utf8_lossy(&key).into_owned();
    if kind == "READWRITE" && !key.is_empty() && end == prefix_end(&key) {
        text
    } else {
        format!("{kind} {text}..{}", String::from_utf8_lossy(&end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key() {
        for (prefix, end) in [
            (&b"/a/"[..], &b"/a0"[..]),
            (b"a", b"b"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ] {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
        assert_eq!(below("/a/"), json!({"key": "L2Ev", "range_end": "L2Ew"}));
        assert_eq!(below(""), json!({"key": "AA==", "range_end": "AA=="}));
    }

    #[test]
    fn only_a_whole_prefix_reads_as_one() {
        let permission = |kind: Option<&str>, key: &[u8], end: &[u8]| {
            let mut value = json!({"key": encode(key), "range_end": encode(end)});
            if let Some(kind) = kind {
                value["permType"] = json!(kind);
            }
            permitted(&value)
        };
        assert_eq!(permission(Some("READWRITE"), b"/a/", b"/a0"), "/a/");
        for other in [
            permission(None, b"/a/", b"/a0"),
            permission(Some("WRITE"), b"/a/", b"/a0"),
            permission(Some("READWRITE"), b"/a/", b"/b"),
            permission(Some("READWRITE"), b"/a/", b""),
            permission(Some("READWRITE"), b"", b"\0"),
        ] {
            assert!(!other.starts_with('/'), "{other}");
        }
    }

    #[test]
    fn zero_is_left_out() {
        assert_eq!(key_seen(&json!({"key": "YQ=="})), KeySeen { value: vec![], mod_revision: 0 });
        let seen = key_seen(&json!({"key": "YQ==", "value": "Yg==", "mod_revision": "12"}));
        assert_eq!(seen, KeySeen { value: b"b".to_vec(), mod_revision: 12 });
    }
}
