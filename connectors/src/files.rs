//! Files: made durable with their folder, kept private, and told from other files.

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

/// Number of bytes before the committed length that a file is recognized by. They hold ids and
/// epochs, which no other file has at the same place.
const MARK: u64 = 4096;

/// A file of an output as it was last committed, and what tells it from any other file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Path of the output in the config.
    pub path: String,
    /// Number that the file gets when it is finished.
    pub number: u64,
    /// Number of the oldest finished file that is not removed yet.
    pub oldest: u64,
    /// Inode of the file, by which it is recognized while it is empty.
    pub inode: u64,
    /// Committed length in bytes.
    pub length: u64,
    /// Hash of the last committed bytes, at most 4096.
    pub mark: u64,
    /// When the file was begun, seconds since 1970.
    pub begun: i64,
}

impl OutputFile {
    /// A file of which only the committed length is known, as in states of earlier versions. Like
    /// these, it trusts what lies at `path`.
    pub fn trusted(path: &Path, length: u64) -> OutputFile {
        let marked = File::open(path).and_then(|file| mark_of(&file, length));
        OutputFile {
            path: path.to_string_lossy().into_owned(),
            length,
            mark: marked.unwrap_or_default(),
            ..OutputFile::default()
        }
    }

    /// Whether `file` is this file: it has the committed bytes, and maybe more behind them.
    pub(crate) fn is(&self, file: &File) -> io::Result<bool> {
        let found = file.metadata()?;
        if self.length == 0 {
            return Ok(found.ino() == self.inode);
        }
        Ok(found.len() >= self.length && mark_of(file, self.length)? == self.mark)
    }
}

/// Hash of the last of the first `length` bytes of a file.
pub(crate) fn mark_of(file: &File, length: u64) -> io::Result<u64> {
    let marked = length.min(MARK);
    let mut bytes = vec![0; marked as usize];
    file.read_exact_at(&mut bytes, length - marked)?;
    let hash = blake3::hash(&bytes);
    let first = hash.as_bytes().first_chunk().copied();
    Ok(u64::from_le_bytes(first.unwrap_or_default()))
}

/// Makes durable which files are in the folder of `path`. A new file, or a new name, may otherwise
/// be gone after a power cut, whatever was synced of its content.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new(".")))?.sync_all() {
        // Some network file systems cannot do it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Creates a folder, and those above it that are missing, for their owner alone.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_folder_of(path)
}

/// Whether users other than the owner and his group may read a file or folder.
pub(crate) fn is_open_to_others(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.mode() & 0o007 != 0)
}

/// Reads a private key or another secret. As with OpenSSH, its owner alone may have access to it.
///
/// # Errors
/// The file cannot be read, or others have access to it.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    let mode = found.mode() & 0o777;
    if found.uid() == Uid::effective().as_raw() && mode & 0o077 != 0 {
        let reason = format!("other users have access to this secret (mode {mode:o}): chmod 600");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    let mut secret = Vec::new();
    file.read_to_end(&mut secret)?;
    Ok(secret)
}

/// Raises the limit on open files as far as the system allows it. The usual one, 1024, is less than
/// a knowledge base of some gigabytes and the partitions of a topic need.
pub fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Without it, the lower limit holds, which the knowledge base respects.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Limit on the open files of this process.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_of_others_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "secret").expect("a file");
        let with_mode = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), mode).expect("a mode");
            read_secret(file.path())
        };
        assert_eq!(with_mode(0o600).expect("a secret"), b"secret");
        for mode in [0o644, 0o640, 0o604] {
            let refused = with_mode(mode).expect_err("a refusal").to_string();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }
}
