//! Runs a target in a process of its own, watches it, and reports what breaks it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use support::stream::Chance;
use tempfile::TempDir;

use crate::{memory, mutate};

/// The seed, unless the environment gives one.
const SEED: u64 = 20_261_127;
/// Time after which an input is taken to hang. The slowest takes less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Findings after which a target ends.
const ENOUGH: usize = 10;
/// Bound on the address space of a target's process, KiB: an allocation beyond it fails.
const ADDRESSES: u64 = 8 << 20;
/// The environment variable with the inputs of a target's process: the first, and the one behind
/// the last.
const RANGE: &str = "PERENNIAL_FUZZ_RANGE";
/// The environment variable with the file into which the process writes the number of its input.
const PROGRESS: &str = "PERENNIAL_FUZZ_PROGRESS";

/// A decoder to be broken.
pub struct Target {
    pub name: &'static str,
    pub subject: fn() -> Subject,
    /// Inputs, unless the environment gives another number.
    pub inputs: u64,
    /// Part of the number of inputs in the environment that is run, as its divisor.
    pub cost: u64,
    pub memory: Memory,
}

/// A decoder with valid inputs.
pub struct Subject {
    pub seeds: Vec<Vec<u8>>,
    /// Words of the format.
    pub tokens: Vec<&'static str>,
    /// Decodes an input; whether it is valid all the same.
    pub decode: Box<dyn FnMut(&[u8]) -> bool>,
}

/// Bound on the memory for an input.
pub struct Memory {
    per_byte: usize,
    constant: usize,
    /// Whether native libraries count too, which do not use Rust's allocator.
    is_of_process: bool,
}

/// What broke at an input.
struct Finding {
    input: u64,
    what: String,
}

impl Memory {
    /// `per_byte` for each byte of the input, and `constant` more.
    pub fn new(per_byte: usize, constant: usize) -> Memory {
        Memory {
            per_byte,
            constant,
            is_of_process: false,
        }
    }

    /// `constant` for any input, native libraries included.
    pub fn of_process(constant: usize) -> Memory {
        Memory {
            per_byte: 0,
            constant,
            is_of_process: true,
        }
    }

    /// Runs `decode` on an input and checks its memory.
    fn check(&self, input: &[u8], decode: impl FnOnce(&[u8]) -> bool) -> bool {
        let before = if self.is_of_process {
            memory::start_process()
        } else {
            0
        };
        memory::start();
        let is_valid = decode(input);
        let peak = match self.is_of_process {
            true => memory::peak_of_process().saturating_sub(before),
            false => memory::peak(),
        };
        let bound = self.per_byte * input.len() + self.constant;
        assert!(
            peak <= bound,
            "{peak} bytes of memory for {} bytes, more than {bound}",
            input.len()
        );
        is_valid
    }
}

/// Runs a target, and fails if anything breaks it.
pub fn fuzz(target: &Target) {
    let seed = number("PERENNIAL_FUZZ_SEED").unwrap_or(SEED);
    if let Ok(range) = std::env::var(RANGE) {
        return run(target, seed, &range);
    }
    let mut range = match number("PERENNIAL_FUZZ_INPUTS") {
        Some(inputs) => 0..(inputs / target.cost).max(1),
        None => 0..target.inputs,
    };
    if let Some(input) = number("PERENNIAL_FUZZ_INPUT") {
        range = input..input + 1;
    }
    let inputs = range.end - range.start;
    let began = Instant::now();
    let (mut findings, mut valid) = (Vec::new(), 0);
    while findings.len() < ENOUGH
        && !range.is_empty()
        && let Some(finding) = watch(target, seed, &range, &mut valid)
    {
        println!(
            "PERENNIAL_FUZZ_SEED={seed} PERENNIAL_FUZZ_INPUT={} {}: {}",
            finding.input, target.name, finding.what
        );
        range.start = finding.input + 1;
        findings.push(finding);
    }
    println!(
        "{:>16} {inputs:>9} inputs {valid:>9} valid {:>7.1} s {:>3} findings",
        target.name,
        began.elapsed().as_secs_f64(),
        findings.len()
    );
    assert!(findings.is_empty(), "{} findings", findings.len());
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// Runs inputs in a process until the first that breaks it, and counts the `valid` ones.
fn watch(target: &Target, seed: u64, range: &Range<u64>, valid: &mut u64) -> Option<Finding> {
    let folder = folder();
    let [progress, output] = ["progress", "output"].map(|name| folder.path().join(name));
    let seen = File::create_new(&progress).expect("a file");
    write(&seen, range.start, 0);
    drop(seen);
    let log = File::create_new(&output).expect("a file");
    // A target without bound on its memory must not take that of the machine.
    let limited = format!("ulimit -c 0 -v {ADDRESSES}; exec \"$0\" \"$@\"");
    let mut child = Command::new("bash")
        .args(["-c", &limited])
        .arg(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", target.name, "--nocapture", "--test-threads", "1"])
        .env(RANGE, format!("{}..{}", range.start, range.end))
        .env(PROGRESS, &progress)
        .env("PERENNIAL_FUZZ_SEED", seed.to_string())
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .expect("bash starts");
    let (mut input, mut since) = (range.start, Instant::now());
    let end = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break Some(status);
        }
        let (latest, _) = latest(&progress);
        if latest != input {
            (input, since) = (latest, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            child.kill().expect("a child");
            child.wait().expect("a child");
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (input, counted) = latest(&progress);
    *valid += counted;
    let text = String::from_utf8_lossy(&std::fs::read(output).expect("the output")).into_owned();
    if let [_, shown] = text.split("the input is ").collect::<Vec<_>>()[..] {
        println!("{shown}");
    }
    let what = broken(end, &text)?;
    Some(Finding { input, what })
}

/// A folder for the files of a target's process, in memory if possible: a disk would have to write
/// each of a million inputs.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.expect("a folder")
}

/// Writes down at which input a target's process is, and how many were valid.
fn write(progress: &File, input: u64, valid: u64) {
    let bytes = [input.to_le_bytes(), valid.to_le_bytes()].concat();
    progress.write_all_at(&bytes, 0).expect("the progress");
}

/// What [`write`] wrote last.
fn latest(progress: &Path) -> (u64, u64) {
    let bytes = std::fs::read(progress).expect("the progress");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a number"));
    (number(0), number(8))
}

/// How a target's process was broken, if it was.
fn broken(end: Option<ExitStatus>, output: &str) -> Option<String> {
    let how = match end {
        None => format!("no end within {PATIENCE:?}"),
        Some(end) if end.success() => return None,
        Some(end) => end.to_string(),
    };
    let said = output.lines().filter(|line| {
        let is_own = line.starts_with("test ") || line.starts_with("running ");
        !is_own && !line.trim().is_empty()
    });
    let said: Vec<&str> = said.take(6).collect();
    Some(format!("{how}: {}", said.join(" / ")))
}

/// Runs inputs in this process, which ends at the first that breaks it.
fn run(target: &Target, seed: u64, range: &str) {
    let (start, end) = range.split_once("..").expect("a range");
    let [start, end] = [start, end].map(|text| text.parse::<u64>().expect("a number"));
    let progress = std::env::var(PROGRESS).expect("a file for the progress");
    let progress = File::options().write(true).open(progress).expect("a file");
    let mut subject = (target.subject)();
    let shows = number("PERENNIAL_FUZZ_INPUT").is_some();
    let mut valid = 0;
    for input in start..end {
        write(&progress, input, valid);
        let mut chance = Chance::new(seed ^ input.wrapping_mul(0xff51_afd7_ed55_8ccd));
        let bytes = mutate::mutate(&subject.seeds, &subject.tokens, &mut chance);
        if shows {
            println!("the input is {}", bytes.escape_ascii());
        }
        let is_valid = target.memory.check(&bytes, &mut subject.decode);
        valid += u64::from(is_valid);
    }
    write(&progress, end, valid);
}
