//! Rendering: predictions as the bytes of the output, on every worker, so that one writer only
//! appends.

use std::rc::Rc;

use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, Predicted};

/// Renders each predicted batch with `render`, which appends to a buffer.
pub fn render<'scope>(
    scored: Flow<'scope, Rc<Predicted>>,
    mut render: impl FnMut(&Predicted, &mut Vec<u8>) + 'static,
) -> Flow<'scope, Effect> {
    // Batches are alike in size: the last one's is a good guess of the next one's.
    let mut size = 0;
    scored.each("Render", move |scored| {
        if !scored.is_predicted() {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        render(&scored, &mut bytes);
        size = bytes.len() + bytes.len() / 8;
        Some(Effect::Predictions {
            first: scored.allocated.batch.first,
            rows: scored.allocated.batch.len() as u64,
            bytes,
        })
    })
}
