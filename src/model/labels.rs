//! Labels of hosts: what an operator says of a host (`zone = "a"`), and a spec asks for. They are compared as texts.

use std::collections::BTreeMap;

/// Labels by their names.
pub type HostLabels = BTreeMap<String, String>;

/// The most labels that a host has, or a spec asks for.
pub const HOST_LABELS_MAX: usize = 16;
/// The most characters of a name or a value.
pub const HOST_LABEL_CHARS_MAX: usize = 63;
/// The rule for values as a regular expression for JSON Schema, without their length.
pub const HOST_LABEL_VALUE_PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
/// The rule for names, as it is told to people.
pub const HOST_LABEL_NAME_RULE: &str = "1-63 lowercase letters, digits, dots, hyphens, underscores and slashes, \
     starting and ending with a letter or digit";
/// The rule for values, as it is told to people.
pub const HOST_LABEL_VALUE_RULE: &str =
    "1-63 letters, digits, dots, hyphens and underscores, starting and ending with a letter or digit";

/// Whether a text can be the name of a label.
#[must_use]
pub fn is_host_label_name(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_' | b'/');
    is_made_of(text, inside)
}

/// Whether a text can be the value of a label.
#[must_use]
pub fn is_host_label_value(text: &str) -> bool {
    is_made_of(text, |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
}

/// Labels as people write them: `disk=ssd, zone=a`.
#[must_use]
pub fn host_labels_text(labels: &HostLabels) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
}

fn is_made_of(text: &str, inside: impl Fn(u8) -> bool) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= HOST_LABEL_CHARS_MAX
        && ends.into_iter().all(|end| end.is_some_and(|end| end.is_ascii_alphanumeric()))
        && text.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_keep_their_rules() {
        for name in ["zone", "example.org/rack", "a", "disk-type_2"] {
            assert!(is_host_label_name(name), "{name}");
        }
        for name in ["", "Zone", "-a", "a-", "a b", "a=b", &"a".repeat(64)] {
            assert!(!is_host_label_name(name), "{name}");
        }
        let pattern = jsonschema::options()
            .build(&serde_json::json!({"pattern": HOST_LABEL_VALUE_PATTERN, "maxLength": HOST_LABEL_CHARS_MAX}))
            .unwrap();
        for value in ["a", "eu-west_1.b", "B2", "", "-a", "a/b", "a b", "a.", &"a".repeat(63), &"a".repeat(64)] {
            assert_eq!(is_host_label_value(value), pattern.is_valid(&serde_json::json!(value)), "{value}");
        }
    }

    #[test]
    fn labels_are_written_by_name() {
        let labels = [("zone", "a"), ("disk", "ssd")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(host_labels_text(&labels.into()), "disk=ssd, zone=a");
    }
}
