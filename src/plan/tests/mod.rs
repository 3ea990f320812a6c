//! Tests of the planner: golden plans named by scenario, properties of random graphs, and plans that the checker
//! must refuse.

mod approval;
mod decision;
mod drift;
mod golden;
mod nodes;
mod properties;
mod refused;
mod rules;
mod turns;
mod world;
