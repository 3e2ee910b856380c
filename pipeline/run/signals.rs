//! SIGINT and SIGTERM: the first one asks a command to end, a second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::Error;

/// Sets `stop` at the first SIGINT or SIGTERM. A second one ends the process at once.
pub fn stop_on_signal(stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, signalled.clone())
            .and_then(|_| signal_hook::flag::register(signal, signalled.clone()))
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Error::Failed(error.into()))?;
    }
    Ok(())
}
