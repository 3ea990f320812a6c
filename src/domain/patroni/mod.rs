//! Patroni: the dynamic configuration of a node, which stands in etcd, and the file of an instance, which says only
//! what belongs to that instance.

mod dynamic;
mod file;

pub(super) use dynamic::attributes;
pub use dynamic::{document, marker, patch, read};
pub(super) use file::{Member, render};
