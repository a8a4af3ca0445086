//! Processes under a hard deadline, with what they print captured as it comes.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wait_timeout::ChildExt;

use super::PATIENCE;
use super::wait::Watched;

/// What a command that has ended said.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code, or 128 and the signal's number, as a shell has it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Panics unless the command exited with 0 and kept silent on stderr; gives its stdout.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert!(self.status == 0 && self.stderr.is_empty(), "{self:?}");
        &self.stdout
    }

    /// Panics unless the command exited with 0, whatever it remarked; gives its stdout.
    #[track_caller]
    pub fn done(&self) -> &str {
        assert_eq!(self.status, 0, "{self:?}");
        &self.stdout
    }

    /// Panics unless the command exited with `status` and an empty stdout; gives its stderr.
    #[track_caller]
    pub fn failed(&self, status: i32) -> &str {
        assert!(self.status == status && self.stdout.is_empty(), "{self:?}");
        &self.stderr
    }
}

/// What a stream has carried until now; a thread reads it.
#[derive(Clone, Debug)]
pub struct Capture(Arc<Watched<Captured>>);

#[derive(Debug, Default)]
struct Captured {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    /// Reads `stream` to its end in a thread of its own. Nobody joins that thread: it would wait
    /// for every process that holds the stream's other end.
    pub fn of(mut stream: impl Read + Send + 'static) -> Self {
        let capture = Capture(Arc::default());
        let captured = Arc::clone(&capture.0);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                captured.change(|captured| captured.bytes.extend(&piece[..count]));
            }
            captured.change(|captured| captured.ended = true);
        });
        capture
    }

    /// A stream that nobody captures.
    pub fn nothing() -> Self {
        Capture::of(std::io::empty())
    }

    pub fn text(&self) -> String {
        self.0.read(Captured::text)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.read(|captured| captured.bytes.clone())
    }

    /// Waits for a whole line that contains `words`, and gives the first.
    #[track_caller]
    pub fn wait_line(&self, words: &str) -> String {
        let found = self.0.try_wait(PATIENCE, |captured| {
            let text = captured.text();
            let mut whole = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            whole
                .find(|line| line.contains(words))
                .map(|line| line.trim_end_matches('\n').to_owned())
        });
        found.unwrap_or_else(|| panic!("waited in vain for {words:?} in:\n{}", self.text()))
    }

    /// Waits for the stream's end; whether it came.
    fn wait_end(&self) -> bool {
        let ended = |captured: &mut Captured| captured.ended.then_some(());
        self.0.try_wait(PATIENCE, ended).is_some()
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A command that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    stdin: Option<ChildStdin>,
    pub stdout: Capture,
    pub stderr: Capture,
}

impl Running {
    /// Starts `command`, its stdin being a pipe that stays open.
    pub fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut running = Running::of(child);
        running.what = format!("{command:?}");
        running
    }

    /// Takes over a child that has started.
    pub fn of(mut child: Child) -> Self {
        Running {
            what: format!("process {}", child.id()),
            stdin: child.stdin.take(),
            stdout: child
                .stdout
                .take()
                .map_or_else(Capture::nothing, Capture::of),
            stderr: child
                .stderr
                .take()
                .map_or_else(Capture::nothing, Capture::of),
            child,
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid"))
    }

    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("to look for the child")
            .is_none()
    }

    /// Sends `input` to its stdin and closes it. A thread does, since the command may print before
    /// it reads, or never read at all.
    pub fn feed(&mut self, input: &[u8]) {
        if let Some(mut stdin) = self.stdin.take() {
            let input = input.to_vec();
            thread::spawn(move || stdin.write_all(&input));
        }
    }

    /// Sends a line to its stdin, which stays open.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open stdin");
        writeln!(stdin, "{line}").expect("to be heard");
    }

    /// Closes its stdin.
    pub fn hush(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("to signal the child");
    }

    /// Closes its stdin, waits for its end and for that of its output: a command that leaves its
    /// stdout open in a process behind it would hang every `$(…)`. Panics when it takes too long.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        self.stdin = None;
        let status = self.wait();
        let stdout = self.stdout.text();
        let stderr = self.stderr.text();
        let status = status.unwrap_or_else(|| {
            panic!(
                "{} still runs\nstdout: {stdout}\nstderr: {stderr}",
                self.what
            )
        });
        let ended = self.stdout.wait_end() && self.stderr.wait_end();
        assert!(
            ended,
            "{} has ended, but its output is held open",
            self.what
        );
        Output {
            status: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        }
    }

    /// Waits for its end; when that takes too long, kills it and gives `None`.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let status = self
            .child
            .wait_timeout(PATIENCE)
            .expect("to wait for the child");
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
