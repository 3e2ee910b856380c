//! Trainers that are commands: a pipeline learns with them, and goes on when they fail.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::process::signal;
use support::{Bench, Ended, checkout, ended, onnx, python, simulator, text};

/// The program, with the Python that the example needs first on the PATH.
fn with_python(mut command: Command) -> Ended {
    let python = PathBuf::from(python("examples/trainer"));
    let path = std::env::var_os("PATH").expect("a PATH");
    let folders = [python.parent().expect("a folder").to_path_buf()];
    let folders = folders.into_iter().chain(std::env::split_paths(&path));
    let path: OsString = std::env::join_paths(folders).expect("a PATH");
    ended(command.env("PATH", path).output())
}

/// The stages of one kind of the run `name`: model version, state and detail.
fn stages(bench: &Bench, name: &str, kind: &str) -> Vec<(u64, String, String)> {
    let stages = bench.kb_json(name, &["stages"]);
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let all = stages.as_array().expect("a list").iter();
    let some = all.filter(|stage| stage["stage"] == kind);
    some.map(|stage| {
        let version = stage["version"].as_u64().expect("a version");
        (version, text(&stage["state"]), text(&stage["detail"]))
    })
    .collect()
}

/// The config of simulated samples with a shell command as trainer.
fn bench(script: &str) -> Bench {
    let bench = Bench::new();
    let trainer = format!(
        "training:\n  candidates: [scratch]\n  trainer: {{command: [sh, -c, {}, sh]}}\n",
        json_text(script)
    );
    let config = simulator(8000, "records: 300").replace("training:\n", &trainer);
    bench.write("config.yaml", config);
    bench
}

/// A shell command that leaves a model of equal probabilities, without the seconds that a Python
/// takes to start.
fn leave_model(bench: &Bench) -> String {
    bench.write("even.onnx", onnx::constant(8, &[1.0 / 3.0; 3]));
    format!("cp {} model.onnx", text(&bench.path("even.onnx")))
}

/// Replaces the command `true` of a config.
fn set_script(bench: &Bench, script: &str) {
    let config = String::from_utf8(bench.read("config.yaml")).expect("text");
    let config = config.replace("\"true\"", &json_text(script));
    bench.write("config.yaml", config);
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

#[test]
fn command_trains_as_its_config_says() {
    let bench = Bench::new();
    let config = checkout("configs/simulator-trainer.yaml");
    let run = |name: &str| {
        let mut command = bench.command(&["run", text(&config), "--state", name]);
        command.args(["--set", &format!("predictions.path={name}.jsonl")]);
        command.args(["--set", "source.simulator.records=12000"]);
        command.args(["--set", "triggers.when=[new_samples >= 1500]"]);
        command.args(["--set", "training.candidates=[scratch, recent]"]);
        command.args(["--report", &format!("{name}.json")]);
        with_python(command).success();
        bench.left(name)
    };
    let left = run("first");
    let trained = stages(&bench, "first", "train");
    assert!(trained.len() > 5, "{trained:?}");
    for (_, state, detail) in &trained {
        assert_eq!(state, "completed", "{trained:?}");
        let (_, measured) = detail
            .split_once(" samples, training accuracy ")
            .expect(detail);
        let measured: f64 = measured.parse().expect("a number");
        assert!(measured > 0.5, "{detail}");
    }
    let deployed = stages(&bench, "first", "deploy");
    assert!(deployed.len() > 1, "{deployed:?}");
    let report = &left.report;
    assert_eq!(report["predicted"], 7000);
    assert!(report["accuracy"].as_f64() > Some(0.6), "{report}");
    assert!(!bench.path("first/trainings").exists());
    // The same samples and seeds give the same models.
    left.assert_equals(&run("second"), "a second run");
}

#[test]
fn command_trains_numbers() {
    let bench = Bench::new();
    let config = checkout("configs/simulator-trainer.yaml");
    let mut command = bench.command(&["run", text(&config), "--state", "run"]);
    command.args(["--set", "source.simulator.label=number"]);
    command.args(["--set", "triggers.when=[new_samples >= 3000]"]);
    command.args(["--set", "training.candidates=[scratch]"]);
    command.args([
        "--set",
        "predictions.path=run.jsonl",
        "--report",
        "run.json",
    ]);
    command.args(["--set", "source.simulator.records=12000"]);
    with_python(command).success();
    for (_, state, detail) in stages(&bench, "run", "train") {
        assert_eq!(state, "completed", "{detail}");
        assert!(detail.contains(" samples, training R2 0."), "{detail}");
    }
    // The labels are linear in the sensors, apart from missing values and the sites' offsets.
    let report = bench.report("run");
    assert!(report["r2"].as_f64() > Some(0.7), "{report}");
}

#[test]
fn failing_command_leaves_the_deployed_model() {
    let bench = bench("true");
    let script = format!(
        "grep -q '^    \"version\": 1$' \"$1\" && exec {}; echo out of luck >&2; exit 3",
        leave_model(&bench)
    );
    set_script(&bench, &script);
    bench.run_as("run", &[]).success();
    let reason = "the trainer's command ended with exit code 3; it said: out of luck";
    let trained = stages(&bench, "run", "train");
    for (version, state, detail) in &trained {
        match version {
            1 => assert_eq!(state, "completed", "{trained:?}"),
            _ => assert_eq!((state.as_str(), detail.as_str()), ("failed", reason)),
        }
    }
    assert!(
        trained.iter().any(|(version, ..)| *version > 1),
        "{trained:?}"
    );
    bench.left("run");
    let predictions = bench.predictions("run");
    assert_eq!(predictions.len(), 6000);
    assert!(
        predictions
            .iter()
            .all(|prediction| support::version(prediction) == 1)
    );
    let shown = bench.run(&["kb", "--state", "run", "stages"]).success();
    assert!(shown.stdout.contains("it said: out of luck"), "{shown:?}");
}

/// A command that runs for an hour, and writes its process id and its child's.
const ENDLESS: &str = "sleep 3600 & echo $$ $! > \"$OUT\"; wait";

/// Starts a run with the endless command; returns it with both process ids once they exist.
fn endless(bench: &Bench, name: &str) -> (std::process::Child, Vec<PathBuf>) {
    let child = bench.start(name, &[]);
    let file = bench.path("processes");
    let numbers = loop {
        match std::fs::read_to_string(&file) {
            Ok(text) if text.ends_with('\n') => break text,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    std::fs::remove_file(&file).expect("a file");
    let processes = numbers.split_whitespace();
    (
        child,
        processes
            .map(|number| Path::new("/proc").join(number))
            .collect(),
    )
}

/// Waits until a process is gone or a zombie.
fn wait_for_end(process: &Path) {
    let lives = || {
        let status = std::fs::read_to_string(process.join("stat"));
        status.is_ok_and(|status| !status.contains(") Z "))
    };
    while lives() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn endless_bench() -> Bench {
    let bench = bench("true");
    set_script(
        &bench,
        &ENDLESS.replace("$OUT", text(&bench.path("processes"))),
    );
    bench
}

#[test]
fn stopped_run_leaves_no_process_and_no_files() {
    let bench = endless_bench();
    let (mut child, processes) = endless(&bench, "run");
    assert_eq!(processes.len(), 2);
    signal(child.id(), "TERM");
    assert!(child.wait().expect("a child").success());
    processes.iter().for_each(|process| wait_for_end(process));
    assert!(!bench.path("run/trainings").exists());
}

#[test]
fn killed_run_ends_its_command_and_the_next_run_removes_its_files() {
    let bench = endless_bench();
    let (mut child, processes) = endless(&bench, "run");
    child.kill().expect("a child");
    child.wait().expect("a child");
    wait_for_end(&processes[0]);
    // The command's child is an orphan now.
    let number = processes[1].file_name().and_then(|name| name.to_str());
    signal(
        number.and_then(|text| text.parse().ok()).expect("a number"),
        "KILL",
    );
    assert!(bench.path("run/trainings").exists());
    let fails = ["--set", "training.trainer.command=[sh, -c, exit 3]"];
    let ended = bench.run_as("run", &fails);
    // The first training fails, so that there is no model.
    let reason = "the trainer's command ended with exit code 3";
    ended.failure(1, &["the first model could not be trained", reason]);
    assert!(!bench.path("run/trainings").exists());
    // With a working command it resumes.
    let works = format!("training.trainer.command=[sh, -c, {}]", leave_model(&bench));
    bench.run_as("run", &["--set", &works]).success();
    assert_eq!(bench.predictions("run").len(), 6000);
    bench.left("run");
}
