//! Rendering: predictions as the bytes of the output, on every worker, so that one writer only
//! appends.

use std::rc::Rc;

use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::flow::{Effect, Flow, Scored};

/// Renders each predicted batch with `render`, which appends to a buffer.
pub fn render<'scope>(
    scored: Flow<'scope, Rc<Scored>>,
    mut render: impl FnMut(&Scored, &mut Vec<u8>) + 'static,
) -> Flow<'scope, Effect> {
    scored.unary(Pipeline, "Render", move |_capability, _info| {
        // Batches are alike in size: the last one's is a good guess of the next one's.
        let mut size = 0;
        move |input, output| {
            input.for_each(|capability, batches| {
                let mut session = output.session(&capability);
                for scored in batches.drain(..).filter(|scored| scored.is_predicted()) {
                    let mut bytes = Vec::with_capacity(size);
                    render(&scored, &mut bytes);
                    size = bytes.len() + bytes.len() / 8;
                    session.give(Effect::Predictions {
                        first: scored.allocated.batch.first,
                        rows: scored.allocated.batch.len() as u64,
                        bytes,
                    });
                }
            });
        }
    })
}
