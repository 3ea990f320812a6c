//! What a person does, end to end: the real program, real Docker, plain messages and psql.

mod change;
mod create;
mod delete;
mod kill;
mod site;

use site::Site;
