//! Tests of the whole room: the texts it renders, the graphs it gives, what it mints.

mod golden;
mod graphs;
mod minting;
mod pooler;
mod properties;
mod several;
