//! Strangeness: measures whether samples of a task look less like known ones than before, with
//! labels or without.
//!
//! The strangeness of a sample is one less the p-value of its [density](Method::Density). Among
//! samples like earlier ones it is uniform on 0 to 1, and it rises where features move away from
//! where they were.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::algorithms::drift::Strangeness;
use crate::algorithms::recognize::Method;
use crate::data::TaskId;
use crate::epochs::Epochs;
use crate::flow::{Flow, Predicted};

/// Strangeness of the samples of a batch, summed by task; a task's sum counts for its ancestors
/// too.
fn by_task(predicted: &Predicted) -> FxHashMap<TaskId, Strangeness> {
    let mut tasks: FxHashMap<TaskId, Strangeness> = FxHashMap::default();
    let Some(recognized) = &predicted.recognized else {
        return tasks;
    };
    let allocated = &predicted.allocated;
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

/// Emits the strangeness of samples, summed by batch and task.
pub fn strangeness<'scope>(
    predicted: Flow<'scope, Rc<Predicted>>,
) -> Flow<'scope, (TaskId, Strangeness)> {
    predicted.each("Strangeness", |predicted| by_task(&predicted))
}
