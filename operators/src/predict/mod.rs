//! Stage 2, predict: runs the deployed models, pools their outputs, and recognizes unseen samples.

mod calibrate;
mod failures;
mod fallback;
mod infer;
mod models;
mod predictor;
mod recognizer;
mod render;
mod retire;
mod trial;

pub use self::calibrate::calibrate;
pub use self::infer::infer;
pub use self::models::Models;
pub use self::predictor::{Baseline, InferenceRules, Predictor};
pub use self::recognizer::Recognizer;
pub use self::render::render;
pub use self::retire::retire_failed;
