//! Temporary folders for states and streams.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use crate::error::Error;

/// Makes a folder that its owner alone can read, since it holds samples. It is removed when it goes
/// out of scope.
pub(super) fn temporary_folder() -> Result<TempDir, Error> {
    tempfile::Builder::new()
        .prefix("perennial-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| Error::File(std::env::temp_dir(), error))
}
