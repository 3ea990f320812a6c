//! Makes a document with faults readable, so that the rules can find more: what has the wrong type is taken out, what
//! is missing is put in empty. Nothing repaired is ever accepted; the rules skip what is empty.

use serde_json::{Value, json};

use crate::contract::faults::{Code, Fault};

/// Parts that are taken out as a whole when something in them cannot be read.
const WHOLE: [&str; 4] = ["services", "backup_config", "restore_config", "orchestrator_opts"];

/// Repairs the document where the faults say.
pub(super) fn repair(mut document: Value, faults: &[Fault]) -> Value {
    if !document.is_object() {
        return json!({});
    }
    // Deepest first, and of a list the last entries first, so that no place moves.
    let mut places: Vec<&Fault> = faults.iter().collect();
    places.sort_by_key(|fault| std::cmp::Reverse((fault.pointer.matches('/').count(), fault.pointer.clone())));
    for fault in places {
        if needs_repair(fault, &document) {
            at(&mut document, fault);
        }
    }
    document
}

fn needs_repair(fault: &Fault, document: &Value) -> bool {
    let has_other_type =
        matches!(fault.code, Code::UnknownField | Code::TypeMismatch | Code::Required | Code::InvalidValue);
    // A number out of range does not fit its type; a text, list or map does.
    has_other_type || document.pointer(&fault.pointer).is_some_and(Value::is_number)
}

fn at(document: &mut Value, fault: &Fault) {
    let tokens: Vec<String> = fault.pointer.split('/').skip(1).map(unescape).collect();
    if let Some(whole) = tokens.iter().position(|token| WHOLE.contains(&token.as_str())) {
        let keep = tokens.get(..=whole).unwrap_or_default();
        return remove(document, keep);
    }
    let Some((name, parents)) = tokens.split_last() else { return };
    let Some(parent) = find(document, parents) else { return };
    let list_name = parents.last().map_or("", String::as_str);
    match parent {
        Value::Object(map) => match neutral(name) {
            Some(value) if fault.code != Code::UnknownField => drop(map.insert(name.clone(), value)),
            _ => drop(map.remove(name)),
        },
        Value::Array(list) => {
            let entry = name.parse().ok().and_then(|index: usize| list.get_mut(index));
            if let Some(entry) = entry {
                *entry = neutral_entry(list_name);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn find<'a>(document: &'a mut Value, tokens: &[String]) -> Option<&'a mut Value> {
    let mut at = document;
    for token in tokens {
        at = match at {
            Value::Object(map) => map.get_mut(token)?,
            Value::Array(list) => list.get_mut(token.parse::<usize>().ok()?)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
    }
    Some(at)
}

fn remove(document: &mut Value, tokens: &[String]) {
    let Some((name, parents)) = tokens.split_last() else { return };
    if let Some(Value::Object(map)) = find(document, parents) {
        map.remove(name);
    }
}

/// What stands for a required field.
fn neutral(name: &str) -> Option<Value> {
    match name {
        "name" | "username" => Some(json!("")),
        "host_ids" => Some(json!([])),
        _ => None,
    }
}

/// What stands for an entry of a list.
fn neutral_entry(list: &str) -> Value {
    match list {
        "nodes" => json!({"name": ""}),
        "database_users" => json!({"username": ""}),
        _ => json!(""),
    }
}
