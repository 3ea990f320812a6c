//! Live tests: what needs a real Docker Swarm, Patroni, Postgres or etcd. They run one at a time.

#![cfg(test)]

mod drivers;
