//! Values of real files: one bad value costs at most its record, and never what is learned.

use std::fmt::Write;

use support::Bench;
use support::stream::{self, Sample};

const BOOTSTRAP: usize = 800;

/// A bench with a stream, made of the samples' lines.
fn bench(samples: &[Sample], line: impl Fn(usize, &Sample) -> String) -> Bench {
    let bench = Bench::new();
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    let lines = samples.iter().enumerate();
    let lines = lines.map(|(number, sample)| line(number, sample));
    bench.write("stream.csv", stream::csv_of(lines));
    bench
}

/// The line of a sample with another value for `a`.
fn with_a(sample: &Sample, a: &str) -> String {
    let line = sample.line();
    let mut cells: Vec<&str> = line.split(',').collect();
    cells[4] = a;
    cells.join(",")
}

fn accuracy(bench: &Bench, name: &str) -> f64 {
    bench.report(name)["accuracy"]
        .as_f64()
        .expect("an accuracy")
}

#[test]
fn largest_float_in_the_bootstrap_is_a_dead_letter() {
    let samples = stream::samples(41, 2000, 0.0);
    let bench = bench(&samples, |number, sample| match number {
        17 => with_a(sample, "3.4028235e38"),
        18 => with_a(sample, "-1e38"),
        _ => sample.line(),
    });
    bench.run_as("run", &[]).success();
    let letters = bench.dead_letters("run");
    assert_eq!(letters.len(), 1);
    let reason = letters[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("numbers go up to 1e38"), "{reason}");
    assert_eq!(bench.predictions("run").len(), 2000 - BOOTSTRAP);
}

#[test]
fn marks_of_missing_values_do_not_disable_their_feature() {
    let samples = stream::samples(42, 4000, 0.0);
    let neighbours = [
        "--set",
        "triggers.when=[]",
        "--set",
        "inference.neighbours=64",
    ];
    let run = |mark: Option<&str>| {
        let bench = bench(&samples, |number, sample| match (number, mark) {
            (100 | 200 | 300, Some(mark)) => with_a(sample, mark),
            _ => sample.line(),
        });
        bench.run_as("run", &neighbours).success();
        accuracy(&bench, "run")
    };
    let clean = run(None);
    for mark in ["-9999", "1e12", "-1e38"] {
        let marked = run(Some(mark));
        assert!(marked > clean - 0.01, "{mark}: {marked} instead of {clean}");
    }
}

#[test]
fn scales_are_drawn_again_with_the_base_model() {
    let samples = stream::samples(43, 4000, 0.0);
    let bench = bench(&samples, |_, sample| sample.line());
    bench.run_as("run", &[]).success();
    let changes = bench.run(&["kb", "--state", "run", "changes"]).success();
    let scaled = changes.stdout.matches("features scaled").count();
    assert!(scaled > 1, "{scaled}");
}

#[test]
fn booleans_of_other_programs_are_the_same() {
    let samples = stream::samples(44, 1600, 0.0);
    let run = |spelling: [&str; 2]| {
        let bench = bench(&samples, |_, sample| {
            let is_high = sample.numbers[0].unwrap_or(0.0) > 0.0;
            with_a(sample, spelling[usize::from(is_high)])
        });
        bench.run_as("run", &[]).success();
        (bench.read("run.jsonl"), bench.dead_letters("run"))
    };
    let plain = run(["false", "true"]);
    assert!(plain.1.is_empty() && !plain.0.is_empty());
    assert!(run(["False", "True"]) == plain);
    assert!(run(["FALSE", "TRUE"]) == plain);
}

#[test]
fn dates_without_separators_are_read_or_refused() {
    let samples = stream::samples(45, 1600, 0.0);
    let written = |format: &'static str| {
        let bench = bench(&samples, move |number, sample| {
            let (day, minute) = (1 + number / 1440, number % 1440);
            let (hour, minute) = (minute / 60, minute % 60);
            let time = match format {
                "day" => format!("202401{day:02}"),
                "hour" => format!("202401{day:02}{hour:02}"),
                _ => format!("202401{day:02}{hour:02}{minute:02}"),
            };
            sample.line().replacen(&sample.time.to_string(), &time, 1)
        });
        let ended = bench.run_as("run", &[]);
        (bench, ended)
    };
    let (bench, ended) = written("minute");
    ended.success();
    let first = &bench.predictions("run")[0]["time"];
    assert_eq!(first, "2024-01-01T13:20:00Z");
    for format in ["day", "hour"] {
        let (bench, _) = written(format);
        let letters = bench.dead_letters("run");
        assert_eq!(letters.len(), 1600, "{format}");
        let reason = letters[0]["reason"].as_str().expect("a reason");
        assert!(reason.contains("which may be 2024-01-01T"), "{reason}");
    }
}

#[test]
fn sample_of_the_far_future_does_not_move_the_clock() {
    let samples = stream::samples(46, 4000, 0.0);
    let run = |future: bool| {
        let bench = bench(&samples, |number, sample| match number {
            900 if future => sample
                .line()
                .replacen(&sample.time.to_string(), "2099-01-01", 1),
            _ => sample.line(),
        });
        let hourly = [
            "--set",
            "labels.delay={seconds: 7200}",
            "--set",
            "triggers.check_every=1h",
        ];
        let ended = bench.run_as("run", &hourly);
        let warned = ended.stderr.contains("far ahead of the others");
        ended.success();
        assert_eq!(warned, future);
        let stages = bench.kb_json("run", &["stages"]);
        let stages = stages.as_array().expect("stages").len();
        (
            stages,
            bench.report("run")["accuracy"]
                .as_f64()
                .expect("an accuracy"),
        )
    };
    let ((clean, accuracy), (stages, other)) = (run(false), run(true));
    assert!(clean > 6, "{clean}");
    assert_eq!(stages, clean);
    assert!((accuracy - other).abs() < 0.02, "{accuracy} {other}");
}

#[test]
fn labels_whose_ids_are_written_otherwise_are_told() {
    let samples = stream::samples(47, 1600, 0.0);
    let bench = bench(&samples, |number, sample| {
        sample.line().replacen(&sample.id, &number.to_string(), 1)
    });
    let mut labels = "id,label\n".to_string();
    for number in 0..samples.len() {
        let _ = writeln!(labels, "{number}.0,low");
    }
    bench.write("labels.csv", labels);
    let ended = bench.run_as("run", &["--set", "labels.path=labels.csv"]);
    ended.failure(
        1,
        &[
            "none of the first",
            "101 and 101.0 are two ids",
            "no sample of the bootstrap had a label",
        ],
    );
}

/// A numeric stream: the label is 10 + 3 a, of one site.
fn numbers(count: usize, label: impl Fn(usize, f64) -> f64) -> String {
    let mut chance = stream::Chance::new(48);
    let mut text = "id,time,site,a,label\n".to_string();
    for number in 0..count {
        let a = (chance.share() * 1000.0).round() / 100.0;
        let label = label(number, 10.0 + 3.0 * a);
        let _ = writeln!(text, "r{number},{},s,{a},{label}", number * 60);
    }
    text
}

const NUMBERS: &str = "name: numbers
source: {path: stream.csv}
schema:
  id: id
  time: time
  site: site
  features: [a]
  label: {column: label, kind: number}
tasks: {path: [[site]]}
bootstrap: {records: 200}
epoch: {records: 50}
triggers: {when: ['new_samples >= 300']}
";

#[test]
fn wrong_label_in_the_bootstrap_is_outlived() {
    let right: Vec<f64> = numbers(2000, |_, label| label)
        .lines()
        .skip(1 + 200)
        .map(|line| line.rsplit(',').next().expect("a label"))
        .map(|label| label.parse().expect("a number"))
        .collect();
    let run = |wrong: Option<f64>| {
        let bench = Bench::new();
        bench.write("config.yaml", NUMBERS);
        let label = |number: usize, label: f64| wrong.filter(|_| number == 100).unwrap_or(label);
        bench.write("stream.csv", numbers(2000, label));
        bench.run_as("run", &[]).success();
        let report = bench.report("run");
        let figure = |name: &str| report[name].as_f64().expect("a figure");
        assert!(figure("rmse") >= figure("mae"), "{report}");
        let stages = bench.kb_json("run", &["stages"]).to_string();
        let left_out = stages.contains("1 left out with a label far from the others");
        assert_eq!(left_out, wrong.is_some(), "{stages}");
        let predictions = bench.predictions("run");
        let errors = predictions.iter().zip(&right).map(|(line, right)| {
            let said = line["prediction"].as_f64().expect("a number");
            (said - right).abs()
        });
        let errors: Vec<f64> = errors.collect();
        // Neighbours of the wrong label follow it until it is no longer one of the latest.
        errors[400..].iter().sum::<f64>()
    };
    let clean = run(None);
    for wrong in [9999.0, -9999.0, 1e17] {
        let error = run(Some(wrong));
        assert!(error < 1.5 * clean, "{wrong}: {error} instead of {clean}");
    }
}

#[test]
fn labels_in_a_new_unit_are_learned() {
    let bench = Bench::new();
    bench.write("config.yaml", NUMBERS);
    let label = |number: usize, label: f64| if number < 1500 { label } else { label * 1000.0 };
    bench.write("stream.csv", numbers(4000, label));
    bench.run_as("run", &[]).success();
    let predictions = bench.predictions("run");
    let last = &predictions[predictions.len() - 500..];
    let said = last.iter().filter_map(|line| line["prediction"].as_f64());
    let mean = said.sum::<f64>() / 500.0;
    assert!((20_000.0..30_000.0).contains(&mean), "{mean}");
}

#[test]
fn tasks_with_separators_in_their_values_are_told_apart() {
    let samples = stream::samples(49, 2000, 0.0);
    let bench = bench(&samples, |number, sample| {
        let values = ["\"x, site=s1\"", "x", "\"x > site=s1\"", "\"\"\"x\"\"\""];
        let line = sample.line();
        let mut cells: Vec<&str> = line.split(',').collect();
        cells[3] = values[number % 4];
        cells.join(",")
    });
    bench.run_as("run", &[]).success();
    let tasks = bench.kb_json("run", &["tasks"]);
    let tasks = tasks.as_array().expect("tasks");
    let mut names: Vec<&str> = tasks
        .iter()
        .filter_map(|task| task["task"].as_str())
        .collect();
    assert_eq!(names.len(), 1 + 4 + 4 * 6);
    for name in &names {
        assert_eq!(bench.kb_json("run", &["show", name])["task"], *name);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), tasks.len());
    assert!(names.contains(&r#"season="x > site=s1""#), "{names:?}");
}
