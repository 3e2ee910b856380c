//! ONNX models: boosted trees written as ONNX, and any classifier or regression model run.

mod foreign;
pub(crate) mod protobuf;
mod session;
mod tree_ensemble;

pub(crate) use self::foreign::inspect;
pub use self::session::{CHUNK, OnnxError, Runtime, Session, check, session_bytes};
pub use self::tree_ensemble::{ConvertError, convert, extend, trees};
