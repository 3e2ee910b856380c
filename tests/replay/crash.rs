//! Crashes: a killed run that is started again ends like an undisturbed one.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::process::signal;
use support::stream::{self, Chance};
use support::{Bench, Left, ended, numbers, simulator};

/// Number of kills at random moments.
const KILLS: u32 = 20;

/// The seed of the moments, from the environment or else from the clock. It is printed, to repeat a
/// failure.
fn seed() -> u64 {
    let given = std::env::var("PERENNIAL_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("a time after 1970").as_nanos() as u64
    });
    println!("PERENNIAL_SEED={seed}");
    seed
}

/// Runs `config.yaml` undisturbed; returns its output and its duration.
fn undisturbed(bench: &Bench) -> (Left, Duration) {
    let began = Instant::now();
    bench.run_as("calm", &[]).success();
    let took = began.elapsed();
    let left = bench.left("calm");
    assert!(left.report["models"].as_u64() > Some(10), "{}", left.report);
    (left, took)
}

/// Whether the child ends within `time`.
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let began = Instant::now();
    while began.elapsed() < time {
        if child.try_wait().expect("a child").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Kills `config.yaml` at random moments and resumes it each time; asserts that it ends like the
/// undisturbed run. One state may see several kills; a finished run starts over.
fn kill_at_random(bench: &Bench, workers: &str) {
    let (calm, took) = undisturbed(bench);
    let mut chance = Chance::new(seed());
    let (mut kills, mut round) = (0, 0);
    while kills < KILLS {
        let name = format!("killed-{round}");
        round += 1;
        assert!(round <= 10 * KILLS, "runs end before they can be killed");
        loop {
            let mut child = bench.start(&name, &["--workers", workers]);
            // A random share of the undisturbed duration, so that restarts come to an end.
            let limit = took.mul_f64(chance.share());
            if kills == KILLS || ends_within(&mut child, limit) {
                let status = child.wait().expect("a child");
                let said = bench.read(&format!("{name}.err"));
                let said = String::from_utf8_lossy(&said);
                assert!(status.success(), "{name}, after {kills} kills: {said}");
                break;
            }
            child.kill().expect("a kill");
            child.wait().expect("a child");
            kills += 1;
        }
        let what = format!("{name}, after {kills} kills in all");
        bench.left(&name).assert_equals(&calm, &what);
    }
}

#[test]
fn run_killed_at_random_moments_resumes() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(6000, "records: 700"));
    kill_at_random(&bench, "2");
}

#[test]
fn run_killed_within_a_commit_resumes() {
    let bench = Bench::new();
    let (lines, _) = stream::with_bad_lines(&stream::samples(5, 4000, 0.1), 6);
    bench.write("stream.csv", stream::csv_of(lines.into_iter()));
    bench.write(
        "config.yaml",
        stream::config("stream.csv", "seconds: 30000"),
    );
    let (calm, _) = undisturbed(&bench);
    for point in ["before outputs", "after outputs", "after knowledge"] {
        for count in [1, 2, 5] {
            let name = format!("{point} {count}").replace(' ', "-");
            let mut command = bench.pipeline(&name, &[]);
            command.env("PERENNIAL_KILL_AT", format!("commit: {point}#{count}"));
            let killed = ended(command.output());
            assert_eq!(killed.status, None, "{name} is not killed: {killed:?}");
            bench.run_as(&name, &[]).success();
            bench.left(&name).assert_equals(&calm, &name);
        }
    }
}

/// Kills a run at each commit in turn; its predictions go to files with this ending.
fn kill_at_each_commit(ending: &'static str, config: String) {
    let bench = Bench::writing(ending);
    bench.write("stream.csv", stream::csv(&stream::samples(8, 2500, 0.1)));
    bench.write("config.yaml", config);
    let (calm, _) = undisturbed(&bench);
    assert!(calm.predictions.len() > 10_000, "{ending}");
    // Killed at the second commit of each start, it advances one commit a start.
    let mut starts = 0;
    loop {
        let mut command = bench.pipeline("steps", &[]);
        command.env("PERENNIAL_KILL_AT", "commit: after outputs#2");
        starts += 1;
        match ended(command.output()) {
            killed if killed.status.is_none() => assert!(starts < 100, "{killed:?}"),
            finished => {
                finished.success();
                break;
            }
        }
    }
    assert!(starts > 5, "{starts} starts");
    let what = format!("step by step, {ending}");
    bench.left("steps").assert_equals(&calm, &what);
}

#[test]
fn run_killed_at_every_commit_resumes() {
    for ending in ["jsonl", "csv", "parquet"] {
        kill_at_each_commit(ending, stream::config("stream.csv", "records: 300"));
    }
    for ending in ["jsonl", "csv", "parquet"] {
        let config = numbers(5000, "records: 300").replace("epochs: 4", "epochs: 1");
        kill_at_each_commit(ending, config);
    }
}

/// Stops a run with SIGTERM after a while, and waits for its end.
fn stop(mut child: Child, after: Duration) -> ExitStatus {
    std::thread::sleep(after);
    signal(child.id(), "TERM");
    child.wait().expect("a child")
}

#[test]
fn sigterm_ends_a_run_in_order() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(8000, "records: 700"));
    let (calm, took) = undisturbed(&bench);
    let mut stopped_early = 0;
    for share in [0.2, 0.5, 0.8] {
        let name = format!("stopped-{}", (share * 10.0) as u32);
        let child = bench.start(&name, &[]);
        let status = stop(child, took.mul_f64(share));
        let said = String::from_utf8_lossy(&bench.read(&format!("{name}.err"))).into_owned();
        assert!(status.success(), "{name}: {status}: {said}");
        let report = bench.report(&name);
        stopped_early += u32::from(report["finished"] == false);
        // A stopped run is sound and its outputs are whole.
        bench.left(&name);
        let lines = bench.predictions(&name).len();
        assert_eq!(report["predicted"], lines, "{name}");
        // Stopped again during its start, it loses nothing either.
        for moment in [20, 60, 100] {
            let child = bench.start(&name, &[]);
            stop(child, Duration::from_millis(moment));
        }
        bench.run_as(&name, &[]).success();
        bench.left(&name).assert_equals(&calm, &name);
    }
    assert!(stopped_early > 0, "all runs ended before they were stopped");
}

#[test]
fn finished_stream_is_not_run_again() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(4000, "records: 100"));
    bench.run_as("run", &[]).success();
    let (report, left) = (bench.read("run.json"), bench.left("run"));
    // A run in a new state is killed by its first commit; a finished stream commits nothing.
    let [again, new] = ["run", "new"].map(|name| {
        let mut command = bench.pipeline(name, &["--workers", "2"]);
        command.env("PERENNIAL_KILL_AT", "commit: before outputs");
        ended(command.output())
    });
    assert_eq!(new.status, None, "{new:?}");
    again.success();
    // The whole report, with its timings.
    let (before, after) = (support::json(&report), bench.report("run"));
    assert_eq!(before, after);
    bench.left("run").assert_equals(&left, "again");
}

#[test]
fn run_killed_while_creating_its_store_starts_over() {
    let bench = Bench::new();
    bench.write("config.yaml", simulator(3000, "records: 100"));
    // The files of a store that a kill interrupted.
    std::fs::create_dir_all(bench.path("begun/knowledge")).expect("folders");
    for file in ["LOG", "LOCK", "IDENTITY", "000001.dbtmp", "MANIFEST-000001"] {
        bench.write(&format!("begun/knowledge/{file}"), "");
    }
    bench.run_as("begun", &[]).success();
    // A store without content.
    let store = bench.path("empty/knowledge");
    std::fs::create_dir(bench.path("empty")).expect("a folder");
    drop(rocksdb::DB::open_default(store).expect("a store"));
    bench.run_as("empty", &[]).success();
    bench
        .left("begun")
        .assert_equals(&bench.left("empty"), "a new store");
    // A folder with anything else is not touched.
    std::fs::create_dir_all(bench.path("other/knowledge")).expect("folders");
    bench.write("other/knowledge/000007.sst", "precious");
    let words = ["other is not empty and holds no knowledge base"];
    bench.run_as("other", &[]).failure(1, &words);
}
