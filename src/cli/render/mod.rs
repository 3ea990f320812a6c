//! Documents as text for people.
//!
//! Invariant: nothing in here writes; every function gives whole lines, without control characters from outside.

mod explain;
mod history;
mod hosts;
mod plan;
mod replay;
mod status;

pub(super) use explain::explanation;
pub(super) use history::{diff, history, in_trash};
pub(super) use hosts::hosts;
pub(super) use plan::plan;
pub(super) use replay::replay;
pub(super) use status::{Row, change, details, event, progress, state, table};
use status::{age, clock};

use super::output::{Colour, Style, plain};
use crate::contract::Fault;

/// Every fault as `pointer: message [code]`, and below it what to do.
pub(super) fn faults(faults: &[Fault], style: Style) -> String {
    let mut text = String::new();
    for fault in faults {
        let pointer = if fault.pointer.is_empty() { "(document)".to_owned() } else { plain(&fault.pointer) };
        let pointer = style.paint(Colour::Bold, &pointer);
        let code = style.paint(Colour::Red, &format!("[{}]", fault.code));
        text.push_str(&format!("{pointer}: {} {code}\n", plain(&fault.message)));
        if let Some(hint) = &fault.hint {
            text.push_str(&format!("    {}\n", plain(hint)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Code;

    #[test]
    fn faults_say_where_and_what_to_do() {
        let list = [
            Fault::new(Code::InvalidJson, "", "not\u{1b}[2J JSON"),
            Fault::new(Code::OutOfRange, "/port", "too large").hint("65535 at most"),
        ];
        let text = faults(&list, Style { coloured: false });
        assert_eq!(
            text,
            "(document): not [2J JSON [invalid-json]\n    check it with `pgmoor validate FILE`, or any JSON tool\n/port: too large [out-of-range]\n    65535 at most\n"
        );
    }
}
