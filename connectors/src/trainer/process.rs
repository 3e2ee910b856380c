//! Child processes. Each leads a process group of its own, so that all its descendants end with it.

use std::ffi::OsString;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{env, io, thread};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::{StderrTail, TrainerError};

/// Bytes of a program's stderr that an error contains.
const STDERR_TAIL: usize = 2048;

/// The running children. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    cancelled: bool,
    /// The leaders of the groups. None has been waited for yet, so no other process can have its
    /// id.
    groups: Vec<Pid>,
}

/// A started child. Dropping it ends the child and all its descendants.
pub struct Started {
    child: Child,
    group: Pid,
    children: Children,
}

/// How a child ended.
#[derive(Debug)]
pub struct End {
    /// Its exit status.
    pub status: ExitStatus,
    /// Whether it was killed at its time limit.
    pub is_late: bool,
}

/// What a child has written, and how it ended.
pub struct Exchanged {
    /// How it ended.
    pub end: End,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// The end of its stderr.
    pub stderr: StderrTail,
}

impl Children {
    /// Starts a child, unless cancelled. `who` names it in errors.
    pub fn start(&self, mut command: Command, who: &str) -> Result<Started, TrainerError> {
        command.process_group(0);
        // The lock is kept over the start, so that cancel() either prevents or knows the child.
        let mut running = lock(&self.0);
        if running.cancelled {
            return Err(TrainerError::Cancelled);
        }
        let child = command.spawn().map_err(|reason| TrainerError::Start {
            who: who.to_owned(),
            program: command.get_program().into(),
            reason,
        })?;
        // Process ids of Linux fit into an i32.
        let group = Pid::from_raw(child.id().cast_signed());
        running.groups.push(group);
        Ok(Started {
            child,
            group,
            children: self.clone(),
        })
    }

    /// Kills all children and prevents new ones.
    pub fn cancel(&self) {
        let mut running = lock(&self.0);
        running.cancelled = true;
        for group in &running.groups {
            kill(*group);
        }
    }

    /// Fails if the children were cancelled, since that may be the cause of any other failure.
    fn check(&self) -> Result<(), TrainerError> {
        if lock(&self.0).cancelled {
            return Err(TrainerError::Cancelled);
        }
        Ok(())
    }
}

impl Started {
    /// Writes `request` to the child's stdin and reads its stdout and stderr to their ends, all at
    /// the same time, so that the child never blocks on one pipe while a thread is at another.
    /// Waits until it has ended, as [`Started::wait`] does.
    pub fn exchange(
        mut self,
        request: &[u8],
        limit: Option<Duration>,
    ) -> Result<Exchanged, TrainerError> {
        let (stdin, stdout, stderr) = (
            self.child.stdin.take(),
            self.child.stdout.take(),
            self.child.stderr.take(),
        );
        thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(mut stdin) = stdin {
                    // If the child stops reading, its exit status says why.
                    let _ = stdin.write_all(request);
                }
            });
            let stderr = scope.spawn(move || read(stderr));
            let stdout = scope.spawn(move || read(stdout));
            // Its end closes the pipes.
            let end = self.wait(limit)?;
            let joined = |read: thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
                let read = read.join().unwrap_or_else(|_| Ok(Vec::new()));
                read.map_err(TrainerError::Connection)
            };
            let (stdout, stderr) = (joined(stdout)?, joined(stderr)?);
            let stderr = StderrTail(tail(&stderr));
            Ok(Exchanged {
                end,
                stdout,
                stderr,
            })
        })
    }

    /// Waits until the child has ended, kills it after `limit`, and ends its descendants.
    pub fn wait(mut self, limit: Option<Duration>) -> Result<End, TrainerError> {
        let group = self.group;
        let is_late = thread::scope(|scope| {
            let (ended, end) = mpsc::channel::<()>();
            let timer = limit.map(|limit| {
                scope.spawn(move || {
                    let is_late = end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                    if is_late {
                        kill(group);
                    }
                    is_late
                })
            });
            until_ended(group);
            drop(ended);
            timer.is_some_and(|timer| timer.join().unwrap_or(false))
        });
        let status = self.end();
        self.children.check()?;
        let status = status.map_err(TrainerError::Connection)?;
        Ok(End { status, is_late })
    }

    /// Kills the child and its group, if they still run.
    fn end(&mut self) -> io::Result<ExitStatus> {
        let mut running = lock(&self.children.0);
        if running.groups.contains(&self.group) {
            // The kill comes before the wait for the leader, which frees its id for other
            // processes.
            kill(self.group);
            running.groups.retain(|other| *other != self.group);
        }
        drop(running);
        self.child.wait()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // A drop cannot report the error.
        let _ = self.end();
    }
}

/// Checks that a child ended with exit code 0.
pub fn check_status(
    status: ExitStatus,
    who: &str,
    stderr: &StderrTail,
) -> Result<(), TrainerError> {
    let (who, stderr) = (who.to_owned(), stderr.clone());
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(TrainerError::Exited { who, code, stderr }),
        (None, signal) => Err(TrainerError::Killed {
            who,
            signal: signal.unwrap_or_default(),
            stderr,
        }),
    }
}

/// Kills a process group.
fn kill(group: Pid) {
    // A kill fails only if the whole group has ended already.
    let _ = killpg(group, Signal::SIGKILL);
}

/// Blocks until a child has ended, without reaping it.
fn until_ended(child: Pid) {
    // Another error could only come from decoding the signal, which the exit status has as well.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(child), flags) == Err(Errno::EINTR) {}
}

/// Reads a pipe to its end.
fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A command with pipes, whose loader searches the folder `libraries` first.
pub fn piped(program: &Path, libraries: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command
        // Perennial's own setting decides on parallel trainings. A second thread would mostly wait,
        // and XGBoost's threads wait in a loop.
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(folder) = libraries {
        command.env("LD_LIBRARY_PATH", search_path(folder));
    }
    command
}

/// Limits the resources of a command, within this process's own limits. It ends if this process is
/// killed: Linux ties it to the starting thread, which waits for it.
pub fn limit(command: &mut Command, limits: &[(Resource, u64)]) -> io::Result<()> {
    let within = |(resource, most): &(Resource, u64)| -> io::Result<(Resource, u64)> {
        Ok((*resource, (*most).min(getrlimit(*resource)?.1)))
    };
    let limits: Vec<(Resource, u64)> = limits.iter().map(within).collect::<io::Result<_>>()?;
    let limit = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        for (resource, most) in &limits {
            setrlimit(*resource, *most, *most)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two
    // kinds of system calls and neither allocates, frees nor locks.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(limit);
    }
    Ok(())
}

/// The end of a file that was a child's stderr.
pub fn stderr_tail_of(mut file: impl Read + Seek) -> io::Result<StderrTail> {
    let length = file.seek(SeekFrom::End(0))?;
    // One byte more shows whether the first line is complete.
    file.seek(SeekFrom::Start(
        length.saturating_sub(STDERR_TAIL as u64 + 1),
    ))?;
    let mut bytes = Vec::new();
    file.take(STDERR_TAIL as u64 + 1).read_to_end(&mut bytes)?;
    Ok(StderrTail(tail(&bytes)))
}

/// The end of a program's stderr, without an incomplete first line and without line breaks.
fn tail(stderr: &[u8]) -> String {
    let start = stderr.len().saturating_sub(STDERR_TAIL);
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

/// The search path of the loader, with `folder` before the path of the environment.
fn search_path(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(rest) = env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    path
}

/// Locks a mutex. A poisoned one is used as well, since no panic leaves its data inconsistent.
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
        let long = format!("{}\nthe end\n", "x".repeat(STDERR_TAIL));
        assert_eq!(tail(long.as_bytes()), "the end");
        let stderr = stderr_tail_of(io::Cursor::new(long)).unwrap();
        assert_eq!(stderr.to_string(), "; it said: the end");
    }
}
