//! The contract held to its files: generated schemas and tables, every example both ways, and properties of reading.

#![cfg(test)]

#[path = "spec/documents.rs"]
mod documents;
#[path = "spec/examples.rs"]
mod examples;
#[path = "spec/generated.rs"]
mod generated;
#[path = "spec/properties.rs"]
mod properties;
#[path = "spec/reference.rs"]
mod reference;
#[path = "spec/rules.rs"]
mod rules;
#[path = "spec/world.rs"]
mod world;
