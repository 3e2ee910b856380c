//! Child processes that read a request from stdin and write an answer to stdout.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Said, TrainerError};

/// How much of a program's stderr goes into an error, in bytes.
const SAID: usize = 2048;
/// How often a program that has closed its stdout is looked at until it has ended.
const EXIT_CHECK: Duration = Duration::from_millis(1);
/// The exit code of the dynamic loader when a library is missing.
const LOADER_FAILED: i32 = 127;

/// The children that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    cancelled: bool,
    children: Vec<Arc<Mutex<Child>>>,
}

/// A child that has ended.
pub struct Finished {
    status: ExitStatus,
    stdout: Vec<u8>,
    said: Said,
}

impl Children {
    /// Runs `program` with `request` as its stdin until it ends. `libraries` is where the loader
    /// looks for its libraries first.
    pub fn run(
        &self,
        program: &Path,
        libraries: Option<&Path>,
        request: &[u8],
    ) -> Result<Finished, TrainerError> {
        let (child, pipes) = self.start(program, libraries)?;
        let result = pipes.exchange(request).and_then(|(stdout, stderr)| {
            let status = wait(&child)?;
            let said = Said(tail(&stderr));
            Ok(Finished {
                status,
                stdout,
                said,
            })
        });
        if result.is_err() {
            // It may have ended meanwhile; all that matters is that it does not go on.
            let _ = lock(&child).kill();
            let _ = lock(&child).wait();
        }
        let mut running = lock(&self.0);
        running.children.retain(|other| !Arc::ptr_eq(other, &child));
        if running.cancelled {
            return Err(TrainerError::Cancelled);
        }
        result.map_err(TrainerError::Connection)
    }

    /// Kills all children, and lets no new ones start.
    pub fn cancel(&self) {
        let mut running = lock(&self.0);
        running.cancelled = true;
        for child in &running.children {
            // A child that has ended already cannot be killed, which is as good.
            let _ = lock(child).kill();
        }
    }

    /// Starts a child, unless cancelled.
    fn start(
        &self,
        program: &Path,
        libraries: Option<&Path>,
    ) -> Result<(Arc<Mutex<Child>>, Pipes), TrainerError> {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(folder) = libraries {
            command.env("LD_LIBRARY_PATH", search_path(folder));
        }
        // Held over the start, so that a child is either refused or known to cancel().
        let mut running = lock(&self.0);
        if running.cancelled {
            return Err(TrainerError::Cancelled);
        }
        let mut child = command.spawn().map_err(|reason| TrainerError::Start {
            program: program.to_path_buf(),
            reason,
        })?;
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let child = Arc::new(Mutex::new(child));
        running.children.push(child.clone());
        Ok((child, pipes))
    }
}

impl Finished {
    /// What the program wrote to stdout, if it ended well.
    pub fn answer(&self) -> Result<&[u8], TrainerError> {
        let said = self.said.clone();
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => Ok(&self.stdout),
            (Some(LOADER_FAILED), _) => Err(TrainerError::Libraries { said }),
            (Some(code), _) => Err(TrainerError::Exited { code, said }),
            (None, signal) => Err(TrainerError::Killed {
                signal: signal.unwrap_or_default(),
                said,
            }),
        }
    }

    /// The error for an answer that makes no sense.
    pub fn unreadable(&self, reason: String) -> TrainerError {
        TrainerError::Answer {
            length: self.stdout.len(),
            reason,
            said: self.said.clone(),
        }
    }
}

/// This process's ends of a child's pipes.
struct Pipes {
    stdin: Option<std::process::ChildStdin>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
}

impl Pipes {
    /// Writes the request and reads stdout and stderr to their ends, all at the same time: a child
    /// that waits for one pipe must not wait for us to be done with another.
    fn exchange(self, request: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(mut stdin) = self.stdin {
                    // A child that does not read to the end tells why by its exit status.
                    let _ = stdin.write_all(request);
                }
            });
            let stderr = scope.spawn(move || read(self.stderr));
            let stdout = read(self.stdout)?;
            let stderr = stderr.join().unwrap_or_else(|_| Ok(Vec::new()))?;
            Ok((stdout, stderr))
        })
    }
}

/// Reads a pipe to its end.
fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Waits until a child has ended. It is asked again and again, since a wait that blocks would keep
/// the child locked and cancel() from killing it.
fn wait(child: &Mutex<Child>) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = lock(child).try_wait()? {
            return Ok(status);
        }
        thread::sleep(EXIT_CHECK);
    }
}

/// The end of a program's stderr, without an incomplete first line and without line breaks.
fn tail(stderr: &[u8]) -> String {
    let start = stderr.len().saturating_sub(SAID);
    let text = String::from_utf8_lossy(&stderr[start..]);
    let text = match text.split_once('\n') {
        Some((_, rest)) if start > 0 && !rest.trim().is_empty() => rest,
        _ => &text,
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join(" / ")
}

/// The search path of the loader with `folder` in front of what the environment says.
fn search_path(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(rest) = env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    path
}

/// Locks a mutex; nothing under these locks can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_whole_lines() {
        assert_eq!(tail(b""), "");
        assert_eq!(tail(b"one\n\n  two \n"), "one / two");
        let long = format!("{}\nthe end\n", "x".repeat(SAID));
        assert_eq!(tail(long.as_bytes()), "the end");
    }
}
