//! An explanation as text: the chain, what is to be known besides, what to do.

use super::super::output::{Colour, Style, plain};
use super::age;
use crate::contract::documents::Time;
use crate::report::explain::{Explanation, Link};

/// The chain from the wish down to the cause, a line each.
pub(in crate::cli) fn explanation(explanation: &Explanation, now: Time, style: Style) -> String {
    let mut text = String::new();
    for (index, link) in explanation.chain.iter().enumerate() {
        let arrow = if index == 0 { "" } else { "  ← " };
        let colour = if explanation.fine { Colour::Green } else { Colour::Yellow };
        let line = if index == 0 { style.paint(colour, &line(link, now)) } else { line(link, now) };
        text.push_str(&format!("{arrow}{line}\n"));
    }
    if !explanation.besides.is_empty() {
        text.push_str("\nbesides:\n");
        for link in &explanation.besides {
            text.push_str(&format!("  {}\n", line(link, now)));
        }
    }
    text.push_str("\nwhat to do:\n");
    if explanation.todo.is_empty() {
        let nothing = if explanation.fine { "nothing" } else { "nothing now: it goes on by itself" };
        text.push_str(&format!("  {nothing}\n"));
    }
    for hint in &explanation.todo {
        text.push_str(&format!("  {}\n", style.paint(Colour::Bold, &plain(hint))));
    }
    text
}

fn line(link: &Link, now: Time) -> String {
    let since = link.since.map(|since| format!(" (since {}, {})", super::clock(since), age(since, now)));
    let until = link.until.map(|until| format!(", goes on at {}", super::clock(until)));
    format!("{}{}{}", plain(&link.what), since.unwrap_or_default(), until.unwrap_or_default())
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
