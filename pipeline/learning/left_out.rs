//! Samples that a training leaves out, since one of them would end it or spoil the model.
//!
//! A trainer takes no feature beyond [`LARGEST_FEATURE`]; the sources refuse such records, but
//! older states have them. And where the label is a number, trees fit the squared error, in which a
//! single label far from all others outweighs thousands. A label is left out if it is not
//! [usual](perennial_operators::algorithms::usual) and most labels around it in the stream are:
//! many in a row are no mistake but news.

use std::fmt;

use perennial_operators::algorithms::usual::UsualRange;
use perennial_operators::{LARGEST_FEATURE, LabelKind, RetainedSample};

/// Samples on each side of one that tell whether it is alone.
const AROUND: usize = 8;

/// Number of samples that a training left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OmittedSamples {
    /// Samples with a feature that no trainer takes.
    features: usize,
    /// Samples with a label far from all others.
    labels: usize,
}

impl OmittedSamples {
    /// Whether no sample was left out.
    pub fn is_empty(&self) -> bool {
        *self == OmittedSamples::default()
    }
}

impl fmt::Display for OmittedSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OmittedSamples { features, labels } = self;
        let mut separator = "";
        if *features > 0 {
            write!(
                f,
                "{features} left out with a feature beyond {LARGEST_FEATURE:e}"
            )?;
            separator = ", ";
        }
        if *labels > 0 {
            write!(
                f,
                "{separator}{labels} left out with a label far from the others"
            )?;
        }
        Ok(())
    }
}

/// Removes the samples that cannot be learned from. They are given in the order of the stream.
pub fn leave_out(samples: &mut Vec<RetainedSample>, kind: LabelKind) -> OmittedSamples {
    let before = samples.len();
    samples.retain(|sample| sample.features.iter().all(|value| is_learnable(*value)));
    let features = before - samples.len();
    let mut labels = 0;
    if kind == LabelKind::Number {
        let usual = UsualRange::of(samples.iter().map(|sample| sample.label));
        let far: Vec<bool> = samples
            .iter()
            .map(|sample| !usual.contains(sample.label))
            .collect();
        let mut place = 0;
        samples.retain(|_| {
            let is_left_out = far[place] && is_alone(&far, place);
            place += 1;
            labels += usize::from(is_left_out);
            !is_left_out
        });
    }
    OmittedSamples { features, labels }
}

/// Whether a trainer takes a feature value; NaN = missing.
fn is_learnable(value: f32) -> bool {
    value.is_nan() || value.abs() <= LARGEST_FEATURE
}

/// Whether most labels around a place are not far from the others.
fn is_alone(far: &[bool], place: usize) -> bool {
    let around = &far[place.saturating_sub(AROUND)..(place + AROUND + 1).min(far.len())];
    let companions = around.iter().filter(|far| **far).count() - 1;
    companions * 2 < around.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(labels: impl IntoIterator<Item = f32>) -> Vec<RetainedSample> {
        let labels = labels.into_iter().zip(0..);
        let sample = |(label, sequence)| RetainedSample {
            sequence,
            time: 0,
            label,
            weight: 1.0,
            features: vec![1.0, f32::NAN],
        };
        labels.map(sample).collect()
    }

    fn usual(at: usize) -> f32 {
        20.0 + (at % 10) as f32
    }

    #[test]
    fn lone_wrong_labels_are_left_out() {
        let labels = (0..200).map(|at| if at % 50 == 9 { 9999.0 } else { usual(at) });
        let mut samples = samples(labels);
        let left_out = leave_out(&mut samples, LabelKind::Number);
        assert_eq!((left_out.labels, samples.len()), (4, 196));
        assert!(samples.iter().all(|sample| sample.label < 100.0));
        assert_eq!(
            left_out.to_string(),
            "4 left out with a label far from the others"
        );
        assert!(leave_out(&mut samples, LabelKind::Number).is_empty());
    }

    #[test]
    fn labels_that_change_for_good_are_kept() {
        // A meter reports millidegrees from now on.
        let labels = (0..400).map(|at| {
            if at < 380 {
                usual(at)
            } else {
                usual(at) * 1000.0
            }
        });
        let mut samples = samples(labels);
        assert!(leave_out(&mut samples, LabelKind::Number).is_empty());
        assert_eq!(samples.len(), 400);
    }

    #[test]
    fn features_that_no_trainer_takes_are_left_out() {
        let mut samples = samples([0.0, 1.0, 0.0]);
        samples[1].features[0] = f32::MAX;
        samples[2].features[0] = -1e38;
        let left_out = leave_out(&mut samples, LabelKind::Classes(2));
        assert_eq!((left_out.features, samples.len()), (1, 2));
        assert_eq!(
            left_out.to_string(),
            "1 left out with a feature beyond 1e38"
        );
    }
}
