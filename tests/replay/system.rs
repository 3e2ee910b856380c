//! The system around a run: few open files, files that others may not read, and commands that read
//! a state while it is written.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use perennial_connectors::knowledge_base::set_sums;
use rocksdb::{DB, Options};
use support::stream;
use support::{Bench, Ended, ended, json, program, simulator};

/// A folder with a config and a run `run` that was killed twice, so that its store has tables.
fn killed() -> Bench {
    let bench = Bench::new();
    bench.write("stream.csv", stream::csv(&stream::samples(31, 3000, 0.0)));
    bench.write("config.yaml", stream::config("stream.csv", "records: 300"));
    for point in ["after knowledge#6", "before outputs"] {
        let mut command = bench.pipeline("run", &[]);
        command.env("PERENNIAL_KILL_AT", format!("commit: {point}"));
        assert_eq!(ended(command.output()).status, None);
    }
    bench
}

/// Runs the program with a limit on open files, `-Sn` for one that it may raise.
fn limited(bench: &Bench, limit: &str, arguments: &str) -> Ended {
    let script = format!("ulimit {limit} && exec {} {arguments}", program().display());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(bench.path("."));
    ended(command.output())
}

/// The tables of the store of `run`.
fn tables(bench: &Bench) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(bench.path("run/knowledge")).expect("a store");
    let files = entries.map(|entry| entry.expect("a file").path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "sst"))
        .collect()
}

#[test]
fn low_limit_on_open_files_is_raised_or_named() {
    let bench = killed();
    let tables = tables(&bench).len();
    assert!(tables > 12, "{tables} tables");
    limited(&bench, "-Sn 16", "kb --state run tasks").success();
    let words = [
        "the knowledge base in run cannot be used: too many open files (EMFILE)",
        "ulimit -n",
    ];
    for limit in ["-n 8", "-n 12", "-n 16"] {
        let ended = limited(&bench, limit, "run config.yaml --state run");
        assert!(!ended.stderr.contains("damaged"), "{limit}: {ended:?}");
        assert!(!ended.stderr.contains("in use by"), "{limit}: {ended:?}");
        ended.failure(1, &words);
    }
    // A reader with few files has no more tables open at a time.
    limited(&bench, "-n 16", "kb --state run tasks").success();
    bench.run_as("run", &[]).success();
}

#[test]
fn log_of_the_store_is_bounded() {
    let bench = killed();
    let entries = std::fs::read_dir(bench.path("run/knowledge")).expect("a store");
    let names = entries.map(|entry| entry.expect("a file").file_name());
    let mut options: Vec<String> = names
        .map(|name| name.to_string_lossy().to_string())
        .filter(|name| name.starts_with("OPTIONS-"))
        .collect();
    options.sort();
    let latest = options.last().expect("options");
    let text = String::from_utf8(bench.read(&format!("run/knowledge/{latest}"))).expect("a text");
    for bound in [
        "max_log_file_size=8388608",
        "keep_log_file_num=4",
        "stats_dump_period_sec=0",
    ] {
        assert!(text.contains(bound), "{bound} is not among {text}");
    }
}

#[test]
fn reader_beside_a_writer_does_not_speak_of_damage() {
    let bench = killed();
    // This process has the store open, and a table of it is gone: the reader came too late.
    let path = bench.path("run/knowledge");
    let families = DB::list_cf(&Options::default(), &path).expect("a store");
    let mut options = Options::default();
    set_sums(&mut options);
    let families = families.iter().map(|name| (name, options.clone()));
    let db = DB::open_cf_with_opts(&Options::default(), &path, families).expect("a store");
    let table = tables(&bench).pop().expect("a table");
    let away = bench.path("away.sst");
    std::fs::rename(&table, &away).expect("a move");
    let looked = bench.run(&["kb", "--state", "run", "tasks"]);
    looked.failure(1, &["is being written", "run the command again"]);
    // Without a writer, a table that is missing is damage.
    drop(db);
    let looked = bench.run(&["kb", "--state", "run", "tasks"]);
    looked.failure(1, &["damaged", "No such file"]);
    std::fs::rename(&away, &table).expect("a move");
    bench.run_as("run", &[]).success();
}

#[test]
fn state_is_private() {
    let bench = killed();
    let mode = |name: &str| {
        let found = std::fs::metadata(bench.path(name)).expect("a file");
        found.permissions().mode() & 0o777
    };
    assert_eq!(mode("run"), 0o700);
    assert_eq!(mode("run/knowledge"), 0o700);
    assert_eq!(mode("run/dead-letters.jsonl"), 0o600);
    bench.set_mode("run", 0o755);
    let warned = bench.run_as("run", &[]).success();
    assert!(warned.stderr.contains("chmod 700"), "{warned:?}");
}

#[test]
fn progress_is_logged_and_can_be_switched_off() {
    let bench = Bench::new();
    // More than the ten seconds between two lines.
    let config = simulator(13_000, "records: 100");
    bench.write(
        "config.yaml",
        config.replace("source:", "source:\n  rate: 1000"),
    );
    let start = |name: &'static str, level: Option<&str>| {
        let mut command = bench.pipeline(name, &["--log-json"]);
        if let Some(level) = level {
            command.env("RUST_LOG", level);
        }
        let errors = std::fs::File::create(bench.path(&format!("{name}.err")));
        command.stderr(errors.expect("a file"));
        command.stdout(std::process::Stdio::null());
        command.spawn().expect("the program starts")
    };
    let runs = [start("shown", None), start("silent", Some("warn"))];
    for mut run in runs {
        assert!(run.wait().expect("a child").success());
    }
    assert_eq!(bench.read("silent.err"), b"");
    let shown = String::from_utf8(bench.read("shown.err")).expect("a text");
    assert!(!shown.is_empty());
    for line in shown.lines() {
        let line = json(line.as_bytes());
        assert_eq!(line["target"], "perennial::progress", "{line}");
        let message = line["fields"]["message"].as_str().expect("a message");
        assert!(message.contains(" records ("), "{message}");
    }
}
