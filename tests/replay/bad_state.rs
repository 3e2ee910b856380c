//! Bad state: unusable folders, damaged stores, full disks. Each ends in a clear error; nothing is
//! rebuilt or overwritten silently.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use perennial_connectors::knowledge_base::set_sums;
use rocksdb::{DB, Options};
use support::stream;
use support::{Bench, checkout, copy_folder, simulator, text};

/// A folder with a config, its stream, and a finished run `run`.
fn finished() -> Bench {
    let bench = unfinished(0);
    bench.run_as("run", &[]).success();
    bench
}

/// A folder with a config, its stream, and a run `run` that was killed after `commits` commits, or
/// never started if that is 0.
fn unfinished(commits: u32) -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(31, 3000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 300"));
    if commits > 0 {
        let mut command = bench.pipeline("run", &[]);
        let point = format!("commit: after knowledge#{commits}");
        command.env("PERENNIAL_KILL_AT", point);
        assert_eq!(support::ended(command.output()).status, None);
    }
    bench
}

/// The non-empty files of the store with this ending.
fn files(bench: &Bench, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.path("run/knowledge")).expect("a store");
    entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .filter(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0))
        .collect()
}

/// Flips bits in the middle of every occurrence of `wanted` in the file, and returns their number.
fn flip(path: &Path, wanted: &[u8]) -> usize {
    let mut bytes = std::fs::read(path).expect("a file");
    let windows = bytes.windows(wanted.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == wanted);
    let places: Vec<usize> = found.map(|(place, _)| place).collect();
    for place in &places {
        bytes[place + wanted.len() / 2] ^= 0x10;
    }
    std::fs::write(path, bytes).expect("a file");
    places.len()
}

/// Asserts that neither the run nor the verification accepts the store.
#[track_caller]
fn assert_damaged(bench: &Bench, words: &[&str]) {
    let predictions = bench.read("run.jsonl");
    bench.run_as("run", &[]).failure(1, words);
    let verified = bench.run(&["kb", "--state", "run", "verify"]);
    verified.failure(1, words);
    assert!(
        predictions == bench.read("run.jsonl"),
        "predictions changed"
    );
}

/// Opens the store of a run without the program, and changes one value.
fn tamper(bench: &Bench, family: &str, change: impl Fn(&[u8], Vec<u8>) -> Option<Vec<u8>>) {
    let path = bench.path("run/knowledge");
    let families = DB::list_cf(&Options::default(), &path).expect("a store");
    let mut options = Options::default();
    set_sums(&mut options);
    let families = families.iter().map(|name| (name, options.clone()));
    let db = DB::open_cf_with_opts(&Options::default(), &path, families).expect("a store");
    let family = db.cf_handle(family).expect("a column family");
    let mut changed = 0;
    for entry in db.iterator_cf(family, rocksdb::IteratorMode::Start) {
        let (key, value) = entry.expect("an entry");
        if let Some(value) = change(&key, value.to_vec()) {
            db.put_cf(family, key, value).expect("a write");
            changed += 1;
        }
    }
    assert!(changed > 0, "nothing is changed");
}

#[test]
fn damaged_log_is_reported() {
    let bench = unfinished(6);
    let logs = files(&bench, "log");
    assert_eq!(logs.len(), 1, "{logs:?}");
    // Any model serves.
    assert!(flip(&logs[0], b"TreeEnsembleRegressor") > 0);
    assert_damaged(&bench, &["damaged", "Corruption"]);
}

#[test]
fn damaged_tables_are_reported() {
    let bench = unfinished(6);
    // Opened again, the store moves the log's content into tables.
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: before outputs");
    assert_eq!(support::ended(command.output()).status, None);
    let tables = files(&bench, "sst");
    assert!(!tables.is_empty());
    let flipped: usize = tables
        .iter()
        .map(|table| flip(table, b"TreeEnsemble"))
        .sum();
    assert!(flipped > 0, "no model is in the tables");
    assert_damaged(&bench, &["Corruption", ".sst"]);
}

#[test]
fn truncated_table_is_reported() {
    let bench = unfinished(6);
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: before outputs");
    assert_eq!(support::ended(command.output()).status, None);
    for table in files(&bench, "sst") {
        let bytes = std::fs::read(&table).expect("a table");
        std::fs::write(&table, &bytes[..bytes.len() / 2]).expect("a table");
    }
    assert_damaged(&bench, &["damaged", "Corruption"]);
}

#[test]
fn swapped_model_is_reported() {
    let bench = unfinished(6);
    // The store itself is intact: only the model's hash can differ.
    tamper(&bench, "onnx", |_, mut model| {
        let middle = model.len() / 2;
        model[middle] ^= 1;
        Some(model)
    });
    assert_damaged(&bench, &["model"]);
    let verified = bench.run(&["kb", "--state", "run", "--json", "verify"]);
    let findings = support::json(verified.stdout.as_bytes());
    assert!(!findings.as_array().expect("findings").is_empty());
}

#[test]
fn store_of_another_format_is_refused() {
    let bench = finished();
    tamper(&bench, "meta", |key, _| {
        (key == b"format").then(|| vec![99])
    });
    for arguments in [
        ["run", "config.yaml", "--state", "run"],
        ["kb", "--state", "run", "tasks"],
    ] {
        let ended = bench.run(&arguments);
        ended.failure(1, &["format 99", "another --state folder"]);
    }
}

/// The format of the program, which it names when it refuses another one.
fn format() -> u32 {
    let bench = finished();
    tamper(&bench, "meta", |key, _| {
        (key == b"format").then(|| vec![99])
    });
    let refused = bench.run(&["kb", "--state", "run", "tasks"]);
    let (_, rest) = refused
        .stderr
        .split_once("reads format ")
        .expect("a refusal");
    let end = rest.find(|c: char| !c.is_ascii_digit()).expect("an end");
    rest[..end].parse().expect("a number")
}

#[test]
fn store_of_format_10_opens_or_is_refused() {
    let bench = Bench::new();
    let fixture = checkout("tests/fixtures/format-10/state");
    copy_folder(&fixture, &bench.path("state"));
    let program = format();
    if program != 10 {
        let words = ["has format 10", &format!("reads format {program}")];
        let tasks = bench.run(&["kb", "--state", "state", "tasks"]);
        tasks.failure(1, &words);
        return;
    }
    let verified = bench.run(&["kb", "--state", "state", "verify"]).success();
    assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
    let tasks = bench.kb_json("state", &["tasks"]);
    let tasks = tasks.as_array().expect("tasks").iter();
    let tasks: Vec<(String, u64)> = tasks
        .map(|task| {
            let name = task["task"].as_str().expect("a name").to_string();
            (name, task["labelled"].as_u64().expect("a number"))
        })
        .collect();
    let [winter, spring] = ["season=winter, zone=zone-0", "season=spring, zone=zone-0"];
    let expected = [
        ("base".to_string(), 600),
        (spring.to_string(), 206),
        (format!("{spring} > site=site-0001"), 206),
        (winter.to_string(), 394),
        (format!("{winter} > site=site-0000"), 202),
        (format!("{winter} > site=site-0002"), 192),
    ];
    assert_eq!(tasks, expected);
}

#[test]
fn changed_outputs_are_refused() {
    let bench = unfinished(6);
    let predictions = bench.read("run.jsonl");
    bench.write("run.jsonl", &predictions[..100]);
    bench
        .run_as("run", &[])
        .failure(1, &["run.jsonl has 100 bytes", "were committed"]);
    bench.write("run.jsonl", &predictions);
    bench.run_as("run", &[]).success();
}

#[test]
fn foreign_folders_are_left_alone() {
    let bench = unfinished(0);
    std::fs::create_dir(bench.path("foreign")).expect("a folder");
    bench.write("foreign/letter.txt", "dear");
    bench
        .run_as("foreign", &[])
        .failure(1, &["foreign is not empty and holds no knowledge base"]);
    let entries = std::fs::read_dir(bench.path("foreign")).expect("a folder");
    assert_eq!(
        (entries.count(), bench.read("foreign/letter.txt")),
        (1, b"dear".to_vec())
    );
    let nothing = bench.run(&["kb", "--state", "nowhere", "tasks"]);
    nothing.failure(1, &["there is no knowledge base in nowhere"]);
    assert!(!bench.path("nowhere").exists());
}

#[test]
fn state_path_below_a_file_is_refused() {
    let bench = unfinished(0);
    bench.write("file", "");
    let ended = bench.run(&["run", "config.yaml", "--state", "file/state"]);
    ended.failure(1, &["the state folder file/state cannot be used"]);
    let ended = bench.run(&["run", "config.yaml", "--state", "file"]);
    ended.failure(1, &["the state folder file cannot be used"]);
    let set = ["--set", "predictions.path=file/predictions.jsonl"];
    bench
        .run_as("state", &set)
        .failure(1, &["file/predictions.jsonl cannot be written"]);
}

#[test]
fn state_folder_serves_one_run_at_a_time() {
    let bench = Bench::new();
    let config = simulator(1_000_000, "records: 10");
    bench.write(
        "config.yaml",
        config.replace("source:", "source:\n  rate: 2000"),
    );
    let mut first = bench.start("run", &[]);
    let began = Instant::now();
    while !bench.path("run/dead-letters.jsonl").exists() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "it does not start"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = bench.run_as("run", &[]);
    // Read-only commands work meanwhile.
    let looked = bench.run(&["kb", "--state", "run", "tasks"]);
    first.kill().expect("a kill");
    first.wait().expect("a child");
    second.failure(1, &["run is in use by another process"]);
    looked.success();
}

#[test]
fn another_task_tree_needs_another_state() {
    let bench = finished();
    let before = bench.left("run");
    for (set, part) in [
        ("tasks.path=[[site]]", "task path"),
        ("schema.features=[a, b]", "schema"),
        ("report.baselines=[single]", "baselines"),
    ] {
        let words = [
            &format!("made with another {part}")[..],
            "another --state folder",
        ];
        bench.run_as("run", &["--set", set]).failure(1, &words);
    }
    before.assert_equals(&bench.left("run"), "refused runs");
}

/// A small file system in memory, unmounted when dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one of this size in the folder; none, with a message, where that is not allowed.
    fn mount(bench: &Bench, size: &str) -> Option<Disk> {
        let path = bench.path("disk");
        std::fs::create_dir(&path).expect("a folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs", text(&path)])
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk { path }),
            other => {
                eprintln!("skipped: a tmpfs cannot be mounted here: {other:?}");
                None
            }
        }
    }

    /// Mounts it again with other options.
    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mounted = Command::new("mount")
            .args(["-o", &options, text(&self.path)])
            .status();
        assert!(mounted.expect("mount is there").success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

/// Runs with `taken` bytes of a small disk in use, until it is full; then with enough room.
fn fill(state: &str, predictions: &str, taken: usize) {
    let bench = unfinished(0);
    bench.run_as("calm", &[]).success();
    let calm = bench.left("calm");
    let Some(disk) = Disk::mount(&bench, "400k") else {
        return;
    };
    bench.write("disk/filler", vec![1; taken]);
    let set = format!("predictions.path={predictions}");
    let run = ["run", "config.yaml", "--state", state, "--set", &set];
    bench.run(&run).failure(1, &["disk/", "No space left"]);
    // With room it resumes and ends like an undisturbed run.
    std::fs::remove_file(bench.path("disk/filler")).expect("a filler");
    disk.remount("size=200m");
    bench.run(&run).success();
    assert!(bench.read(predictions) == calm.predictions, "{state}");
    let changes = bench.run(&["kb", "--state", state, "--json", "changes"]);
    assert!(changes.success().stdout == calm.changes, "{state}");
    let verified = bench.run(&["kb", "--state", state, "verify"]);
    verified.success();
}

#[test]
fn full_disk_for_the_state_stops_a_run_that_then_resumes() {
    fill("disk/state", "predictions.jsonl", 0);
}

#[test]
fn full_disk_for_predictions_stops_a_run_that_then_resumes() {
    fill("state", "disk/predictions.jsonl", 300_000);
}

#[test]
fn read_only_disk_is_reported() {
    let bench = unfinished(0);
    let Some(disk) = Disk::mount(&bench, "200m") else {
        return;
    };
    let mut command = bench.command(&["run", "config.yaml", "--state", "disk/old"]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#5");
    assert_eq!(support::ended(command.output()).status, None);
    disk.remount("ro");
    for state in ["disk/new", "disk/old"] {
        let ended = bench.run(&["run", "config.yaml", "--state", state]);
        let words = [
            &format!("the state folder {state} cannot be used")[..],
            "Read-only",
        ];
        ended.failure(1, &words);
    }
    // Read-only commands still work.
    let looked = bench.run(&["kb", "--state", "disk/old", "tasks"]);
    looked.success();
}
