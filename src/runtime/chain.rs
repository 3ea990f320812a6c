//! An error with all its causes in one line, for the one place that logs or shows it.

use std::error::Error;
use std::fmt::Write as _;

/// The most causes that are followed: a chain that long is a loop or of no use to a reader.
const CAUSES_MAX: usize = 16;

/// The error and its causes, outermost first, joined by `: `.
///
/// Our errors never repeat their source in their own text; foreign ones do, so a cause whose text already stands at
/// the end of the line is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(error) = cause else { break };
        let text = error.to_string();
        if !line.ends_with(&text) {
            // Writing to a String cannot fail.
            let _infallible = write!(line, ": {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Nested {
        text: &'static str,
        #[source]
        source: Option<Box<Nested>>,
    }

    fn nested(texts: &[&'static str]) -> Option<Box<Nested>> {
        let (first, rest) = texts.split_first()?;
        Some(Box::new(Nested { text: first, source: nested(rest) }))
    }

    #[test]
    fn causes_are_joined_and_repetitions_left_out() {
        for (texts, line) in
            [(vec!["a"], "a"), (vec!["a", "b", "c"], "a: b: c"), (vec!["open: denied", "denied"], "open: denied")]
        {
            assert_eq!(chain(&*nested(&texts).unwrap()), line);
        }
    }
}
