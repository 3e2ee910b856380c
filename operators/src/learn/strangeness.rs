//! Features: whether samples of a task look less like known ones than they used to, labels or none.
//!
//! What is watched is one less the p-value of [density](crate::predict::recognizer): among samples like those before, it is spread
//! evenly from 0 to 1, and it rises where features move away from where they were.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::algorithms::drift::Strangeness;
use crate::algorithms::recognize::Method;
use crate::data::TaskId;
use crate::epochs::Epochs;
use crate::flow::{Flow, Predicted};

/// How strange the samples of a batch look, by task; each task's sum is in those of its ancestors too.
fn by_task(scored: &Predicted) -> FxHashMap<TaskId, Strangeness> {
    let mut tasks: FxHashMap<TaskId, Strangeness> = FxHashMap::default();
    let Some(recognized) = &scored.recognized else {
        return tasks;
    };
    let allocated = &scored.allocated;
    for group in &allocated.groups {
        let mut sum = Strangeness::default();
        for row in &allocated.order[group.start..group.end] {
            let p = recognized.p[*row as usize][Method::Density as usize];
            if !p.is_nan() {
                sum.add_sample(p);
            }
        }
        if sum.count > 0 {
            for node in &group.path.nodes {
                tasks.entry(node.task).or_default().add(&sum);
            }
        }
    }
    tasks
}

/// How strange samples look, batch by batch and task by task.
pub fn strangeness<'scope>(
    scored: Flow<'scope, Rc<Predicted>>,
) -> Flow<'scope, (TaskId, Strangeness)> {
    scored.each("Strangeness", |scored| by_task(&scored))
}
