//! The command line as it is used: the compiled program, its output and its exit codes, and MQTT commands against the
//! embedded broker with somebody at the other end who answers.

#![cfg(test)]

mod config;
mod daemon;
mod doctor;
mod mqtt;
mod offline;
mod support;
