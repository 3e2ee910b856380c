//! Rendering: turns predictions into the bytes of the output, on every worker, so that the one
//! writer only appends.

use std::rc::Rc;

use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, Predicted};

/// Renders each predicted batch with `render`, which appends to a buffer.
pub fn render<'scope>(
    predicted: Flow<'scope, Rc<Predicted>>,
    mut render: impl FnMut(&Predicted, &mut Vec<u8>) + 'static,
) -> Flow<'scope, Effect> {
    // Batches are alike in size, so the size of one is a good guess of the next.
    let mut capacity = 0;
    predicted.each("Render", move |predicted| {
        if !predicted.is_predicted() {
            return None;
        }
        let mut bytes = Vec::with_capacity(capacity);
        render(&predicted, &mut bytes);
        capacity = bytes.len() + bytes.len() / 8;
        Some(Effect::Predictions {
            first: predicted.allocated.batch.first,
            rows: predicted.allocated.batch.len() as u64,
            bytes,
        })
    })
}
