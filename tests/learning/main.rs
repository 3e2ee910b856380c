//! How models are trained, judged and replaced, and what becomes of samples of unseen tasks.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod drift;
mod evaluate;
mod examine;
mod groups;
mod learning;
mod models;
mod side_by_side;
mod task_tree;
mod thermal;
mod unseen;
