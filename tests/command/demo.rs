//! `perennial demo`: what it tells is what its predictions and the counts say.

use std::collections::BTreeMap;

use support::{Bench, checkout, json, unzipped};

/// The chapters: first day, first day after it, and counter.
const CHAPTERS: [(&str, &str, &str); 7] = [
    ("2019-09-23", "2020-03-26", ""),
    ("2020-03-26", "2020-05-14", ""),
    ("2020-05-14", "2021-07-12", ""),
    ("2021-07-12", "2021-08-11", "Courthouse Lane"),
    ("2021-08-18", "2021-12-03", ""),
    ("2021-12-03", "2022-08-31", ""),
    ("2022-08-31", "2023-04-01", "Quay Street"),
];

/// Tolerance in percentage points: epochs at both ends of a chapter belong to two chapters.
const TOLERANCE: f64 = 2.0;

/// The numbers of a row of a table.
fn numbers(row: &str) -> Vec<f64> {
    let cells = row.trim_matches('│').split('┆');
    let text = |cell: &str| cell.trim().trim_end_matches(" %").to_string();
    cells.filter_map(|cell| text(cell).parse().ok()).collect()
}

#[test]
fn demo_tells_what_its_predictions_say() {
    let bench = Bench::new();
    let demo = ["demo", "--keep", "kept"];
    let told = bench.run(&demo).success().stdout;

    let counts = unzipped(&checkout("examples/pedestrians/pedestrians.csv.gz"));
    let level = |line: &str| {
        let (id, level) = (line.split(',').next(), line.rsplit(',').next());
        Some((id?.to_string(), level?.to_string()))
    };
    let levels: BTreeMap<String, String> = counts.lines().filter_map(level).collect();
    let predictions = String::from_utf8(bench.read("kept/predictions.jsonl")).expect("text");
    let predictions: Vec<_> = predictions
        .lines()
        .map(|line| json(line.as_bytes()))
        .collect();
    let share = |from: &str, to: &str, site: &str| {
        let of = predictions.iter().filter(|predicted| {
            let day = predicted["time"].as_str().expect("a time");
            day >= from && day < to && (site.is_empty() || predicted["site"] == site)
        });
        let right = of.map(|it| levels[it["id"].as_str().expect("an id")] == it["prediction"]);
        let right: Vec<bool> = right.collect();
        right.iter().filter(|right| **right).count() as f64 / right.len() as f64
    };

    let row = |beginning: &str| {
        let mut lines = told.lines();
        let row = lines.find(|line| line.trim_start_matches("│ ").starts_with(beginning));
        numbers(row.unwrap_or_else(|| panic!("no row {beginning:?} in {told}")))
    };
    let accuracy = share("2019", "2024", "");
    assert!((row("lifelong learning")[0] - accuracy).abs() < 1e-4);
    for (from, to, site) in CHAPTERS {
        let [lifelong, frozen, _] = row(from)[..] else {
            panic!("{told}");
        };
        let counted = 100.0 * share(from, to, site);
        assert!(
            (lifelong - counted).abs() < TOLERANCE,
            "{from}: {counted}: {told}"
        );
        assert!(lifelong > frozen, "{from}: {told}");
    }
    assert!(told.contains("CC BY 4.0"), "{told}");
    bench
        .run(&["kb", "--state", "kept/state", "verify"])
        .success();

    let again = bench.run(&demo);
    assert_eq!(again.status, Some(2));
    assert!(again.stderr.contains("is there already"), "{again:?}");
}
