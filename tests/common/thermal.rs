//! The thermal comfort stream, which is not part of this repository.

use std::path::PathBuf;

/// The stream's file; none where it is not at hand, which CI does not let pass.
pub fn stream() -> Option<PathBuf> {
    let given = std::env::var_os("PERENNIAL_THERMAL").map(PathBuf::from);
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/data/thermal/stream.csv.gz"
    );
    let path = given.unwrap_or_else(|| beside.into());
    if path.exists() {
        return Some(path);
    }
    let missing = format!(
        "the thermal comfort stream is not at {}: set PERENNIAL_THERMAL to its path",
        path.display()
    );
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{missing}");
    eprintln!("skipped: {missing}");
    None
}
