//! What a person does, end to end: the real program, real Docker, plain messages and psql.

mod approve;
mod brokers;
mod change;
mod checks;
mod create;
mod delete;
mod drift;
mod explain;
mod kill;
mod kills;
mod nodes;
mod secrets;
mod site;
mod stack;

use site::Site;
