//! Stage 2, predict: runs the deployed models, pools their outputs, and recognizes unseen samples.

mod calibrate;
mod infer;
mod predictor;
mod recognizer;
mod render;
mod trial;

pub use self::calibrate::calibrate;
pub use self::infer::infer;
pub use self::predictor::{Baseline, InferenceRules, Models, Predictor};
pub use self::recognizer::Recognizer;
pub use self::render::render;
