//! Parsers of conditions, durations, daily windows and sizes: `accuracy < 0.6`, `12h`,
//! `02:00-20:00`, `2 GiB`.

use std::time::Duration;

use perennial_operators::LabelKind;
use perennial_operators::learn::{Comparison, Metric, Trigger};

use super::places::did_you_mean;

/// The longest time limit, in seconds: a hundred years.
const LONGEST: f64 = 36_525.0 * 86_400.0;

const METRICS: [(&str, Metric); 9] = [
    ("new_samples", Metric::NewSamples),
    ("accuracy", Metric::Accuracy),
    ("accuracy_drop", Metric::AccuracyDrop),
    ("log_loss", Metric::LogLoss),
    ("mae", Metric::Mae),
    ("rmse", Metric::Rmse),
    ("rmse_rise", Metric::RmseRise),
    ("model_age", Metric::ModelAge),
    ("drift", Metric::Drift),
];

/// Whether labels of this kind have the metric.
fn fits(metric: Metric, kind: LabelKind) -> bool {
    let is_number = kind == LabelKind::Number;
    match metric {
        Metric::NewSamples | Metric::ModelAge | Metric::Drift => true,
        Metric::Accuracy | Metric::AccuracyDrop | Metric::LogLoss => !is_number,
        Metric::Mae | Metric::Rmse | Metric::RmseRise => is_number,
    }
}

// Longer signs come first, since `>=` begins with `>`.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

/// Parses `metric operator threshold`, or `drift`, for labels of a kind.
pub(super) fn trigger(text: &str, kind: LabelKind) -> Result<Trigger, String> {
    if text.trim() == "drift" {
        return Ok(Trigger {
            text: text.trim().to_string(),
            metric: Metric::Drift,
            comparison: Comparison::Greater,
            threshold: 0.0,
        });
    }
    let parts = COMPARISONS
        .iter()
        .find_map(|(sign, comparison)| Some((text.split_once(sign)?, *comparison)));
    let Some(((name, threshold), comparison)) = parts else {
        return Err(format!(
            "\"{text}\" is not a condition: expected \"metric operator threshold\", such as \
             \"new_samples >= 500\", with one of > >= < <="
        ));
    };
    let (name, threshold) = (name.trim(), threshold.trim());
    let metric = METRICS
        .iter()
        .find(|(known, metric)| *known == name && fits(*metric, kind))
        .map(|(_, metric)| *metric)
        .ok_or_else(|| unknown_metric(name, kind))?;
    let threshold = match metric {
        Metric::Drift => {
            return Err(
                "\"drift\" is there or not, and compared with nothing: expected \"drift\" alone"
                    .to_string(),
            );
        }
        Metric::ModelAge => duration(threshold)?,
        _ => threshold
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| format!("the threshold \"{threshold}\" is not a number"))?,
    };
    Ok(Trigger {
        text: text.to_string(),
        metric,
        comparison,
        threshold,
    })
}

fn unknown_metric(name: &str, kind: LabelKind) -> String {
    let names: Vec<&str> = METRICS
        .iter()
        .filter(|(_, metric)| fits(*metric, kind))
        .map(|(known, _)| *known)
        .collect();
    if METRICS.iter().any(|(known, _)| *known == name) {
        let (others, own) = match kind {
            LabelKind::Classes(_) => ("numbers", "has classes"),
            LabelKind::Number => ("classes", "is a number"),
        };
        return format!(
            "\"{name}\" is a metric of {others}, and the label {own} (expected: {})",
            names.join(", ")
        );
    }
    format!(
        "there is no metric \"{name}\"{} (expected: {})",
        did_you_mean(name, &names),
        names.join(", ")
    )
}

/// Parses a duration with its unit; returns seconds.
pub(super) fn duration(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 5] = [
        ("ms", 0.001),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
        ("d", 86_400.0),
    ];
    quantity(text, &UNITS).ok_or_else(|| {
        format!(
            "\"{text}\" is not a duration: expected a number with ms, s, m, h or d, such as \"12h\""
        )
    })
}

/// Parses the time limit of something that runs.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    let seconds = duration(text)?;
    if !(0.001..=LONGEST).contains(&seconds) {
        return Err("expected a duration above 0 and below a hundred years".to_string());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses a size with its unit; returns bytes.
pub(super) fn size(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 3] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
    ];
    quantity(text, &UNITS).ok_or_else(|| {
        format!(
            "\"{text}\" is not a size: expected a number with KiB, MiB or GiB, such as \"2 GiB\""
        )
    })
}

/// Parses a number that is not negative, with its unit.
fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        (number.is_finite() && number >= 0.0).then_some(number * factor)
    })
}

/// Parses `HH:MM-HH:MM`; returns seconds after midnight.
pub(super) fn daily_window(text: &str) -> Result<(i64, i64), String> {
    let error = || {
        format!(
            "\"{text}\" is not a daily time window: expected HH:MM-HH:MM, such as \"02:00-20:00\""
        )
    };
    let (from, to) = text.split_once('-').ok_or_else(error)?;
    let from = clock_seconds(from).ok_or_else(error)?;
    Ok((from, clock_seconds(to).ok_or_else(error)?))
}

/// Seconds since midnight of a time such as `02:00`; up to `24:00`.
pub(crate) fn clock_seconds(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_valid = (0..24).contains(&hours) && (0..60).contains(&minutes);
    (is_valid || (hours, minutes) == (24, 0)).then_some(hours * 3600 + minutes * 60)
}
