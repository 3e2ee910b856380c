//! How models are trained, judged and replaced, and what becomes of samples of unseen tasks.

mod deployment;
mod drift;
mod evaluate;
mod examine;
mod groups;
mod models;
mod side_by_side;
mod task_tree;
mod thermal;
mod unseen;
