//! Passes over an in-memory world, with a hand in it that is not pgmoor's.

mod drift;
mod gone;
mod hands_off;
mod images;
mod lead;
mod leftovers;
mod lost;
mod members;
mod nodes;
mod others;
mod placing;
mod scripts;
mod site;
