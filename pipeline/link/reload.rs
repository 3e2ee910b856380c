//! Reloading: SIGHUP makes a running cloud read `link.edges` again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_connectors::source::edges::EdgeRights;

use super::common::edge_rights;
use crate::config::Settings;
use crate::error::Error;

/// Listens for SIGHUP. The returned function gives the edges of the config after each signal, once;
/// a config that cannot be used is an error in the log, and changes nothing.
pub fn on_signal(
    settings: &Settings,
) -> Result<impl FnMut() -> Option<BTreeMap<String, EdgeRights>> + Send + use<>, Error> {
    let signalled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, signalled.clone())
        .map_err(|error| Error::Failed(error.into()))?;
    let settings = settings.clone();
    Ok(move || {
        if !signalled.swap(false, Ordering::SeqCst) {
            return None;
        }
        match read(&settings) {
            Ok(edges) => {
                tracing::info!(edges = edges.len(), "read link.edges again");
                Some(edges)
            }
            Err(error) => {
                tracing::error!("link.edges stays as it was: {error}");
                None
            }
        }
    })
}

fn read(settings: &Settings) -> Result<BTreeMap<String, EdgeRights>, Error> {
    let again = Settings::try_from(settings.loaded.reload()?)?;
    let link = again.config().link.as_ref();
    // The running stream keeps its schema.
    let edges = link.map(|link| edge_rights(link, &settings.schema));
    edges.unwrap_or_else(|| Ok(BTreeMap::new()))
}
