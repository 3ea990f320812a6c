//! Amounts of processors and memory. The schema has checked their form.

use super::super::quantity::{QuantityError, cpu_millis, memory_bytes};
use super::Check;
use crate::contract::faults::{Code, pointer};

pub(super) fn check(check: &mut Check<'_>) {
    let mut found = Vec::new();
    let mut look = |place: &str, cpus: Option<&str>, memory: Option<&str>| {
        found.push((pointer(place, "cpus"), cpus.map(cpu_millis)));
        found.push((pointer(place, "memory"), memory.map(memory_bytes)));
    };
    let spec = check.spec;
    look("", spec.cpus.as_deref(), spec.memory.as_deref());
    for (index, node) in spec.nodes.iter().flatten().enumerate() {
        look(&pointer("/nodes", index), node.cpus.as_deref(), node.memory.as_deref());
    }
    for (index, service) in spec.services.iter().enumerate() {
        // A service may be smaller than a Postgres.
        let memory = service.memory.as_deref();
        let too_small = memory.map(memory_bytes) == Some(Err(QuantityError::TooLittleMemory));
        look(&pointer("/services", index), service.cpus.as_deref(), memory.filter(|_| !too_small));
    }
    for (place, amount) in found {
        let Some(Err(error)) = amount else { continue };
        let code = match error {
            QuantityError::Form => Code::InvalidQuantity,
            QuantityError::TooLarge | QuantityError::TooFewCpus | QuantityError::TooLittleMemory => Code::OutOfRange,
        };
        check.add(code, place, error.to_string());
    }
}
