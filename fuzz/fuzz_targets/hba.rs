//! Any text as lines of pg_hba.conf and pg_ident.conf: what is accepted stays one line each, and opens no door to
//! pgmoor's own roles.
#![no_main]

use serde_json::json;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.split('\u{1}').collect();
    for key in ["pg_hba_conf", "pg_ident_conf"] {
        let spec = json!({ "template": "postgres", key: lines.clone() });
        let Ok(bytes) = serde_json::to_vec(&spec) else { return };
        if pgmoor_fuzz::judge(&bytes).is_some() {
            for line in &lines {
                assert!(!line.contains(['\n', '\r', '\0']), "a line that is two: {line:?}");
                assert!(!line.trim_end_matches(['\n', '\r']).ends_with('\\'), "a line that goes on: {line:?}");
            }
        }
    }
});
