//! Bad input: each kind ends in a clear error or in dead letters, and no other record is lost.

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::Bench;
use support::stream::{self, CLASSES, HEADER, Sample};

/// Samples of the bootstrap.
const BOOTSTRAP: usize = 800;

/// A folder with a config that reads `file`.
fn bench(file: &str) -> Bench {
    let bench = Bench::new();
    bench.write("config.yaml", stream::config(file, "records: 10"));
    bench
}

/// Compresses with gzip.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is there");
    let mut input = child.stdin.take().expect("an input");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().expect("gzip ends");
    writer.join().expect("no panic").expect("gzip reads");
    assert!(output.status.success());
    output.stdout
}

/// Asserts that exactly these samples were predicted, in order.
#[track_caller]
fn assert_predicted(bench: &Bench, name: &str, samples: &[Sample]) {
    let predictions = bench.predictions(name);
    let predicted: Vec<&str> = predictions
        .iter()
        .filter_map(|p| p["id"].as_str())
        .collect();
    let expected: Vec<&str> = samples.iter().map(|sample| &*sample.id).collect();
    assert_eq!(predicted, expected);
}

/// Runs the samples with bad lines inserted after the bootstrap, asserts that all samples are
/// predicted, and returns the dead letters.
#[track_caller]
fn dead_letters_of(bad: &[&[u8]]) -> Vec<Value> {
    let bench = bench("stream.csv");
    let samples = stream::samples(21, 1600, 0.0);
    let mut bytes = format!("{HEADER}\n").into_bytes();
    for (number, sample) in samples.iter().enumerate() {
        bytes.extend_from_slice(sample.line().as_bytes());
        bytes.push(b'\n');
        if let Some(line) = number.checked_sub(1000).and_then(|place| bad.get(place)) {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
    }
    bench.write("stream.csv", bytes);
    let ended = bench
        .run_as("run", &["--set", "source.max_record_bytes=65536"])
        .success();
    assert!(
        ended
            .stdout
            .contains(&format!("{} dead letters", bad.len())),
        "{ended:?}"
    );
    assert_predicted(&bench, "run", &samples[BOOTSTRAP..]);
    let left = bench.left("run");
    assert_eq!(left.report["dead_letters"], bad.len());
    assert_eq!(left.report["labelled"], samples.len() - BOOTSTRAP);
    let letters = bench.dead_letters("run");
    assert_eq!(letters.len(), bad.len());
    // Each has its line number; line 1 is the header.
    for (number, letter) in letters.iter().enumerate() {
        assert_eq!(letter["record"], 1000 + 2 * number + 3, "{letter}");
    }
    letters
}

#[track_caller]
fn assert_reasons(letters: &[Value], reasons: &[&str]) {
    for (letter, reason) in letters.iter().zip(reasons) {
        let said = letter["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{reason:?} is not in {letter}");
    }
}

#[test]
fn bad_records_become_dead_letters() {
    let letters = dead_letters_of(&[
        b"x1,1,s0,dry,warm,1,1,fan,low",
        b"x2,1,s0,dry,1e999,1,1,fan,low",
        b"r900,1,s0,dry,1,1,1,fan,low",
        b"x3,1,s0,dry,1,1,1,fan,lukewarm",
        b"x4,someday,s0,dry,1,1,1,fan,low",
        b",1,s0,dry,1,1,1,fan,low",
        b"x5,1,s0",
        b"x6,1,s\xff\xfe,dry,1,1,1,fan,low",
    ]);
    assert_reasons(
        &letters,
        &[
            "feature \"a\" is \"warm\", not a number",
            "feature \"a\" is \"1e999\", not a finite",
            "id \"r900\" was seen before",
            "label \"label\" is \"lukewarm\"",
            "time \"time\" is \"someday\"",
            "id \"id\" is missing",
            "3 columns, the header 9",
            "column \"site\" is not valid UTF-8",
        ],
    );
    let content = letters[0]["content"].as_str().expect("the record");
    assert_eq!(content, "x1,1,s0,dry,warm,1,1,fan,low");
}

/// A line of a gigabyte, as a sparse file.
const ENDLESS: u64 = 1 << 30;

#[test]
fn gigabyte_line_is_one_dead_letter_and_takes_no_memory() {
    let samples = stream::samples(27, 1600, 0.0);
    for (file, header) in [("stream.csv", true), ("stream.jsonl", false)] {
        let bench = bench(file);
        let line = |sample: &Sample| if header { sample.line() } else { sample.json() };
        let mut stream = std::fs::File::create(bench.path(file)).expect("a file");
        if header {
            writeln!(stream, "{HEADER}").expect("the header");
        }
        for (number, sample) in samples.iter().enumerate() {
            if number == 1000 {
                write!(stream, "{}", &line(sample)[..12]).expect("a beginning");
                let hole = std::io::SeekFrom::Current(ENDLESS as i64);
                stream.seek(hole).expect("a hole");
                writeln!(stream).expect("an end");
            }
            writeln!(stream, "{}", line(sample)).expect("a line");
        }
        let child = bench.start("run", &[]);
        let (status, peak) = support::watch_memory(child);
        assert!(status.success(), "{file}: {status}");
        assert_predicted(&bench, "run", &samples[BOOTSTRAP..]);
        let letters = bench.dead_letters("run");
        assert_eq!(letters.len(), 1, "{file}");
        assert_reasons(&letters, &["longer than"]);
        let content = letters[0]["content"].as_str().expect("the record");
        assert!(content.len() < 5000, "{} bytes are kept", content.len());
        assert!(peak < ENDLESS / 2, "{file}: {peak} bytes of memory");
    }
}

#[test]
fn torn_gzip_is_read_up_to_the_tear() {
    let bench = bench("stream.csv.gz");
    let samples = stream::samples(22, 4000, 0.0);
    let whole = gzip(stream::csv(&samples).as_bytes());
    bench.write("stream.csv.gz", &whole[..whole.len() * 3 / 5]);
    for attempt in ["at first", "and again"] {
        let ended = bench.run_as("run", &[]);
        ended.failure(1, &["stream.csv.gz", "cut off"]);
        // Records before the tear are predicted and committed.
        let predicted = bench.predictions("run").len();
        assert!((1000..3000).contains(&predicted), "{attempt}: {predicted}");
        assert_predicted(&bench, "run", &samples[BOOTSTRAP..BOOTSTRAP + predicted]);
        let verified = bench.run(&["kb", "--state", "run", "verify"]);
        verified.success();
    }
    // With the whole file the run resumes where it stopped.
    bench.write("stream.csv.gz", &whole);
    bench.run_as("run", &[]).success();
    assert_predicted(&bench, "run", &samples[BOOTSTRAP..]);
    let left = bench.left("run");
    assert_eq!(left.report["labelled"], samples.len() - BOOTSTRAP);
    // Damage in the middle is no tear.
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0x55);
    bench.write("stream.csv.gz", damaged);
    bench
        .run_as("damaged", &[])
        .failure(1, &["stream.csv.gz", "damaged"]);
}

#[test]
fn wrong_columns_are_named() {
    let bench = bench("stream.csv");
    let text = stream::csv(&stream::samples(23, 1000, 0.0));
    bench.write(
        "stream.csv",
        text.replace(HEADER, "id,time,site,seasons,a,B,c,mode,label"),
    );
    for command in ["run", "validate"] {
        let ended = bench.run(&[command, "config.yaml"]);
        ended.failure(
            1,
            &[
                "stream.csv",
                "lacks the columns \"season\", \"b\"",
                "it has \"id\", \"time\", \"site\", \"seasons\", \"a\", \"B\"",
                "did you mean \"seasons\"",
            ],
        );
    }
    bench.write("stream.csv", text.replace(',', ";"));
    bench
        .run_as("state", &[])
        .failure(1, &["stream.csv", "separated by commas"]);
}

#[test]
fn empty_files_are_refused() {
    let bench = bench("stream.csv");
    bench
        .run_as("missing", &[])
        .failure(1, &["stream.csv does not exist"]);
    bench.write("stream.csv", "");
    bench
        .run_as("empty", &[])
        .failure(1, &["stream.csv is empty"]);
    bench.write("stream.csv", gzip(b""));
    bench
        .run_as("binary", &[])
        .failure(1, &["stream.csv", "lacks the columns"]);
    // A header alone is an empty stream.
    bench.write("stream.csv", format!("{HEADER}\n"));
    bench.run_as("header", &[]).success();
    assert_eq!(bench.left("header").report["records"], 0);
}

#[test]
fn stream_without_labels_cannot_start() {
    let bench = bench("stream.csv");
    bench.write("stream.csv", stream::csv(&stream::samples(24, 1500, 1.0)));
    bench.run_as("run", &[]).failure(1, &["no model answers"]);
}

#[test]
fn bootstrap_of_one_class_is_learned() {
    let bench = bench("stream.csv");
    let mut samples = stream::samples(25, 1500, 0.0);
    for sample in &mut samples {
        sample.label = Some(1);
    }
    bench.write("stream.csv", stream::csv(&samples));
    bench.run_as("run", &[]).success();
    let predictions = bench.predictions("run");
    let right = |line: &&Value| line["prediction"] == CLASSES[1];
    assert_eq!(predictions.iter().filter(right).count(), 700);
    assert_eq!(bench.left("run").report["accuracy"], 1.0);
}

#[test]
fn shortened_input_is_refused() {
    let bench = bench("stream.csv");
    let samples = stream::samples(26, 3000, 0.0);
    bench.write("stream.csv", stream::csv(&samples));
    let mut command = bench.pipeline("run", &[]);
    command.env("PERENNIAL_KILL_AT", "commit: after knowledge#5");
    assert_eq!(support::ended(command.output()).status, None);
    bench.write("stream.csv", stream::csv(&samples[..900]));
    bench
        .run_as("run", &[])
        .failure(1, &["stream.csv has only 900 records", "were read before"]);
    bench.write("stream.csv", stream::csv(&samples));
    bench.run_as("run", &[]).success();
    assert_predicted(&bench, "run", &samples[BOOTSTRAP..]);
}
