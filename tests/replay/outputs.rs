//! Output files: they roll, others may move or remove them, and files of others are left alone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::stream;
use support::{Bench, ended, simulator};

/// A folder with a config and a stream of samples with bad lines among them.
fn bench(ending: &'static str) -> Bench {
    let bench = Bench::writing(ending);
    let (lines, bad) = stream::with_bad_lines(&stream::samples(41, 3000, 0.0), 42);
    assert!(bad > 50);
    bench.write("stream.csv", stream::csv_of(lines.into_iter()));
    bench.write("config.yaml", stream::config("stream.csv", "records: 300"));
    bench
}

/// Runs `config.yaml` as `run` and kills it at the point `commit: …`.
#[track_caller]
fn kill(bench: &Bench, point: &str, more: &[&str]) {
    let mut command = bench.pipeline("run", more);
    command.env("PERENNIAL_KILL_AT", format!("commit: {point}"));
    let killed = ended(command.output());
    assert_eq!(killed.status, None, "{killed:?}");
}

/// The files in a folder whose names begin so, in the order of their names.
fn files(bench: &Bench, folder: &str, start: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.path(folder)).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| {
        let name = file.file_name().expect("a name").to_string_lossy();
        name.starts_with(start)
    });
    files.sort();
    files
}

/// The content of the finished files of an output, and then of the current one.
fn whole(bench: &Bench, folder: &str, stem: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for file in files(bench, folder, &format!("{stem}-")) {
        all.extend(std::fs::read(file).expect("a file"));
    }
    all.extend(bench.read(&format!("{folder}/{stem}.jsonl")));
    all
}

#[test]
fn moved_and_removed_files_are_begun_anew() {
    let bench = bench("jsonl");
    bench.run_as("calm", &[]).success();
    kill(&bench, "after knowledge#6", &[]);
    let moved = bench.read("run.jsonl");
    std::fs::rename(bench.path("run.jsonl"), bench.path("old.jsonl")).expect("a move");
    std::fs::remove_file(bench.path("run/dead-letters.jsonl")).expect("a file");
    let resumed = bench.run_as("run", &[]).success();
    assert_eq!(resumed.stderr.matches("output file is missing").count(), 2);
    let again = bench.run_as("run", &[]).success();
    assert!(!again.stderr.contains("missing"), "{again:?}");
    assert!(bench.read("old.jsonl") == moved);
    assert!([moved, bench.read("run.jsonl")].concat() == bench.read("calm.jsonl"));
    let rest = bench.read("run/dead-letters.jsonl");
    assert!(bench.read("calm/dead-letters.jsonl").ends_with(&rest) && !rest.is_empty());
}

#[test]
fn files_of_others_are_left_alone() {
    let bench = bench("jsonl");
    kill(&bench, "after knowledge#6", &[]);
    let predictions = bench.read("run.jsonl");
    let foreign = vec![b'x'; 2 * predictions.len()];
    let words = ["was not written with this --state folder", "move it away"];
    // At a new path, in the place of the committed file, and at the path of a state's first run.
    bench.write("other.jsonl", &foreign);
    let set = ["--set", "predictions.path=other.jsonl"];
    bench.run_as("run", &set).failure(1, &words);
    bench.run_as("new", &set).failure(1, &words);
    bench.write("run.jsonl", &foreign);
    bench.run_as("run", &[]).failure(1, &words);
    assert!(bench.read("run.jsonl") == foreign && bench.read("other.jsonl") == foreign);
    // An empty file is nobody's; a folder of Parquet files of another state is not this one's.
    bench.write("empty.jsonl", "");
    let set = ["--set", "predictions.path=empty.jsonl"];
    kill(&bench, "before outputs#2", &set);
    let folder = ["--set", "predictions.path=parts.parquet"];
    kill(&bench, "after knowledge#2", &folder);
    bench.run_as("new", &folder).failure(1, &words);
    // A copy of the committed file is as good as the file.
    let set = ["--set", "predictions.path=copy.parquet"];
    support::copy_folder(&bench.path("parts.parquet"), &bench.path("copy.parquet"));
    bench.run_as("run", &set).success();
}

#[test]
fn rolled_files_hold_each_row_once() {
    let bench = bench("jsonl");
    bench.run_as("calm", &[]).success();
    let predictions = bench.read("calm.jsonl");
    let bytes = format!("predictions.roll.bytes={}", predictions.len() / 5);
    let set = ["--set", &bytes, "--set", "dead_letters.roll.bytes=2000"];
    // Killed at the second commit of each start, between the rolling of files and their commit.
    let mut starts = 0;
    loop {
        starts += 1;
        let mut command = bench.pipeline("run", &set);
        command.env("PERENNIAL_KILL_AT", "commit: after outputs#2");
        match ended(command.output()) {
            killed if killed.status.is_none() => assert!(starts < 100, "{killed:?}"),
            finished => {
                finished.success();
                break;
            }
        }
    }
    assert!(starts > 5, "{starts} starts");
    assert!(files(&bench, ".", "run-").len() >= 3);
    assert!(whole(&bench, ".", "run") == predictions);
    assert!(files(&bench, "run", "dead-letters-").len() >= 3);
    assert!(whole(&bench, "run", "dead-letters") == bench.read("calm/dead-letters.jsonl"));
}

#[test]
fn dead_letters_are_bounded() {
    let bench = bench("jsonl");
    bench.run_as("calm", &[]).success();
    let set = ["dead_letters.roll.bytes=1000", "dead_letters.roll.keep=2"];
    let ended = bench.run_as("run", &["--set", set[0], "--set", set[1]]);
    ended.success();
    assert_eq!(files(&bench, "run", "dead-letters-").len(), 2);
    let kept = whole(&bench, "run", "dead-letters");
    assert!(bench.read("calm/dead-letters.jsonl").ends_with(&kept));
}

#[test]
fn file_moved_while_it_is_written_keeps_its_rows() {
    let bench = Bench::new();
    let config = simulator(6000, "records: 100");
    bench.write("config.yaml", &config);
    bench.run_as("calm", &[]).success();
    bench.write(
        "config.yaml",
        config.replace("source:", "source:\n  rate: 4000"),
    );
    let mut run = bench.start("run", &[]);
    let began = Instant::now();
    while std::fs::metadata(bench.path("run.jsonl")).map_or(0, |file| file.len()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "no predictions");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::rename(bench.path("run.jsonl"), bench.path("old.jsonl")).expect("a move");
    assert!(run.wait().expect("a child").success());
    let rest = bench.read("run.jsonl");
    assert!(!rest.is_empty());
    assert!([bench.read("old.jsonl"), rest].concat() == bench.read("calm.jsonl"));
}

#[test]
fn parquet_parts_have_a_useful_size_and_may_be_removed() {
    let bench = bench("parquet");
    bench.run_as("calm", &[]).success();
    // Without a limit that is reached, all rows are in one part.
    let names = |name: &str| -> Vec<String> {
        let files = files(&bench, &format!("{name}.parquet"), "");
        let name = |file: &PathBuf| {
            file.file_name()
                .expect("a name")
                .to_string_lossy()
                .to_string()
        };
        files.iter().map(name).collect()
    };
    assert_eq!(names("calm"), ["part-00000000.parquet"]);
    let set = ["--set", "predictions.roll.rows=700"];
    bench.run_as("whole", &set).success();
    kill(&bench, "after knowledge#5", &set);
    assert_eq!(
        names("run"),
        ["_tail-00000001.arrow", "part-00000000.parquet"]
    );
    // Somebody has moved the first part elsewhere.
    std::fs::remove_file(bench.path("run.parquet/part-00000000.parquet")).expect("a part");
    kill(&bench, "after outputs#2", &set);
    bench.run_as("run", &set).success();
    // The others are as in a run that was never killed.
    let parts = names("whole");
    assert!((3..5).contains(&parts.len()), "{parts:?}");
    assert!(parts.iter().all(|part| part.starts_with("part-")));
    assert_eq!(names("run"), parts[1..]);
    for part in &parts[1..] {
        let read = |name: &str| bench.read(&format!("{name}.parquet/{part}"));
        assert!(read("run") == read("whole"), "{part}");
    }
}

#[test]
fn rows_of_a_live_stream_become_parts_in_time() {
    let bench = Bench::writing("parquet");
    let config = simulator(12_000, "records: 100");
    let config = config.replace("source:", "mode: live\nsource:\n  rate: 4000");
    bench.write("config.yaml", config);
    let set = ["--set", "predictions.roll.seconds=1"];
    bench.run_as("run", &set).success();
    let parts = files(&bench, "run.parquet", "part-").len();
    assert!((2..20).contains(&parts), "{parts} parts");
}

#[test]
fn impossible_rolls_are_refused() {
    let bench = bench("jsonl");
    for (path, set, words) in [
        ("p.jsonl", "predictions.roll.rows=5", "set roll.bytes"),
        ("p.parquet", "predictions.roll.bytes=5", "set roll.rows"),
        ("p.jsonl", "predictions.roll.bytes=0", "at least 1"),
        ("p.jsonl", "predictions.roll.seconds=60", "set mode: live"),
        ("p.jsonl", "dead_letters.roll.rows=5", "set roll.bytes"),
        ("p.jsonl", "dead_letters.roll.byte=5", "did you mean"),
    ] {
        let path = format!("predictions.path={path}");
        let validate = ["validate", "config.yaml", "--set", &path, "--set", set];
        bench.run(&validate).failure(2, &[words]);
    }
}
