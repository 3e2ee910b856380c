//! Task allocation: assigns each sample to the path of tasks that it belongs to.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::algorithms::cluster::{Clusters, Nearest};
use crate::data::{Batch, Level, MISSING, TaskDefinition, TaskId, TaskLevels, TaskPath};
use crate::epochs::Epochs;
use crate::flow::{Allocated, EpochHeader, Flow, Group, Phase, Slice, TaskUpdate, order_by_group};

/// Most paths that are cached. New attribute values can come without end.
const MOST_PATHS: usize = 1 << 17;

/// Bound on the number of tasks.
#[derive(Clone, Copy, Debug)]
pub struct TaskBound {
    /// Most tasks. It is checked between epochs, so that an epoch in which it is reached may still
    /// exceed it by the tasks of its own samples.
    pub most: usize,
    /// Whether it ends with the bootstrap, since groups of unseen samples decide from then on what
    /// becomes a task.
    pub bootstrap_only: bool,
}

/// Allocates the rows of batches. Caches the paths that it has seen.
pub struct Allocator {
    levels: TaskLevels,
    /// The columns of all path attributes.
    columns: Vec<usize>,
    /// Finds the clusters of samples, once clusters are known.
    nearest: Option<Nearest>,
    /// Aliases → the tasks that they are other names of.
    aliases: FxHashMap<TaskId, TaskDefinition>,
    /// Bound on the defined tasks, if there is one.
    bound: Option<TaskBound>,
    /// Tasks that are defined, if their number is bounded.
    defined: FxHashSet<TaskId>,
    /// Whether paths end at the finest task that is defined, since no more tasks may be.
    is_cutting: bool,
    /// Generation of the dictionaries that the cached codes are of.
    generation: u64,
    /// Codes of all path attributes of a row, and its cluster if there are any → index into
    /// `paths`, and whether that path was cut. A source changes the meaning of a code only with a
    /// new generation, so codes can stand for values.
    known: FxHashMap<Box<[u32]>, (u32, bool)>,
    paths: Vec<Rc<TaskPath>>,
    /// Finest task → index into `paths`. With aliases, several keys lead to one path.
    path_to: FxHashMap<TaskId, u32>,
    /// Scratch: the codes of the current row.
    key: Vec<u32>,
    /// Scratch: the clusters of the current batch's rows.
    clusters: Vec<u32>,
    /// Scratch: for each path, the number of its group in the current batch from 1, or 0.
    group_of_path: Vec<u32>,
}

impl Allocator {
    /// Allocator that has seen no sample yet.
    pub fn new(levels: TaskLevels) -> Self {
        let columns = levels.levels.iter().flat_map(|level| match level {
            Level::Attributes(attributes) => attributes.as_slice(),
            Level::Cluster(_) => &[],
        });
        Allocator {
            columns: columns.map(|(column, _)| *column).collect(),
            levels,
            nearest: None,
            aliases: FxHashMap::default(),
            bound: None,
            defined: FxHashSet::default(),
            is_cutting: false,
            generation: 0,
            known: FxHashMap::default(),
            paths: Vec::new(),
            path_to: FxHashMap::default(),
            key: Vec::new(),
            clusters: Vec::new(),
            group_of_path: Vec::new(),
        }
    }

    /// Allocates to these clusters from now on. Clusters never change, so only the first call
    /// counts.
    pub fn set_clusters(&mut self, clusters: &Clusters) {
        if self.nearest.is_none() {
            let plan = self.levels.cluster();
            let features = plan.iter().flat_map(|plan| &plan.features);
            let columns = features.map(|(column, _)| *column).collect();
            self.nearest = Some(Nearest::new(columns, clusters));
        }
    }

    /// Replaces a task by another, of which it is an alias, from now on.
    pub fn alias(&mut self, task: TaskId, old: TaskDefinition) {
        self.aliases.insert(task, old);
        self.forget_paths();
    }

    /// Bounds the number of tasks, of which some are defined already.
    pub fn bound(&mut self, bound: TaskBound, defined: impl IntoIterator<Item = TaskId>) {
        self.bound = Some(bound);
        self.defined.extend(defined);
    }

    /// Adds a task to the ones that are defined.
    fn define(&mut self, task: TaskId) {
        if self.bound.is_some() {
            self.defined.insert(task);
        }
    }

    /// Begins or ceases to cut paths, as the bound says in this phase.
    fn keep_bound(&mut self, phase: Phase) {
        let is_bootstrap = matches!(phase, Phase::Bootstrap | Phase::BootstrapEnds);
        let cuts = self.bound.is_some_and(|bound| {
            self.defined.len() >= bound.most && (is_bootstrap || !bound.bootstrap_only)
        });
        if cuts != self.is_cutting {
            self.is_cutting = cuts;
            self.forget_paths();
        }
    }

    fn forget_paths(&mut self) {
        self.known.clear();
        self.paths.clear();
        self.path_to.clear();
        self.group_of_path.clear();
    }

    /// Groups the rows of a batch by their finest task.
    pub fn allocate(&mut self, header: EpochHeader, batch: Batch) -> Allocated {
        let rows = batch.len();
        self.keep_bound(header.phase);
        if batch.generation != self.generation || self.paths.len() > MOST_PATHS {
            self.generation = batch.generation;
            self.forget_paths();
        }
        self.clusters.clear();
        if let Some(nearest) = &mut self.nearest {
            nearest.extend(batch.features.view(), &mut self.clusters);
        }
        let mut group_of = Vec::with_capacity(rows);
        let mut sizes: Vec<usize> = Vec::new();
        let mut paths: Vec<u32> = Vec::new();
        let mut undefined = 0;
        for row in 0..rows {
            let (path, is_cut) = self.path_of(&batch, row);
            undefined += u64::from(is_cut);
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
            undefined,
        }
    }

    /// Allocates one worker's slice of an epoch.
    fn allocate_slice(&mut self, slice: Slice) -> Allocated {
        if let Some(clusters) = &slice.clusters {
            self.set_clusters(clusters);
        }
        let allocated = self.allocate(slice.header, slice.batch);
        Allocated {
            labels: slice.labels,
            ..allocated
        }
    }

    /// Index of the path of a row, and whether the path was cut.
    fn path_of(&mut self, batch: &Batch, row: usize) -> (u32, bool) {
        self.key.clear();
        for column in &self.columns {
            self.key.push(batch.attributes[*column][row]);
        }
        self.key.extend(self.clusters.get(row));
        if let Some(path) = self.known.get(self.key.as_slice()) {
            return *path;
        }
        let (new, is_cut) = self.new_path(batch, row);
        let path = *self.path_to.entry(new.leaf().task).or_insert_with(|| {
            self.paths.push(Rc::new(new));
            self.group_of_path.push(0);
            self.paths.len() as u32 - 1
        });
        self.known.insert(self.key.clone().into(), (path, is_cut));
        (path, is_cut)
    }

    /// Makes the path of a row. A level without any known value is left out, so that a site of
    /// unknown city still is a task below the levels that are known. With the path comes whether it
    /// was cut.
    fn new_path(&self, batch: &Batch, row: usize) -> (TaskPath, bool) {
        let mut nodes = vec![TaskDefinition::base()];
        for level in &self.levels.levels {
            let values: Vec<(String, String)> = match level {
                Level::Attributes(attributes) => attributes
                    .iter()
                    .filter(|(column, _)| batch.attributes[*column][row] != MISSING)
                    .map(|(column, name)| (name.clone(), batch.attribute(*column, row).to_string()))
                    .collect(),
                Level::Cluster(_) => self
                    .clusters
                    .get(row)
                    .filter(|number| **number != MISSING)
                    .map(|number| Clusters::value(*number))
                    .into_iter()
                    .collect(),
            };
            if !values.is_empty() {
                let node = nodes[nodes.len() - 1].child(&values);
                let old = self.aliases.get(&node.task).cloned();
                let node = old.unwrap_or(node);
                if self.is_cutting && !self.defined.contains(&node.task) {
                    return (TaskPath { nodes }, true);
                }
                nodes.push(node);
            }
        }
        (TaskPath { nodes }, false)
    }
}

/// Allocates the samples of every slice. `updates` is a feedback edge, broadcast to every worker;
/// an alias and a definition are in force from their epoch on.
pub fn allocate<'scope>(
    slices: Flow<'scope, Slice>,
    updates: Flow<'scope, TaskUpdate>,
    allocator: Allocator,
) -> Flow<'scope, Rc<Allocated>> {
    slices.each_after(
        updates,
        "Allocate",
        // Nothing here can fail.
        Rc::new(drop),
        allocator,
        |allocator, updates| {
            for update in updates {
                match update {
                    TaskUpdate::Aliased(task, old) => allocator.alias(task, old),
                    TaskUpdate::Defined(task) => allocator.define(task),
                    TaskUpdate::RegionOpened(_)
                    | TaskUpdate::RegionClosed(_)
                    | TaskUpdate::LabelRequested(_) => {}
                }
            }
            Ok(())
        },
        |allocator, slice, out| {
            out.give(Rc::new(allocator.allocate_slice(slice)));
            Ok(())
        },
    )
}
