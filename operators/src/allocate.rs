//! Task allocation: each sample to the path of tasks that it belongs to.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::flow::{Allocated, Flow, Group};
use crate::{Batch, EpochHeader, MISSING, Slice, TaskDefinition, TaskPath};

/// How tasks are made from attributes: each level adds some attributes to what sets a task apart.
#[derive(Clone, Debug)]
pub struct TaskLevels {
    /// For each level, from coarse to fine, the attribute columns and their names.
    pub levels: Vec<Vec<(usize, String)>>,
}

/// Allocates the rows of batches, remembering the paths that it has met.
pub struct Allocator {
    levels: TaskLevels,
    /// The codes of all path attributes of a row → index into `paths`. A source never changes the
    /// meaning of a code, so the codes can stand for the values.
    known: FxHashMap<Box<[u32]>, u32>,
    paths: Vec<Rc<TaskPath>>,
    /// Scratch: the codes of the current row.
    key: Vec<u32>,
    /// Scratch: for each path the number of its group in the current batch, plus one.
    group_of_path: Vec<u32>,
}

impl Allocator {
    /// An allocator that has met no sample yet.
    pub fn new(levels: TaskLevels) -> Self {
        Allocator {
            levels,
            known: FxHashMap::default(),
            paths: Vec::new(),
            key: Vec::new(),
            group_of_path: Vec::new(),
        }
    }

    /// Groups the rows of a batch by their finest task.
    pub fn allocate(&mut self, header: EpochHeader, batch: Batch) -> Allocated {
        let rows = batch.len();
        let mut group_of = Vec::with_capacity(rows);
        let mut sizes: Vec<usize> = Vec::new();
        let mut paths: Vec<u32> = Vec::new();
        for row in 0..rows {
            let path = self.path_of(&batch, row);
            let group = &mut self.group_of_path[path as usize];
            if *group == 0 {
                paths.push(path);
                sizes.push(0);
                *group = paths.len() as u32;
            }
            sizes[*group as usize - 1] += 1;
            group_of.push(*group - 1);
        }
        let mut groups = Vec::with_capacity(paths.len());
        let mut start = 0;
        for (path, size) in paths.iter().zip(&sizes) {
            self.group_of_path[*path as usize] = 0;
            groups.push(Group {
                path: self.paths[*path as usize].clone(),
                start,
                end: start + size,
            });
            start += size;
        }
        let order = order_by_group(&group_of, &groups);
        Allocated {
            header,
            batch,
            groups,
            order,
            group_of,
            labels: Arc::default(),
        }
    }

    fn path_of(&mut self, batch: &Batch, row: usize) -> u32 {
        self.key.clear();
        for (column, _) in self.levels.levels.iter().flatten() {
            self.key.push(batch.attributes[*column][row]);
        }
        if let Some(path) = self.known.get(self.key.as_slice()) {
            return *path;
        }
        let path = self.paths.len() as u32;
        self.paths.push(Rc::new(self.new_path(batch, row)));
        self.group_of_path.push(0);
        self.known.insert(self.key.clone().into(), path);
        path
    }

    /// Missing values do not set a task apart: a level without any known value is left out, so that
    /// a site of unknown city still is a task below what is known.
    fn new_path(&self, batch: &Batch, row: usize) -> TaskPath {
        let mut nodes = vec![TaskDefinition::base()];
        for level in &self.levels.levels {
            let values: Vec<(String, String)> = level
                .iter()
                .filter(|(column, _)| batch.attributes[*column][row] != MISSING)
                .map(|(column, name)| (name.clone(), batch.attribute(*column, row).to_string()))
                .collect();
            if !values.is_empty() {
                let node = nodes[nodes.len() - 1].child(&values);
                nodes.push(node);
            }
        }
        TaskPath { nodes }
    }
}

/// Counting sort of the row numbers by group.
pub(crate) fn order_by_group(group_of: &[u32], groups: &[Group]) -> Vec<u32> {
    let mut next: Vec<usize> = groups.iter().map(|group| group.start).collect();
    let mut order = vec![0; group_of.len()];
    for (row, group) in group_of.iter().enumerate() {
        let place = &mut next[*group as usize];
        order[*place] = row as u32;
        *place += 1;
    }
    order
}

/// Allocates every slice that arrives on this worker.
pub fn allocate<'scope>(
    slices: Flow<'scope, Slice>,
    levels: TaskLevels,
) -> Flow<'scope, Rc<Allocated>> {
    slices.unary(Pipeline, "Allocate", move |_capability, _info| {
        let mut allocator = Allocator::new(levels);
        move |input, output| {
            input.for_each(|capability, slices| {
                let mut session = output.session(&capability);
                for slice in slices.drain(..) {
                    let allocated = allocator.allocate(slice.header, slice.batch);
                    session.give(Rc::new(Allocated {
                        labels: slice.labels,
                        ..allocated
                    }));
                }
            });
        }
    })
}
