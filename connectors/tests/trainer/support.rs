//! Support for tests of trainers.

use perennial_connectors::onnx::Runtime;
use perennial_connectors::trainer::BuiltIn;

/// The built-in trainer, XGBoost in its own program.
pub fn trainer() -> BuiltIn {
    BuiltIn::find(Runtime::load().unwrap())
        .expect("run cargo build --release -p perennial-trainer first")
}

/// Pseudo-random numbers in [0, 1), the same in every run.
pub fn random(mut state: u64) -> impl FnMut() -> f32 {
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}
