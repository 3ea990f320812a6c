//! The broker from outside: real sockets, real clients, a real rumqttd behind
//! the front, and (in `mosquitto`) a real mosquitto on the shipped files.
#![cfg(test)]

mod engine;
mod front;
mod mosquitto;
mod raw;
mod support;
mod tls;
mod versions;
