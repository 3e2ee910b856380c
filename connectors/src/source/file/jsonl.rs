//! JSON Lines: one object a line.

use super::text::{Line, TextInput};
use super::{Next, Records, excerpt, text};
use crate::format::JsonParser;
use crate::format::Row;

/// The records of a JSON Lines file. Blank lines are ignored.
pub(super) struct JsonRecords {
    input: TextInput,
    parser: JsonParser,
    content: Vec<u8>,
    line: u64,
}

impl JsonRecords {
    pub(super) fn new(input: TextInput, columns: &[String]) -> JsonRecords {
        JsonRecords {
            input,
            parser: JsonParser::new(columns),
            content: Vec::new(),
            line: 0,
        }
    }

    /// Reads the next line that is not blank.
    fn advance(&mut self) -> Result<Line, String> {
        loop {
            self.line = self.input.line;
            let line = self
                .input
                .read_line(&mut self.content)
                .map_err(|error| text::explain(&error))?;
            if line != Line::Whole || !self.content.trim_ascii().is_empty() {
                return Ok(line);
            }
        }
    }
}

impl Records for JsonRecords {
    fn next(&mut self, row: &mut Row) -> Result<Next, String> {
        match self.advance()? {
            Line::End => Ok(Next::End),
            Line::TooLong => Ok(Next::Bad(self.input.too_long())),
            Line::Whole => {
                let parsed = self.parser.parse(&self.content, row);
                Ok(parsed.map_or_else(Next::Bad, |()| Next::Record))
            }
        }
    }

    fn number(&self) -> u64 {
        self.line
    }

    fn content(&self, _: &Row) -> String {
        excerpt(&self.content)
    }

    fn count(&mut self) -> Result<u64, String> {
        let mut records = 0;
        while self.advance()? != Line::End {
            records += 1;
        }
        Ok(records)
    }
}
