//! `host_labels`: what an operator says of a host.
//!
//! Invariant: a value of this type keeps the rules for names and values, wherever it was read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::model::HostLabels;
use crate::model::labels::{
    HOST_LABEL_NAME_RULE, HOST_LABEL_VALUE_RULE, HOST_LABELS_MAX, host_labels_text, is_host_label_name,
    is_host_label_value,
};

/// Labels of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Labels(pub HostLabels);

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = String;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, String> {
        if labels.len() > HOST_LABELS_MAX {
            return Err(format!("a host has {HOST_LABELS_MAX} labels at most, these are {}", labels.len()));
        }
        for (name, value) in &labels {
            if !is_host_label_name(name) {
                return Err(format!("\"{name}\" is no name of a label: it has {HOST_LABEL_NAME_RULE}"));
            }
            if !is_host_label_value(value) {
                return Err(format!("\"{value}\" is no value of a label: it has {HOST_LABEL_VALUE_RULE}"));
            }
        }
        Ok(Self(labels))
    }
}

impl FromStr for Labels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut labels = BTreeMap::new();
        for label in text.split(',').map(str::trim).filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').ok_or(format!("\"{label}\" is no label: write NAME=VALUE"))?;
            if labels.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(format!("the label \"{name}\" stands twice"));
            }
        }
        Self::try_from(labels)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&host_labels_text(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_people_write_them() {
        assert_eq!("zone=a,disk=ssd".parse::<Labels>().unwrap().to_string(), "disk=ssd, zone=a");
        assert_eq!("".parse::<Labels>().unwrap(), Labels::default());
        for wrong in ["zone", "zone=", "=a", "zone=a,zone=b", "zone=a b"] {
            assert!(wrong.parse::<Labels>().is_err(), "{wrong}");
        }
        let many = (0..=HOST_LABELS_MAX).map(|n| format!("a{n}=b")).collect::<Vec<_>>().join(",");
        assert!(many.parse::<Labels>().unwrap_err().contains("at most"));
    }
}
