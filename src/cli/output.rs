//! Standard output for answers, standard error for what is said beside them.
//!
//! Invariants: text from outside reaches a terminal only through [`plain`]; each answer is written and flushed whole, so
//! a reader at the other end of a pipe never waits for the rest; a reader who left is [`Error::Closed`], no fault.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::Error;
use super::args::Format;

/// Where answers go.
pub struct Out {
    answers: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    colour: bool,
}

/// The colours in use, by their SGR codes (ECMA-48).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Grey,
    Bold,
}

impl Colour {
    fn code(self) -> u8 {
        match self {
            Self::Bold => 1,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Grey => 90,
        }
    }
}

/// Whether and how text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) coloured: bool,
}

impl Style {
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        if self.coloured { format!("\u{1b}[{}m{text}\u{1b}[0m", colour.code()) } else { text.to_owned() }
    }
}

impl Out {
    /// The process's own output; coloured on a terminal, unless `plain_text` is wished (`NO_COLOR`).
    #[must_use]
    pub fn standard(plain_text: bool) -> Self {
        let colour = !plain_text && io::stdout().is_terminal();
        Self { answers: Box::new(io::stdout()), notes: Box::new(io::stderr()), colour }
    }

    /// Output to anywhere, without colours.
    #[must_use]
    pub fn to(answers: Box<dyn Write + Send>, notes: Box<dyn Write + Send>) -> Self {
        Self { answers, notes, colour: false }
    }

    pub(super) fn style(&self) -> Style {
        Style { coloured: self.colour }
    }

    /// Writes an answer as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Error> {
        let written = self.answers.write_all(text.as_bytes()).and_then(|()| self.answers.flush());
        written.map_err(Error::of_output)
    }

    /// Writes one line of an answer.
    pub(super) fn line(&mut self, line: &str) -> Result<(), Error> {
        self.text(&format!("{line}\n"))
    }

    /// Writes a document as the whole answer. In text it is what `text` makes of it.
    pub(super) fn document<T: Serialize>(
        &mut self,
        format: Format,
        document: &T,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Error> {
        match format {
            Format::Text => {
                let style = self.style();
                self.text(&text(style))
            }
            Format::Json => self.line(&serde_json::to_string_pretty(document).map_err(Error::of_json)?),
            Format::Yaml => self.text(&serde_yaml_ng::to_string(document).map_err(Error::of_yaml)?),
        }
    }

    /// Writes one document of many: JSON in one line, YAML after `---`.
    pub(super) fn item<T: Serialize>(
        &mut self,
        format: Format,
        document: &T,
        text: impl FnOnce(Style) -> String,
    ) -> Result<(), Error> {
        match format {
            Format::Text => {
                let style = self.style();
                self.text(&text(style))
            }
            Format::Json => self.line(&serde_json::to_string(document).map_err(Error::of_json)?),
            Format::Yaml => {
                let yaml = serde_yaml_ng::to_string(document).map_err(Error::of_yaml)?;
                self.text(&format!("---\n{yaml}"))
            }
        }
    }

    /// Says something beside the answer. Nobody may be listening, and that is no error.
    pub(super) fn note(&mut self, text: &str) {
        let _nobody_listens = writeln!(self.notes, "{text}").and_then(|()| self.notes.flush());
    }

    /// Asks, without ending the line.
    pub(super) fn ask(&mut self, question: &str) {
        let _nobody_listens = write!(self.notes, "{question}").and_then(|()| self.notes.flush());
    }
}

/// The text without control characters: what comes from outside cannot steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What was written, for a test to read.
    #[derive(Clone, Default)]
    pub(in crate::cli) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(in crate::cli) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn documents_have_three_looks() {
        let written = Written::default();
        let mut out = Out::to(Box::new(written.clone()), Box::new(io::sink()));
        let document = serde_json::json!({"a": 1});
        out.document(Format::Text, &document, |_| "text\n".to_owned()).unwrap();
        out.document(Format::Json, &document, |_| String::new()).unwrap();
        out.document(Format::Yaml, &document, |_| String::new()).unwrap();
        out.item(Format::Json, &document, |_| String::new()).unwrap();
        out.item(Format::Yaml, &document, |_| String::new()).unwrap();
        assert_eq!(written.text(), "text\n{\n  \"a\": 1\n}\na: 1\n{\"a\":1}\n---\na: 1\n");
    }

    #[test]
    fn a_reader_who_left_is_no_fault() {
        let mut out = Out::to(Box::new(Broken), Box::new(Broken));
        assert!(matches!(out.line("x"), Err(Error::Closed)));
        out.note("nobody listens");
    }

    #[test]
    fn colours_only_when_asked_for_and_no_control_characters() {
        assert_eq!(Style { coloured: false }.paint(Colour::Red, "x"), "x");
        assert_eq!(Style { coloured: true }.paint(Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }
}
