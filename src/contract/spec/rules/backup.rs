//! `backup_config` and `restore_config`: their rules hold although this build refuses them as a whole, so that a spec
//! is right on the day that it is accepted.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use super::Check;
use crate::contract::faults::{Code, pointer};
use crate::contract::wire::{BackupConfigSpec, RepositoryType, RestoreConfigSpec};

pub(super) fn check(check: &mut Check<'_>) {
    let spec = check.spec;
    backup(check, spec.backup_config.as_ref(), "/backup_config");
    restore(check, spec.restore_config.as_ref(), "/restore_config");
    for (index, node) in spec.nodes.iter().flatten().enumerate() {
        backup(check, node.backup_config.as_ref(), &format!("/nodes/{index}/backup_config"));
        restore(check, node.restore_config.as_ref(), &format!("/nodes/{index}/restore_config"));
    }
}

fn backup(check: &mut Check<'_>, config: Option<&BackupConfigSpec>, place: &str) {
    let Some(config) = config else { return };
    let mut ids = BTreeSet::new();
    for (index, repository) in config.repositories.iter().enumerate() {
        let place = format!("{place}/repositories/{index}");
        if let Some(id) = repository.id.as_deref().filter(|id| !ids.insert(*id)) {
            check.add(Code::DuplicateName, pointer(&place, "id"), format!("the repository \"{id}\" stands twice"));
        }
        let asked = Repository {
            kind: repository.kind,
            s3_bucket: repository.s3_bucket.is_some(),
            gcs_bucket: repository.gcs_bucket.is_some(),
            azure: [
                ("azure_account", repository.azure_account.is_some()),
                ("azure_container", repository.azure_container.is_some()),
                ("azure_key", repository.azure_key.is_some()),
            ],
            base_path: repository.base_path.as_deref(),
        };
        asked.check(check, &place);
        options(check, repository.custom_options.keys(), &pointer(&place, "custom_options"));
    }
    let mut ids = BTreeSet::new();
    for (index, schedule) in config.schedules.iter().enumerate() {
        let place = format!("{place}/schedules/{index}");
        if !ids.insert(schedule.id.as_str()) {
            check.add(
                Code::DuplicateName,
                pointer(&place, "id"),
                format!("the schedule \"{}\" stands twice", schedule.id),
            );
        }
        if let Some(why) = bad_cron(&schedule.cron_expression) {
            check.add(Code::InvalidCron, pointer(&place, "cron_expression"), why);
        }
    }
}

fn restore(check: &mut Check<'_>, config: Option<&RestoreConfigSpec>, place: &str) {
    let Some(config) = config else { return };
    let repository = &config.repository;
    let asked = Repository {
        kind: repository.kind,
        s3_bucket: repository.s3_bucket.is_some(),
        gcs_bucket: repository.gcs_bucket.is_some(),
        azure: [
            ("azure_account", repository.azure_account.is_some()),
            ("azure_container", repository.azure_container.is_some()),
            ("azure_key", repository.azure_key.is_some()),
        ],
        base_path: repository.base_path.as_deref(),
    };
    let repository_place = pointer(place, "repository");
    asked.check(check, &repository_place);
    options(check, repository.custom_options.keys(), &pointer(&repository_place, "custom_options"));
    options(check, config.restore_options.keys(), &pointer(place, "restore_options"));
}

/// What a repository has of the fields that its type may need.
struct Repository<'a> {
    kind: RepositoryType,
    s3_bucket: bool,
    gcs_bucket: bool,
    azure: [(&'static str, bool); 3],
    base_path: Option<&'a str>,
}

impl Repository<'_> {
    fn check(&self, check: &mut Check<'_>, place: &str) {
        let kind = self.kind.as_str();
        let mut need = |field: &str, there: bool| {
            if !there {
                check.add(
                    Code::Required,
                    pointer(place, field),
                    format!("{field} is required for {kind} repositories"),
                );
            }
        };
        match self.kind {
            RepositoryType::S3 => need("s3_bucket", self.s3_bucket),
            RepositoryType::Gcs => need("gcs_bucket", self.gcs_bucket),
            RepositoryType::Azure => self.azure.iter().for_each(|(field, there)| need(field, *there)),
            RepositoryType::Posix | RepositoryType::Cifs => need("base_path", self.base_path.is_some()),
        }
        let is_directory = matches!(self.kind, RepositoryType::Posix | RepositoryType::Cifs);
        if is_directory && self.base_path.is_some_and(|path| !path.starts_with('/')) {
            let message = format!("base_path must be absolute for {kind} repositories");
            check.add(Code::InvalidPath, pointer(place, "base_path"), message);
        }
    }
}

fn options<'a>(check: &mut Check<'_>, names: impl Iterator<Item = &'a String>, place: &str) {
    for name in names {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(fits) {
            let message = "invalid option name: lowercase letters, digits and hyphens are allowed";
            check.add(Code::InvalidOption, pointer(place, name), message);
        }
    }
}

fn bad_cron(expression: &str) -> Option<&'static str> {
    if expression.split_whitespace().count() != 5 {
        return Some("five fields are asked for: minute, hour, day of the month, month, day of the week");
    }
    croner::Cron::from_str(expression).err().map(|_| "it is not a cron expression")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_has_five_fields() {
        for good in ["0 2 * * *", "*/5 * * * MON-FRI", "0 0 1 1 0"] {
            assert_eq!(bad_cron(good), None, "{good}");
        }
        for bad in ["", "@daily", "0 2 * *", "0 0 2 * * *", "61 * * * *", "* * * 13 *", "a b c d e"] {
            assert!(bad_cron(bad).is_some(), "{bad}");
        }
    }
}
