//! Trainings and their models.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod built_in;
mod number;
mod onnx;
mod support;
