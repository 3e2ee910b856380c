//! Child processes, each the head of a process group, so that none of them leaves anything behind.

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
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::{Said, TrainerError};

/// How much of a program's stderr goes into an error, in bytes.
const SAID: usize = 2048;

/// The children that run. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    cancelled: bool,
    /// The heads of the groups, none of which has been waited for: no other process has their numbers.
    groups: Vec<Pid>,
}

/// A child that has been started. When it is dropped, it has ended, and so has all that it started itself.
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
    /// Whether it was killed since it took too long.
    pub is_late: bool,
}

impl Children {
    /// Starts a child, unless cancelled. `who` it is goes into errors.
    pub fn start(&self, mut command: Command, who: &str) -> Result<Started, TrainerError> {
        command.process_group(0);
        // Held over the start, so that a child is either refused or known to cancel().
        let mut running = lock(&self.0);
        if running.cancelled {
            return Err(TrainerError::Cancelled);
        }
        let child = command.spawn().map_err(|reason| TrainerError::Start {
            who: who.to_owned(),
            program: command.get_program().into(),
            reason,
        })?;
        // Linux has no numbers that do not fit.
        let group = Pid::from_raw(child.id().cast_signed());
        running.groups.push(group);
        Ok(Started {
            child,
            group,
            children: self.clone(),
        })
    }

    /// Kills all children, and lets no new ones start.
    pub fn cancel(&self) {
        let mut running = lock(&self.0);
        running.cancelled = true;
        for group in &running.groups {
            kill(*group);
        }
    }

    /// Fails if the children were cancelled: whatever else is wrong with one may come of that.
    fn check(&self) -> Result<(), TrainerError> {
        match lock(&self.0).cancelled {
            true => Err(TrainerError::Cancelled),
            false => Ok(()),
        }
    }
}

impl Started {
    /// Writes `request` to the child's stdin, and reads its stdout and stderr to their ends, all at the same time: a
    /// child that waits for one pipe must not wait for us to be done with another.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<(Vec<u8>, Said)> {
        let (stdin, stdout, stderr) = (
            self.child.stdin.take(),
            self.child.stdout.take(),
            self.child.stderr.take(),
        );
        thread::scope(|scope| {
            scope.spawn(move || {
                if let Some(mut stdin) = stdin {
                    // A child that does not read to the end tells why by its exit status.
                    let _ = stdin.write_all(request);
                }
            });
            let stderr = scope.spawn(move || read(stderr));
            let stdout = read(stdout)?;
            let stderr = stderr.join().unwrap_or_else(|_| Ok(Vec::new()))?;
            Ok((stdout, Said(tail(&stderr))))
        })
    }

    /// Waits until the child has ended, for `limit` at most, and ends what it has started itself.
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

    /// Kills the child, if it runs, and whatever else is in its group.
    fn end(&mut self) -> io::Result<ExitStatus> {
        let mut running = lock(&self.children.0);
        if running.groups.contains(&self.group) {
            // Before its head is waited for, and its number free for another process.
            kill(self.group);
            running.groups.retain(|other| *other != self.group);
        }
        drop(running);
        self.child.wait()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // All that can be done was.
        let _ = self.end();
    }
}

/// The error of a child that ended in another way than with exit code 0.
pub fn check_status(status: ExitStatus, who: &str, said: &Said) -> Result<(), TrainerError> {
    let (who, said) = (who.to_owned(), said.clone());
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(TrainerError::Exited { who, code, said }),
        (None, signal) => Err(TrainerError::Killed {
            who,
            signal: signal.unwrap_or_default(),
            said,
        }),
    }
}

/// Kills a process group.
fn kill(group: Pid) {
    // It fails only if all have ended already, which is as good.
    let _ = killpg(group, Signal::SIGKILL);
}

/// Blocks until a child has ended, and leaves it to be waited for.
fn until_ended(child: Pid) {
    // What else can fail is naming the signal that has ended it, and the exit status does that.
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

/// Pipes to and from a child whose libraries the loader looks for in a folder first.
pub fn piped(program: &Path, libraries: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(folder) = libraries {
        command.env("LD_LIBRARY_PATH", search_path(folder));
    }
    command
}

/// What a child has written last to a file that was its stderr.
pub fn said_in(mut file: impl Read + Seek) -> io::Result<Said> {
    let length = file.seek(SeekFrom::End(0))?;
    // One byte more, which tells whether the first line is whole.
    file.seek(SeekFrom::Start(length.saturating_sub(SAID as u64 + 1)))?;
    let mut bytes = Vec::new();
    file.take(SAID as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Said(tail(&bytes)))
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
        let said = said_in(io::Cursor::new(long)).unwrap();
        assert_eq!(said.to_string(), "; it said: the end");
    }
}
