//! `host token` and `host join`: how a fleet grows by a host.

mod configuration;
pub(super) mod join;
pub(super) mod token;

use std::path::{Path, PathBuf};

use super::Context;

/// Where the fleet's key is on this host.
fn key_file(context: &Context<'_>) -> PathBuf {
    Path::new(&context.options.data_dir).join("fleet.key")
}
