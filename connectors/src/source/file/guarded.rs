//! Calls of a library whose assertions damaged data can fail.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught and becomes an error, so that it need not end the
/// process.
pub fn catches_panics() -> bool {
    CATCHES.get()
}

/// Calls the library. A panic in it, where it should return an error, becomes one. What the call
/// has used must not be used after an error.
pub(super) fn guarded<T, E: ToString>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let before = CATCHES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CATCHES.set(before);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!(
            "the data are damaged ({}): write or copy the file again",
            message(&*panic)
        )),
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("an assertion failed")
}
