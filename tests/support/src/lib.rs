//! Support for tests: a folder to run the program in, small configs, streams made from a seed, real
//! brokers, and readers of a run's output.

pub mod avro;
pub mod count;
pub mod fleet;
pub mod forge;
pub mod kafka;
pub mod onnx;
pub mod process;
mod produce;
pub mod proxy;
pub mod registry;
pub mod stream;
pub mod thermal;
pub mod topics;
pub mod year;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

/// A temporary folder in which the program runs.
pub struct Bench {
    folder: tempfile::TempDir,
    /// The ending of the predictions files, which determines their format.
    ending: &'static str,
}

/// The outcome of a command.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// The output of a finished run that two runs of one stream must agree on.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The predictions file, or the files of its folder, one after the other.
    pub predictions: Vec<u8>,
    /// The dead letters.
    pub dead_letters: Vec<u8>,
    /// `perennial kb changes --json`.
    pub changes: String,
    /// The report without its timings.
    pub report: Value,
}

impl Default for Bench {
    fn default() -> Bench {
        Bench::new()
    }
}

impl Bench {
    /// Makes an empty folder.
    pub fn new() -> Bench {
        Bench::writing("jsonl")
    }

    /// Makes an empty folder whose runs write predictions to files with this ending.
    pub fn writing(ending: &'static str) -> Bench {
        let folder = tempfile::Builder::new().prefix("perennial-test-").tempdir();
        Bench {
            folder: folder.expect("a temporary folder"),
            ending,
        }
    }

    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a file is written");
    }

    /// Sets who may read and write a file of the folder.
    pub fn set_mode(&self, name: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(name), mode).expect("a mode is set");
    }

    /// Reads a file of the folder.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Reads a file, or all files of a folder in the order of their names, each after its name.
    fn read_all(&self, name: &str) -> Vec<u8> {
        if !self.path(name).is_dir() {
            return self.read(name);
        }
        let entries = std::fs::read_dir(self.path(name)).expect("a folder");
        let mut files: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|file| format!("{name}/{}", file.to_string_lossy()))
            .collect();
        files.sort();
        let read = |file: &String| {
            let inside = file.trim_start_matches(name);
            [inside.as_bytes(), b"\n", &self.read(file)].concat()
        };
        files.iter().flat_map(read).collect()
    }

    /// The command that runs the program in the folder. The program ends with the thread that
    /// starts it: one that a failed test leaves behind would keep the tests' output open for ever.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program());
        command.args(arguments).current_dir(self.folder.path());
        command
            .env_remove("RUST_LOG")
            .env_remove("PERENNIAL_KILL_AT")
            .env_remove("PERENNIAL_HALT_AT");
        command
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Ended {
        ended(self.command(arguments).output())
    }

    /// The command that runs `config.yaml` as `name`: its state goes to the folder `name`, its
    /// predictions to `name.jsonl` (or the bench's ending), its report to `name.json`.
    pub fn pipeline(&self, name: &str, more: &[&str]) -> Command {
        let predictions = format!("predictions.path={name}.{}", self.ending);
        let report = format!("{name}.json");
        let mut command = self.command(&["run", "config.yaml", "--state", name]);
        command.args(["--report", &report, "--set", &predictions]);
        command.args(more);
        command
    }

    /// Makes a pair of signing keys with openssl, as the documentation does: NAME.pem and
    /// NAME-public.pem.
    pub fn make_keys(&self, name: &str) {
        let (private, public) = (format!("{name}.pem"), format!("{name}-public.pem"));
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            ended(command.args(arguments).current_dir(self.path(".")).output()).success();
        };
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private]);
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
    }

    /// Runs `config.yaml` as `name`.
    pub fn run_as(&self, name: &str, more: &[&str]) -> Ended {
        ended(self.pipeline(name, more).output())
    }

    /// Starts `config.yaml` as `name` in the background; standard error goes to `name.err`.
    pub fn start(&self, name: &str, more: &[&str]) -> Child {
        let mut command = self.pipeline(name, more);
        let errors = std::fs::File::create(self.path(&format!("{name}.err")));
        command.stdout(Stdio::null());
        command.stderr(errors.expect("a file is made"));
        command.spawn().expect("the program starts")
    }

    /// Prints a part of the knowledge base of the run `name` as JSON.
    pub fn kb(&self, name: &str, arguments: &[&str]) -> String {
        let mut all = vec!["kb", "--state", name, "--json"];
        all.extend(arguments);
        self.run(&all).success().stdout
    }

    /// Reads a part of the knowledge base of the run `name`.
    pub fn kb_json(&self, name: &str, arguments: &[&str]) -> Value {
        json(self.kb(name, arguments).as_bytes())
    }

    /// The report of the run `name`.
    pub fn report(&self, name: &str) -> Value {
        json(&self.read(&format!("{name}.json")))
    }

    /// The predictions of the run `name`.
    pub fn predictions(&self, name: &str) -> Vec<Value> {
        lines(&self.read(&format!("{name}.jsonl")))
    }

    /// The dead letters of the run `name`.
    pub fn dead_letters(&self, name: &str) -> Vec<Value> {
        lines(&self.read(&format!("{name}/dead-letters.jsonl")))
    }

    /// The output of the finished run `name`, whose knowledge base is verified.
    pub fn left(&self, name: &str) -> Left {
        let verified = self.run(&["kb", "--state", name, "verify"]).success();
        assert!(verified.stdout.starts_with("sound: "), "{verified:?}");
        Left {
            predictions: self.read_all(&format!("{name}.{}", self.ending)),
            dead_letters: self.read(&format!("{name}/dead-letters.jsonl")),
            changes: self.kb(name, &["changes"]),
            report: without_timings(self.report(name)),
        }
    }
}

impl Ended {
    /// Asserts that the command succeeded.
    #[track_caller]
    pub fn success(self) -> Ended {
        assert_eq!(self.status, Some(0), "{self:?}");
        self
    }

    /// Asserts that the command failed with this status, and with an error message that contains
    /// all of these words.
    #[track_caller]
    pub fn failure(self, status: i32, words: &[&str]) -> Ended {
        assert_eq!(self.status, Some(status), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

impl Left {
    /// Asserts that another run left the same output, and says what differs.
    #[track_caller]
    pub fn assert_equals(&self, other: &Left, what: &str) {
        assert_same_text(&self.predictions, &other.predictions, what, "predictions");
        assert_same_text(
            &self.dead_letters,
            &other.dead_letters,
            what,
            "dead letters",
        );
        let (ours, theirs) = (self.changes.as_bytes(), other.changes.as_bytes());
        assert_same_text(ours, theirs, what, "changes");
        assert_eq!(self.report, other.report, "{what}: the reports differ");
    }
}

/// Asserts that two texts are equal; panics with the first line that differs, not with all.
#[track_caller]
fn assert_same_text(ours: &[u8], theirs: &[u8], what: &str, part: &str) {
    if ours == theirs {
        return;
    }
    let (ours, theirs) = (
        String::from_utf8_lossy(ours),
        String::from_utf8_lossy(theirs),
    );
    let pairs = ours.lines().zip(theirs.lines()).enumerate();
    let first = pairs.into_iter().find(|(_, (ours, theirs))| ours != theirs);
    let shown = first.map(|(line, (ours, theirs))| {
        let cut = |text: &str| text.chars().take(400).collect::<String>();
        format!("line {}:\n{}\n{}", line + 1, cut(ours), cut(theirs))
    });
    let (ours, theirs) = (ours.lines().count(), theirs.lines().count());
    panic!("{what}: the {part} differ ({ours} and {theirs} lines): {shown:?}");
}

/// The outcome of a finished command.
pub fn ended(output: std::io::Result<Output>) -> Ended {
    let output = output.expect("the program starts");
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program under test, which Cargo builds into the folder above that of the running test.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let folder = test.ancestors().nth(2).expect("a folder of programs");
    let program = folder.join("perennial");
    assert!(program.exists(), "{} is not built", program.display());
    program
}

/// The path of a file in this repository.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// A number from the environment.
pub fn given(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Copies a folder to a new one.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// The Python interpreter with the packages of the examples in a folder.
pub fn python(examples: &str) -> String {
    let mut script = Command::new("bash");
    script.args([&checkout("scripts/python.sh"), Path::new(examples)]);
    let printed = ended(script.output()).success();
    printed.stdout.trim().to_string()
}

/// Waits for a process to end; returns its status and its peak memory in bytes (Linux's VmHWM).
pub fn watch_memory(mut child: Child) -> (ExitStatus, u64) {
    let mut peak = 0;
    loop {
        peak = peak.max(process::status_bytes(child.id(), "VmHWM"));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(peak > 0, "the process was never seen");
            return (status, peak);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The text in a gzip file.
pub fn unzipped(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("a file");
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
    decoder.read_to_string(&mut text).expect("text");
    text
}

/// Parses JSON.
#[track_caller]
pub fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Parses JSON Lines, of which the last must end with a newline.
#[track_caller]
pub fn lines(bytes: &[u8]) -> Vec<Value> {
    assert!(
        bytes.is_empty() || bytes.ends_with(b"\n"),
        "the last line is torn"
    );
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty()).map(json).collect()
}

/// A report without its wall-clock timings.
pub fn without_timings(mut report: Value) -> Value {
    let fields = report.as_object_mut().expect("a report is an object");
    for name in ["seconds", "bootstrap_seconds", "records_per_second"] {
        assert!(fields.remove(name).is_some(), "the report has {name}");
    }
    report
}

/// The version in a prediction's model, `site=a @3`.
pub fn version(prediction: &Value) -> u32 {
    let model = prediction["model"].as_str().expect("a model");
    let (_, version) = model.rsplit_once('@').expect("a version");
    version.parse().expect("a version is a number")
}

/// A simulated fleet whose labels drift fast, so that models are replaced often.
pub fn simulator(records: u64, delay: &str) -> String {
    format!(
        "name: fleet
source:
  simulator:
    seed: 7
    records: {records}
    sites: 8
    contexts: 3
    features: 8
    interval_us: 100000
    drift: {{every: 3000, strength: 1.0}}
tasks:
  path: [[season, zone], [site]]
bootstrap:
  records: 2000
labels:
  delay: {{{delay}}}
epoch:
  records: 512
memory:
  samples_per_task: 200
training:
  min_samples: 100
  trees: {{rounds: 10, max_depth: 3}}
triggers:
  when: ['new_samples >= 1500', 'accuracy_drop >= 0.05', drift]
drift:
  detectors: [adwin, page_hinkley, features]
unseen:
  methods: [attributes, density, nearest, disagreement]
label_requests:
  per_day: 500
commit:
  epochs: 4
report:
  baselines: [frozen, single]
"
    )
}

/// The same fleet with labels that are numbers.
pub fn numbers(records: u64, delay: &str) -> String {
    let config = simulator(records, delay);
    let config = config.replace("    seed: 7\n", "    seed: 7\n    label: number\n");
    config.replace("accuracy_drop >= 0.05", "rmse_rise >= 0.1")
}

/// A path as text, for YAML or `--set`.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}
