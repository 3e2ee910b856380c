//! What systemd is told of a run that it has started as a service of the type `notify`.

use sd_notify::{NotifyState, notify};

/// Tells that the state is read and the stream begins. A first model may still be missing.
pub(super) fn tell_ready() {
    tell(NotifyState::Ready);
}

/// Tells that the run ends.
pub(super) fn tell_stopping() {
    tell(NotifyState::Stopping);
}

/// Does nothing where no supervisor listens.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = notify(&[state]) {
        tracing::warn!("systemd cannot be told how the run is doing: {error}");
    }
}
