//! The bytes of a text file, plain or gzipped, with counted lines and bounded records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};

use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memchr_iter};

use super::CONTENT;

/// Bytes read from the file at a time.
const BUFFER: usize = 1 << 17;

/// An open text file.
pub(super) struct TextInput {
    bytes: Box<dyn BufRead + Send>,
    /// The longest record, in bytes.
    pub(super) limit: usize,
    /// The line of the next byte, from 1.
    pub(super) line: u64,
}

/// Result of [`TextInput::read_line`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line within the limit.
    Whole,
    /// A line above the limit, cut to it.
    TooLong,
    /// The end of the file.
    End,
}

impl TextInput {
    pub(super) fn new(file: File, gzip: bool, limit: usize) -> io::Result<TextInput> {
        let file = BufReader::with_capacity(BUFFER, file);
        let bytes: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        let mut input = TextInput {
            bytes,
            limit,
            line: 1,
        };
        if input.fill()?.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        Ok(input)
    }

    /// The buffered bytes; none at the end of the file.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        // fill_buf does not retry an interrupted read. The second call satisfies the borrow checker
        // and only returns what is buffered.
        loop {
            match self.bytes.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.fill_buf()
    }

    /// Consumes `bytes` buffered bytes.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.bytes.consume(bytes);
    }

    /// Whether the file is at its end.
    pub(super) fn is_empty(&mut self) -> io::Result<bool> {
        Ok(self.fill()?.is_empty())
    }

    /// Skips line ends.
    pub(super) fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.fill()?;
            let ends = buffer
                .iter()
                .take_while(|b| matches!(b, b'\n' | b'\r'))
                .count();
            let (all, lines) = (buffer.len(), count_lines(&buffer[..ends]));
            self.line += lines;
            self.consume(ends);
            if ends < all || all == 0 {
                return Ok(());
            }
        }
    }

    /// Skips the rest of the line and its end.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.fill()?;
            match memchr(b'\n', buffer) {
                Some(end) => {
                    self.line += 1;
                    self.consume(end + 1);
                    return Ok(());
                }
                None if buffer.is_empty() => return Ok(()),
                None => {
                    let all = buffer.len();
                    self.consume(all);
                }
            }
        }
    }

    /// Reads the next line, without its end, into `line`; at most `limit` bytes of it.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        loop {
            let room = self.limit - line.len();
            let buffer = self.fill()?;
            if buffer.is_empty() {
                return Ok(if line.is_empty() {
                    Line::End
                } else {
                    Line::Whole
                });
            }
            let end = memchr(b'\n', buffer);
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            if piece.len() > room {
                line.extend_from_slice(&piece[..room]);
                self.skip_line()?;
                return Ok(Line::TooLong);
            }
            line.extend_from_slice(piece);
            let taken = piece.len() + usize::from(end.is_some());
            self.consume(taken);
            if end.is_some() {
                self.line += 1;
                return Ok(Line::Whole);
            }
        }
    }

    /// The reason why a record above the limit is bad.
    pub(super) fn too_long(&self) -> String {
        format!(
            "the record is longer than {} bytes (max_record_bytes)",
            self.limit
        )
    }
}

/// Number of line ends in the bytes.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// Appends bytes of a record to the part that its dead letter keeps.
pub(super) fn keep(content: &mut Vec<u8>, bytes: &[u8]) {
    let room = CONTENT.saturating_sub(content.len());
    content.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// The reason of a failed read, for the user.
pub(super) fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => {
            "the gzip data end too early, so the file is cut off (copy it again)".into()
        }
        ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            format!("the gzip data are damaged ({error})")
        }
        _ => error.to_string(),
    }
}
