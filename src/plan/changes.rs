//! The difference of two JSON values as a list of pointers, each with what is there and what is desired.
//!
//! Lists are compared without their common beginning and end, so that one line more in the middle is one change.

use serde_json::{Map, Value};

use super::value::Change;

/// All differences, in the order of the keys.
pub(super) fn diff(from: &Value, to: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    values("", from, to, &mut changes);
    changes
}

fn values(pointer: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => objects(pointer, from, to, changes),
        (Value::Array(from), Value::Array(to)) => arrays(pointer, from, to, changes),
        (from, to) if from == to => {}
        (from, to) => one(pointer.to_owned(), present(Some(from)), present(Some(to)), changes),
    }
}

/// JSON's null is how an optional attribute says that it is not there.
fn present(value: Option<&Value>) -> Option<Value> {
    value.filter(|value| !value.is_null()).cloned()
}

fn one(pointer: String, from: Option<Value>, to: Option<Value>, changes: &mut Vec<Change>) {
    changes.push(Change { pointer, from, to });
}

fn objects(pointer: &str, from: &Map<String, Value>, to: &Map<String, Value>, changes: &mut Vec<Change>) {
    let mut keys: Vec<&String> = from.keys().chain(to.keys().filter(|key| !from.contains_key(*key))).collect();
    keys.sort_unstable();
    for key in keys {
        let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        match (from.get(key), to.get(key)) {
            (Some(from), Some(to)) => values(&below, from, to, changes),
            (from, to) => one(below, present(from), present(to), changes),
        }
    }
}

fn arrays(pointer: &str, from: &[Value], to: &[Value], changes: &mut Vec<Change>) {
    let head = from.iter().zip(to).take_while(|(from, to)| from == to).count();
    let (from, to) = (from.get(head..).unwrap_or_default(), to.get(head..).unwrap_or_default());
    let tail = from.iter().rev().zip(to.iter().rev()).take_while(|(from, to)| from == to).count();
    let from = from.get(..from.len() - tail).unwrap_or_default();
    let to = to.get(..to.len() - tail).unwrap_or_default();
    for index in 0..from.len().max(to.len()) {
        let below = format!("{pointer}/{}", head + index);
        match (from.get(index), to.get(index)) {
            (Some(from), Some(to)) => values(&below, from, to, changes),
            (from, to) => one(below, present(from), present(to), changes),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(from: Value, to: Value, expected: &[&str]) {
        let shown: Vec<String> = diff(&from, &to)
            .iter()
            .map(|change| {
                let side = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), ToString::to_string);
                format!("{} {} {}", change.pointer, side(&change.from), side(&change.to))
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn differences_are_pointers() {
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(json!({"a": 1, "b": 2}), json!({"a": 2, "c": 3}), &["/a 1 2", "/b 2 -", "/c - 3"]);
        check(json!({"a/b": {"~": 1}}), json!({"a/b": {"~": 2}}), &["/a~1b/~0 1 2"]);
        check(json!({"a": null}), json!({"a": "x"}), &["/a - \"x\""]);
    }

    #[test]
    fn lists_lose_their_common_ends() {
        check(json!(["a", "c"]), json!(["a", "b", "c"]), &["/1 - \"b\""]);
        check(json!(["a", "b", "c"]), json!(["a", "x", "c"]), &["/1 \"b\" \"x\""]);
        check(json!(["a"]), json!([]), &["/0 \"a\" -"]);
        check(json!(["a", "a"]), json!(["a"]), &["/1 \"a\" -"]);
        check(json!([{"p": 1}]), json!([{"p": 2}]), &["/0/p 1 2"]);
    }
}
