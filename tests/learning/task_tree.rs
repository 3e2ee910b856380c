//! The task tree: tasks by attributes as they appear, by origin, and by clusters of features.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use support::stream::{self, Chance};
use support::{Bench, Left, ended, json, lines, simulator};

/// A sample of a hidden regime, which shows in `u` and `v` and determines what `p` and `q` mean.
struct Hidden {
    regime: usize,
    line: String,
}

/// The sizes of `u` and `v` in each regime, in the order of `u`: very different units.
const REGIMES: [(f64, f64); 4] = [(-1.2, -900.0), (-0.8, 900.0), (0.8, -900.0), (1.2, 900.0)];

/// Samples of three sites, each in all four regimes.
fn hidden(seed: u64, count: usize) -> Vec<Hidden> {
    let mut chance = Chance::new(seed);
    let sample = |number| {
        let regime = chance.below(4) as usize;
        let mut around = |center: f64, spread: f64| center + (chance.share() * 2.0 - 1.0) * spread;
        let (u, v) = (
            around(REGIMES[regime].0, 0.5),
            around(REGIMES[regime].1, 450.0),
        );
        let (p, q) = (around(0.0, 1.0), around(0.0, 1.0));
        let score = [p + q, q - p, p - q, -p - q][regime];
        let cell = |value: f64, is_there: bool| {
            if is_there {
                format!("{value:.4}")
            } else {
                String::new()
            }
        };
        let (site, missing) = (chance.below(3), chance.below(20));
        let label = if score > 0.0 { "up" } else { "down" };
        let (u, v) = (cell(u, missing != 0), cell(v, missing != 1));
        let time = 1_700_000_000 + number as i64 * 60;
        Hidden {
            regime,
            line: format!("h{number},{time},s{site},{u},{v},{p:.4},{q:.4},{label}"),
        }
    };
    (0..count).map(sample).collect()
}

fn csv(samples: &[Hidden]) -> String {
    let mut text = "id,time,site,u,v,p,q,label\n".to_string();
    for sample in samples {
        let _ = writeln!(text, "{}", sample.line);
    }
    text
}

/// The config for these samples; `cluster` is the content of that section.
fn config(cluster: &str) -> String {
    format!(
        "name: hidden
source:
  path: stream.csv
schema:
  id: id
  time: time
  site: site
  features: [u, v, p, q]
  label: {{column: label, classes: [down, up]}}
tasks:
  path: [{{cluster: {{{cluster}}}}}, [site]]
bootstrap:
  records: 2000
labels:
  delay: {{records: 100}}
epoch:
  records: 256
training:
  min_samples: 100
  trees: {{rounds: 10, max_depth: 2}}
triggers:
  when: ['new_samples >= 1000']
commit:
  epochs: 4
report:
  baselines: [frozen, single]
"
    )
}

fn bench(cluster: &str, samples: &[Hidden]) -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", csv(samples));
    bench.write("config.yaml", config(cluster));
    bench
}

#[test]
fn clusters_find_hidden_contexts_and_beat_one_model() {
    let samples = hidden(11, 6000);
    for cluster in ["features: [u, v], k: 4", "features: [u, v]"] {
        let bench = bench(cluster, &samples);
        bench.run_as("run", &[]).success();
        bench.left("run");
        let clusters = bench.kb_json("run", &["clusters"]);
        let found = clusters["clusters"].as_array().expect("clusters");
        assert_eq!(found.len(), 4, "{cluster}: {clusters}");
        assert_eq!(clusters["silhouette"].is_null(), cluster.contains('k'));
        let counted: u64 = found.iter().filter_map(|one| one["samples"].as_u64()).sum();
        assert_eq!(counted, 2000, "all of the bootstrap");
        // Clusters are numbered in the order of their centres, as the regimes are; a sample without
        // missing values is in its own.
        let mut predicted = 0;
        for line in bench.predictions("run") {
            let id = line["id"].as_str().expect("an id");
            let number: usize = id[1..].parse().expect("a number");
            let task = line["task"].as_str().expect("a task");
            let (cluster, site) = task.split_once(" > ").expect("two levels");
            assert_eq!(
                site,
                format!("site={}", line["site"].as_str().expect("a site"))
            );
            if !samples[number].line.contains(",,") {
                let expected = format!("cluster={}", samples[number].regime + 1);
                assert_eq!(cluster, expected, "{}", samples[number].line);
                predicted += 1;
            }
        }
        assert!(predicted > 3000, "{predicted}");
        for (number, center) in REGIMES.iter().enumerate() {
            let shown = bench.kb_json("run", &["show", &format!("cluster={}", number + 1)]);
            let near = |name: &str, expected: f64| {
                let value = shown["centre"][name].as_f64().expect("a number");
                assert!((value / expected - 1.0).abs() < 0.1, "{name}: {shown}");
            };
            near("u", center.0);
            near("v", center.1);
            // It was trained on the bootstrap's samples.
            let first = &shown["models"][0];
            assert!(first["epoch"].as_u64() < Some(4), "{first}");
            assert!(first["trained"]["samples"].as_u64() > Some(300), "{first}");
        }
        let report = bench.report("run");
        let (own, single) = (
            &report["accuracy"],
            &report["baselines"]["single"]["accuracy"],
        );
        let (own, single) = (own.as_f64(), single.as_f64());
        assert!(
            own > single.map(|single| single + 0.1),
            "{own:?} {single:?}"
        );
    }
}

/// Runs and asserts the same output as another run's.
#[track_caller]
fn same(bench: &Bench, name: &str, more: &[&str], calm: &Left) {
    bench.run_as(name, more).success();
    bench.left(name).assert_equals(calm, name);
}

/// Kills runs where clusters are found and committed; the resumed run, with any number of workers,
/// must end as if never killed.
fn kill_around_the_finding(bench: &Bench) {
    bench.run_as("calm", &[]).success();
    let calm = bench.left("calm");
    assert!(calm.changes.contains("clusters_found"));
    assert_eq!(calm.changes.matches("clusters_found").count(), 1);
    same(bench, "two", &["--workers", "2"], &calm);
    same(bench, "three", &["--workers", "3"], &calm);
    let points = [
        "clusters: found",
        "commit: before outputs#1",
        "commit: after outputs#1",
        "commit: after knowledge#1",
        "commit: after outputs#2",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let name = format!("killed-{number}");
        let mut command = bench.pipeline(&name, &["--workers", "2"]);
        command.env("PERENNIAL_KILL_AT", point);
        let killed = ended(command.output());
        assert_eq!(killed.status, None, "{point}: {killed:?}");
        same(bench, &name, &["--workers", ["1", "2"][number % 2]], &calm);
    }
}

#[test]
fn clusters_do_not_depend_on_workers_or_kills() {
    kill_around_the_finding(&bench("features: [u, v]", &hidden(12, 5000)));
    let fleet = Bench::new();
    let config = simulator(6000, "records: 700");
    let path = "path: [[season], {cluster: {features: [s0, s1, s2], k: 3}}, [site]]";
    fleet.write(
        "config.yaml",
        config.replace("path: [[season, zone], [site]]", path),
    );
    kill_around_the_finding(&fleet);
}

#[test]
fn other_clusters_need_another_state() {
    let bench = bench("features: [u, v], k: 3", &hidden(13, 3000));
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#3");
    assert_eq!(ended(command.output()).status, None);
    for path in [
        "[{cluster: {features: [u, v], k: 4}}, [site]]",
        "[{cluster: {features: [u, v]}}, [site]]",
        "[{cluster: {features: [v, u], k: 3}}, [site]]",
    ] {
        let set = format!("tasks.path={path}");
        let words = [
            "another cluster level",
            "features or k",
            "another --state folder",
        ];
        bench.run_as("run", &["--set", &set]).failure(1, &words);
    }
    let words = ["another task path", "another --state folder"];
    bench
        .run_as("run", &["--set", "tasks.path=[[site]]"])
        .failure(1, &words);
    bench.run_as("run", &[]).success();
    bench.left("run");
}

#[test]
fn bootstrap_without_clusters_is_refused() {
    let bench = bench("features: [u, v], k: 5", &hidden(14, 3000));
    let few = "bootstrap={share: 0.001}";
    let words = [
        "make 3 clusters of u, v at most, not 5",
        "set k in tasks.path to 3 or less",
    ];
    bench.run_as("few", &["--set", few]).failure(1, &words);
    let words = [
        "no two of the bootstrap's samples differ in u, v",
        "longer bootstrap",
    ];
    let chosen = "tasks.path=[{cluster: {features: [u, v]}}]";
    let one = "bootstrap.records=1";
    bench
        .run_as("one", &["--set", chosen, "--set", one])
        .failure(1, &words);
    // Nothing was committed: with another setting it starts over.
    bench
        .run_as("few", &["--set", "bootstrap={share: 0.3}"])
        .success();
    let words = ["there are no clusters"];
    bench
        .run(&["kb", "--state", "one", "clusters"])
        .failure(1, &words);
}

#[test]
fn clusters_can_be_evaluated() {
    let bench = bench("features: [u, v], k: 4", &hidden(15, 5000));
    let words = [
        "tasks.path[0]",
        "clusters are found as the stream goes on",
        "--slices",
    ];
    bench.run(&["evaluate", "config.yaml"]).failure(2, &words);
    let evaluated = bench
        .run(&["evaluate", "config.yaml", "--slices", "3", "--json"])
        .success();
    let findings = json(evaluated.stdout.as_bytes());
    let mean = |name: &str| {
        let methods = findings["methods"].as_array().expect("methods");
        let method = methods.iter().find(|method| method["method"] == name);
        method.and_then(|method| method["average_accuracy"].as_f64())
    };
    assert!(
        mean("perennial") > mean("single").map(|single| single + 0.05),
        "{findings}"
    );
}

/// The defined tasks: name and epoch.
fn defined(bench: &Bench, name: &str) -> BTreeMap<String, u64> {
    let changes = lines(bench.kb(name, &["changes"]).as_bytes());
    let defined = changes.iter().filter_map(|line| {
        let name = line["change"]["task_defined"]["name"].as_str()?;
        Some((name.to_string(), line["epoch"].as_u64()?))
    });
    defined.collect()
}

#[test]
fn new_values_extend_the_tree() {
    let bench = Bench::new();
    let mut samples = stream::samples(16, 3000, 0.0);
    // A new site in a known season, a new season, and a new site in a new season.
    for (from, site, season) in [
        (1000, "s6", "dry"),
        (1500, "s0", "hot"),
        (2000, "s7", "cold"),
    ] {
        for sample in samples[from..].iter_mut().step_by(5) {
            sample.site = site.to_string();
            sample.season = season;
        }
    }
    bench.write("stream.csv", stream::csv(&samples));
    bench.write("config.yaml", stream::config("stream.csv", "records: 10"));
    bench.run_as("one", &[]).success();
    bench.run_as("two", &["--workers", "2"]).success();
    bench
        .left("one")
        .assert_equals(&bench.left("two"), "two workers");
    // Each task with the number of records before its first sample.
    let mut first: BTreeMap<String, usize> = BTreeMap::from([("base".to_string(), 0)]);
    for (number, sample) in samples.iter().enumerate() {
        for task in [format!("season={}", sample.season), sample.task()] {
            first.entry(task).or_insert(number);
        }
    }
    let defined = defined(&bench, "one");
    assert!(defined.keys().eq(first.keys()), "{defined:?} {first:?}");
    assert_eq!(first["season=hot > site=s0"], 1500);
    // The bootstrap ends with its 800th record; the epoch after it has none.
    let epoch_of = |number: usize| match number {
        ..800 => number / 128,
        _ => 8 + (number - 800) / 128,
    };
    for (task, number) in &first {
        assert_eq!(defined[task] as usize, epoch_of(*number), "{task}");
    }
    // From its first sample on it is predicted as one of its own task, and its labels count there.
    let predictions = bench.predictions("one");
    let of_record: BTreeMap<&str, &Value> = predictions
        .iter()
        .filter_map(|line| Some((line["id"].as_str()?, line)))
        .collect();
    for sample in &samples[800..] {
        assert_eq!(of_record[sample.id.as_str()]["task"], sample.task());
    }
    for task in ["season=cold", "season=hot > site=s0"] {
        let own = samples
            .iter()
            .filter(|sample| sample.task().starts_with(task));
        let shown = bench.kb_json("one", &["show", task]);
        assert_eq!(shown["labelled"], own.count(), "{task}");
    }
}

#[test]
fn tasks_by_origin_are_the_sites() {
    let bench = Bench::new();
    let samples = stream::samples(17, 3000, 0.0);
    // The site's column has another name.
    let text = stream::csv(&samples).replacen(",site,", ",building,", 1);
    bench.write("stream.csv", text);
    let config = stream::config("stream.csv", "records: 10");
    let config = config.replace("  site: site", "  site: building");
    bench.write(
        "config.yaml",
        config.replace("[[season], [site]]", "[[building]]"),
    );
    bench.run_as("run", &[]).success();
    for line in bench.predictions("run") {
        let site = line["site"].as_str().expect("a site");
        assert_eq!(line["task"], format!("building={site}"));
    }
    let tasks = defined(&bench, "run");
    let sites = (0..6).map(|site| format!("building=s{site}"));
    assert!(
        tasks
            .keys()
            .cloned()
            .eq(["base".to_string()].into_iter().chain(sites))
    );
}
