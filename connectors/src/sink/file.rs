//! An append-only text file that is cut to its committed length on open.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::SinkError;

/// A file that is appended to.
pub struct AppendFile {
    path: PathBuf,
    writer: BufWriter<File>,
    length: u64,
    /// Whether bytes were written since the last flush.
    dirty: bool,
}

impl AppendFile {
    /// Opens a file and cuts it to `committed` bytes. A new file begins with `header`.
    pub fn open(path: &Path, header: &[u8], committed: u64) -> Result<Self, SinkError> {
        let failed = |reason| SinkError::Write {
            path: path.into(),
            reason,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found < committed {
            return Err(SinkError::Shortened {
                path: path.into(),
                found,
                committed,
            });
        }
        file.set_len(committed).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut opened = AppendFile {
            path: path.into(),
            writer: BufWriter::with_capacity(1 << 16, file),
            length: committed,
            dirty: false,
        };
        if committed == 0 {
            opened.append(header)?;
        }
        Ok(opened)
    }

    /// Appends bytes. They need not be durable yet.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let written = self.writer.write_all(bytes);
        written.map_err(|reason| self.failed(reason))?;
        self.length += bytes.len() as u64;
        self.dirty |= !bytes.is_empty();
        Ok(())
    }

    /// Makes all bytes durable and returns the length.
    pub fn flush(&mut self) -> Result<u64, SinkError> {
        if self.dirty {
            let flushed = self
                .writer
                .flush()
                .and_then(|()| self.writer.get_ref().sync_data());
            flushed.map_err(|reason| self.failed(reason))?;
            self.dirty = false;
        }
        Ok(self.length)
    }

    fn failed(&self, reason: std::io::Error) -> SinkError {
        SinkError::Write {
            path: self.path.clone(),
            reason,
        }
    }
}
