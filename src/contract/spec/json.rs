//! JSON with its duplicate keys: `serde_json` alone keeps the last of two values silently.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::SPEC_BYTES_MAX;
use crate::contract::faults::{Code, Fault, pointer};

/// A document that is JSON.
pub(in crate::contract) struct Document {
    /// Its value; of a key that stands twice the last one counts.
    pub(in crate::contract) value: Value,
    /// A fault for each key that stands twice.
    pub(in crate::contract) faults: Vec<Fault>,
}

/// Reads bytes of at most [`SPEC_BYTES_MAX`] as JSON.
pub(in crate::contract) fn read(bytes: &[u8]) -> Result<Document, Fault> {
    if bytes.len() > SPEC_BYTES_MAX {
        let message = format!("the document has {} bytes, {SPEC_BYTES_MAX} are allowed", bytes.len());
        return Err(Fault::new(Code::PayloadTooLarge, "", message).hint("hosted brokers take no more; make it smaller"));
    }
    let mut faults = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed { place: String::new(), faults: &mut faults }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| syntax_fault(bytes, &error))?;
    Ok(Document { value, faults })
}

fn syntax_fault(bytes: &[u8], error: &serde_json::Error) -> Fault {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the document ends too early",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax | serde_json::error::Category::Data => {
            "the document is not JSON"
        }
    };
    // The parser's own words name the kind of mistake and never a value; its position is at the end of them.
    let detail = error.to_string();
    let fault = Fault::new(Code::InvalidJson, "", format!("{what}: {detail}"));
    match bytes {
        [0xEF, 0xBB, 0xBF, ..] => fault.hint("it begins with a byte order mark; save the file as UTF-8 without one"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => fault.hint("it is UTF-16; save the file as UTF-8"),
        _ => fault.hint("`pgmoor validate FILE` judges a file before it is published"),
    }
}

/// Below it a floating-point number is exact (2^53).
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

struct Seed<'a> {
    place: String,
    faults: &'a mut Vec<Fault>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    /// A whole number may be written with a fraction of zero (`5432.0`, `1e3`): to JSON Schema it is an integer.
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        if value.fract() == 0.0 && value.abs() < WHOLE_MAX {
            #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is far from the ends of i64")]
            return Ok(Value::from(value as i64));
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let place = pointer(&self.place, list.len());
            match items.next_element_seed(Seed { place, faults: self.faults })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let place = pointer(&self.place, &key);
            let value = entries.next_value_seed(Seed { place: place.clone(), faults: self.faults })?;
            if map.insert(key.clone(), value).is_some() {
                let message = format!("the key \"{key}\" stands twice in this object");
                self.faults.push(Fault::new(Code::DuplicateKey, place, message).hint("keep one of them"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_at_any_depth() {
        let document = read(br#"{"a":1,"b":[{"x/y":1,"x/y":2}],"a":{"c":1,"c":2}}"#).ok().unwrap();
        let places: Vec<&str> = document.faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/b/0/x~1y", "/a/c", "/a"]);
        assert_eq!(document.value["a"]["c"], 2);
    }

    #[test]
    fn syntax_faults_say_where() {
        let fault = read(b"{\n  \"a\": }").err().unwrap();
        assert_eq!(fault.code, Code::InvalidJson);
        assert!(fault.message.contains("line 2 column 8"), "{}", fault.message);
        for (bytes, hint) in [(&b"\xEF\xBB\xBF{}"[..], "byte order mark"), (b"\xFF\xFE{\0}\0", "UTF-16")] {
            assert!(read(bytes).err().unwrap().hint.is_some_and(|said| said.contains(hint)), "{hint}");
        }
        assert_eq!(read(b"{} x").err().unwrap().code, Code::InvalidJson);
        assert_eq!(read(b"").err().unwrap().code, Code::InvalidJson);
        assert_eq!(read("[".repeat(100_000).as_bytes()).err().unwrap().code, Code::InvalidJson);
        assert_eq!(read(&vec![b' '; SPEC_BYTES_MAX + 1]).err().unwrap().code, Code::PayloadTooLarge);
    }

    #[test]
    fn numbers_texts_and_lists_are_read_as_serde_json_reads_them() {
        let text = br#"[null,true,-1,18446744073709551615,1.5,1e400,"\u00e4",[],{}]"#;
        let plain: Result<Value, _> = serde_json::from_slice(text);
        assert_eq!(plain.is_ok(), read(text).is_ok());
        let text = br#"[null,true,-1,18446744073709551615,1.5,"\u00e4",[],{}]"#;
        let plain: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(read(text).ok().unwrap().value, plain);
        assert_eq!(read(b"[5432.0, 1e3, -2.0, 1e20]").ok().unwrap().value, serde_json::json!([5432, 1000, -2, 1e20]));
    }
}
