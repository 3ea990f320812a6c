//! The drivers against the systems that they drive: what only the real thing shows. What the in-memory drivers must do
//! too is in the conformance suite.

mod container;
mod etcd;
mod postgres;
mod swarm;
