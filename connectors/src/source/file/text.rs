//! The bytes of a text file, plain or gzipped, with counted lines and bounded records.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::GzDecoder;
use memchr::{memchr, memchr_iter};

/// Bytes read from the file at a time.
const BUFFER: usize = 1 << 17;

/// An open text file.
pub(super) struct TextInput {
    bytes: Box<dyn BufRead + Send>,
    /// Bytes that were put back, to be read before the others.
    back: io::Cursor<Vec<u8>>,
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
            Box::new(BufReader::with_capacity(BUFFER, GzipMembers::new(file)))
        } else {
            Box::new(file)
        };
        let mut input = TextInput {
            bytes,
            back: io::Cursor::default(),
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
        if self.has_back() {
            return self.back.fill_buf();
        }
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
        if self.has_back() {
            self.back.consume(bytes);
        } else {
            self.back = io::Cursor::default();
            self.bytes.consume(bytes);
        }
    }

    fn has_back(&self) -> bool {
        self.back.position() < self.back.get_ref().len() as u64
    }

    /// Puts bytes back that were consumed last, so that they are read again.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        // Bytes that were put back before are still there.
        match self.back.position().checked_sub(bytes.len() as u64) {
            Some(start) => self.back.set_position(start),
            None => self.back = io::Cursor::new(bytes.to_vec()),
        }
        self.line -= count_lines(bytes);
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

/// The content of all members of a gzip file, one behind the other. Zeros after a member are
/// padding, as for gunzip: tapes and block devices fill their last block with them.
struct GzipMembers<R> {
    /// The member that is read; none after the last one.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipMembers<R> {
    fn new(bytes: R) -> GzipMembers<R> {
        GzipMembers {
            member: Some(GzDecoder::new(bytes)),
        }
    }
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.member else {
                return Ok(0);
            };
            let read = member.read(to)?;
            if read > 0 || to.is_empty() {
                return Ok(read);
            }
            let is_last = skip_zeros(member.get_mut())?;
            let member = self.member.take().filter(|_| !is_last);
            self.member = member.map(|member| GzDecoder::new(member.into_inner()));
        }
    }
}

/// Skips zero bytes. Returns whether the end of the file follows.
fn skip_zeros(bytes: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = bytes.fill_buf()?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let all = buffer.len();
        bytes.consume(zeros);
        if all == 0 || zeros < all {
            return Ok(all == 0);
        }
    }
}

/// Number of line ends in the bytes.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
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
