use std::time::Instant;

use perennial_operators::LabelKind;

use super::*;

fn text(batch: &Batch) -> String {
    let Batch {
        first,
        ids,
        times,
        attributes,
        features,
        labels,
        ..
    } = batch;
    format!("{first} {ids:?} {times:?} {attributes:?} {features:?} {labels:?}")
}

/// A softmax regression on the informative sensors, which suffices to learn simulated labels.
#[derive(Clone)]
struct Linear([[f32; 7]; 3]);

impl Linear {
    fn scores(&self, x: &[f32; 7]) -> [f32; 3] {
        self.0.map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum())
    }

    fn right(&self, x: &[f32; 7], label: usize) -> bool {
        let scores = self.scores(x);
        (0..3).all(|c| scores[c] <= scores[label])
    }

    fn learn(&mut self, x: &[f32; 7], label: usize, rate: f32) {
        let scores = self.scores(x).map(f32::exp);
        let sum: f32 = scores.iter().sum();
        for (class, w) in self.0.iter_mut().enumerate() {
            let error = f32::from(u8::from(class == label)) - scores[class] / sum;
            w.iter_mut()
                .zip(x)
                .for_each(|(w, x)| *w += rate * error * x);
        }
    }
}

fn input(batch: &Batch, row: usize) -> [f32; 7] {
    std::array::from_fn(|i| match i {
        0 => 1.0,
        i => Some(batch.features[[row, i - 1]])
            .filter(|v| !v.is_nan())
            .unwrap_or(0.0),
    })
}

#[test]
fn pieces_are_the_whole() {
    let drift = Drift {
        every: 300,
        strength: 1.0,
        ..Drift::default()
    };
    let config = SimulatorConfig {
        records: Some(1000),
        drift,
        ..Default::default()
    };
    let mut simulator = Simulator::new(config).unwrap();
    let whole = simulator.fill(0..5000);
    assert_eq!(
        (whole.len(), simulator.count().unwrap()),
        (1000, Some(1000))
    );
    for range in [0..1, 1..77, 299..301, 500..1000] {
        let piece = simulator.fill(range.clone());
        for (row, sequence) in range.enumerate() {
            let at = sequence as usize;
            assert_eq!(piece.ids.get(row), whole.ids.get(at));
            assert_eq!(piece.times[row], whole.times[at]);
            assert_eq!(piece.attribute(0, row), whole.attribute(0, at));
            assert_eq!(
                format!("{:?}", piece.features.row(row)),
                format!("{:?}", whole.features.row(at))
            );
            assert_eq!(piece.labels[row], whole.labels[at]);
        }
    }
    simulator.skip_to(990).unwrap();
    let read = simulator.read(100).unwrap();
    assert_eq!((read.position, read.ended), (1000, true));
    assert_eq!(text(&read.batch), text(&simulator.fill(990..1000)));
    assert_eq!(read.batch.ids.get(0), "r0000000990");
}

#[test]
fn late_sites_come_late_and_bring_new_contexts() {
    let config = SimulatorConfig {
        records: Some(30_000),
        ..Default::default()
    };
    let batch = Simulator::new(config).unwrap().fill(0..30_000);
    let sites = |rows: Range<usize>| rows.map(|r| batch.attributes[0][r]).max().unwrap();
    assert_eq!((sites(0..10_000), sites(20_000..30_000)), (47, 59));
    let contexts = |rows: Range<usize>| {
        let pairs = rows.map(|r| (batch.attributes[1][r], batch.attributes[2][r]));
        pairs.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!((contexts(0..10_000), contexts(0..30_000)), (5, 6));
}

#[test]
fn a_model_a_site_beats_one_model_and_a_frozen_one() {
    let config = SimulatorConfig {
        late_sites: 0.0,
        ..Default::default()
    };
    let simulator = Simulator::new(config).unwrap();
    let sites = 60;
    let mut frozen = Linear([[0.0; 7]; 3]);
    let mut single = frozen.clone();
    let mut own = vec![frozen.clone(); sites];
    let mut right = [0_u32; 3];
    let (bootstrap, scored, end) = (100_000, 200_000, 300_000);
    for start in (0..end).step_by(10_000) {
        let batch = simulator.fill(start..start + 10_000);
        for row in 0..batch.len() {
            let (x, label) = (input(&batch, row), batch.labels[row] as usize);
            let site = batch.attributes[0][row] as usize;
            if start >= scored {
                right[0] += u32::from(frozen.right(&x, label));
                right[1] += u32::from(single.right(&x, label));
                right[2] += u32::from(own[site].right(&x, label));
            }
            if start < bootstrap {
                frozen.learn(&x, label, 0.01);
            }
            single.learn(&x, label, 0.01);
            own[site].learn(&x, label, 0.05);
        }
    }
    let share = right.map(|r| f64::from(r) / (end - scored) as f64);
    println!(
        "frozen {:.3}, one model {:.3}, one a site {:.3}",
        share[0], share[1], share[2]
    );
    assert!(share[1] > share[0] + 0.03, "{share:?}");
    assert!(share[2] > share[1] + 0.10, "{share:?}");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let config = SimulatorConfig {
        classes: 1,
        start: "soon".into(),
        ..Default::default()
    };
    let keys: Vec<String> = config
        .problems("simulator")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, ["simulator.classes", "simulator.start"]);
    let error = Simulator::new(config).unwrap_err().to_string();
    assert_eq!(
        error,
        "the setting `simulator.classes` cannot be used: must be from 2 to 1000"
    );
    assert!(SimulatorConfig::default().schema().problems().is_empty());
}

#[test]
fn numbers_depend_on_the_sensors_and_the_site() {
    let config = SimulatorConfig {
        label: SimulatedLabel::Number,
        records: Some(20_000),
        noise: 0.0,
        missing: 0.0,
        drift: Drift {
            every: 100_000,
            strength: 0.0,
            ..Drift::default()
        },
        ..Default::default()
    };
    let schema = config.schema();
    assert!(schema.problems().is_empty());
    assert_eq!(schema.label.unwrap().kind(), LabelKind::Number);
    let batch = Simulator::new(config).unwrap().fill(0..20_000);
    let labels = batch.labels.iter();
    let (mean, count) = (labels.clone().sum::<f32>() / 20_000.0, 20_000.0);
    let variance = labels.map(|label| (label - mean).powi(2)).sum::<f32>() / count;
    assert!((4.0..64.0).contains(&variance), "{variance}");
    // The labels of one site are an affine function of the informative sensors, so seven samples
    // determine all later ones.
    let rows: Vec<usize> = (0..20_000)
        .filter(|row| batch.attributes[0][*row] == 3)
        .collect();
    let known = Array2::from_shape_fn((7, 8), |(at, column)| match column {
        7 => f64::from(batch.labels[rows[at]]),
        column => f64::from(input(&batch, rows[at])[column]),
    });
    let weights = solved(known);
    for row in &rows[7..] {
        let said = weights.iter().zip(input(&batch, *row));
        let said: f64 = said.map(|(weight, value)| weight * f64::from(value)).sum();
        assert!(
            (said - f64::from(batch.labels[*row])).abs() < 1e-2,
            "{said}"
        );
    }
}

/// Solves seven linear equations, given by their coefficients and values.
fn solved(mut rows: Array2<f64>) -> Vec<f64> {
    for at in 0..7 {
        let largest = (at..7).max_by(|a, b| rows[[*a, at]].abs().total_cmp(&rows[[*b, at]].abs()));
        let largest = largest.unwrap();
        for column in 0..8 {
            rows.swap([at, column], [largest, column]);
        }
        for other in (0..7).filter(|other| *other != at) {
            let times = rows[[other, at]] / rows[[at, at]];
            for column in 0..8 {
                rows[[other, column]] -= times * rows[[at, column]];
            }
        }
    }
    (0..7).map(|at| rows[[at, 7]] / rows[[at, at]]).collect()
}

#[test]
fn ids_keep_growing_beyond_ten_digits() {
    let mut text = String::new();
    push_id(&mut text, 0);
    push_id(&mut text, 12_345_678_901);
    assert_eq!(text, "r0000000000r12345678901");
}

#[test]
fn speed_is_printed() {
    let simulator = Simulator::new(SimulatorConfig::default()).unwrap();
    let start = Instant::now();
    let rows: usize = (0..100)
        .map(|i| simulator.fill(i * 4096..(i + 1) * 4096).len())
        .sum();
    println!(
        "simulator: {} ns a sample",
        start.elapsed().as_nanos() / rows as u128
    );
}
