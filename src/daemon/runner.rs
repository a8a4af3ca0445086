//! The hook runner: a process of its own, forked by the monitor (monitor.rs), that runs the user's
//! commands at once, as the daemon orders, if they bear the configuration's seal (seals.rs). It has
//! all of the user's rights and none of the secrets. One thread, one poll(2); it ends with the
//! daemon, and ends its hooks then.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    activation,
    job::{End, Job, Lane, Order, Pipe, Report, Said, VARIABLES, take_line},
    pass,
    seals::Key,
    signals::{self, Children},
};

/// How much of a hook's stderr is kept for the log, in bytes: the last words say why, and a log
/// line ([`crate::text::MAX_FOREIGN_CHARS`]) holds them whole beside whose they are.
const MAX_STDERR_BYTES: usize = 512;

/// How much of a hook's stdout is kept, in bytes, where it counts: the rest of a secret's file, say,
/// is thrown away.
const MAX_STDOUT_BYTES: usize = 16 << 10;

/// Runs hooks until the daemon at the other end of `line` is gone.
pub fn run(line: UnixStream, key: Key) -> io::Result<()> {
    line.set_nonblocking(true)?;
    let mut runner = Runner {
        line,
        key,
        children: Children::watch()?,
        incoming: Vec::new(),
        outgoing: VecDeque::new(),
        pipes: Vec::new(),
        told: VecDeque::new(),
        running: Vec::new(),
    };
    let outcome = runner.serve();
    for hook in &runner.running {
        hook.kill();
    }
    outcome
}

struct Runner {
    line: UnixStream,
    key: Key,
    children: Children,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    /// Ends of pipes that have arrived ahead of the orders that they are for, in order.
    pipes: Vec<OwnedFd>,
    /// Jobs that the daemon is being told of, which are started when it has been.
    told: VecDeque<(Job, Option<OwnedFd>)>,
    running: Vec<Hook>,
}

/// A command that runs.
struct Hook {
    id: u64,
    child: Child,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
    /// Where its output counts.
    stdout: Option<ChildStdout>,
    printed: Zeroizing<Vec<u8>>,
    /// When it is killed; `None` when the limit is beyond the clock's end.
    deadline: Option<Instant>,
    /// It is being killed, and this is why.
    killed: Option<End>,
}

impl Runner {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.flush()?;
            if !self.read_orders()? {
                return Ok(());
            }
            self.children.clear();
            let now = Instant::now();
            for hook in &mut self.running {
                hook.listen();
                if hook.deadline.is_some_and(|at| at <= now) {
                    hook.end(End::TimedOut);
                }
            }
            self.reap();
            self.flush()?;
            self.start_told();
            // Whoever has ended while one was started was not heard.
            self.reap();
            self.flush()?;
        }
    }

    /// Sleeps until something is to be done.
    fn wait(&self) -> io::Result<()> {
        let mut flags = PollFlags::POLLIN;
        if !self.outgoing.is_empty() {
            flags |= PollFlags::POLLOUT;
        }
        let mut fds = vec![PollFd::new(self.line.as_fd(), flags)];
        fds.extend(
            self.children
                .fd()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        let outputs = self.running.iter().flat_map(Hook::fds);
        fds.extend(outputs.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let deadline = self.running.iter().filter_map(|hook| hook.deadline).min();
        let mut timeout = deadline.map(|at| {
            // Rounded up, so that it isn't woken a moment too early.
            at.saturating_duration_since(Instant::now())
                .saturating_add(Duration::from_millis(1))
        });
        let interval = self.children.must_ask();
        if let Some(interval) = interval.filter(|_| !self.running.is_empty()) {
            timeout = Some(timeout.map_or(interval, |timeout| timeout.min(interval)));
        }
        let timeout = match timeout {
            None => PollTimeout::NONE,
            Some(timeout) => PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// False when the daemon is gone.
    fn read_orders(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match pass::recv(&self.line, &mut buffer, &mut self.pipes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.incoming.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while let Some(line) = take_line(&mut self.incoming) {
            match serde_json::from_slice(&line)? {
                Order::Run(job) => {
                    let pipe = job.pipe.filter(|_| !self.pipes.is_empty());
                    let pipe = pipe.map(|_| self.pipes.remove(0));
                    self.say(&Said::Begun(job.id));
                    self.told.push_back((job, pipe));
                }
                Order::End(id) => self.end(id),
            }
        }
        Ok(true)
    }

    fn end(&mut self, id: u64) {
        if let Some(hook) = self.running.iter_mut().find(|hook| hook.id == id) {
            return hook.end(End::Ended);
        }
        let told = self.told.len();
        self.told.retain(|(job, _)| job.id != id);
        if self.told.len() < told {
            self.report(Report::silent(id, End::Ended));
        }
    }

    /// Starts what the daemon has been told of: a job that it knows nothing of would be run again by
    /// the next runner.
    fn start_told(&mut self) {
        if !self.outgoing.is_empty() {
            return;
        }
        for (job, pipe) in std::mem::take(&mut self.told) {
            match check(&self.key, &job).and_then(|()| start(&job, pipe)) {
                Ok(hook) => self.running.push(hook),
                Err(error) => {
                    let end = End::NotStarted(error.to_string());
                    self.report(Report::silent(job.id, end));
                }
            }
        }
    }

    fn reap(&mut self) {
        let mut at: usize = 0;
        while let Some(hook) = self.running.get_mut(at) {
            match hook.child.try_wait() {
                Ok(None) => at = at.saturating_add(1),
                Ok(Some(status)) => {
                    hook.listen();
                    let end = hook.killed.take().unwrap_or(match status.code() {
                        Some(code) => End::Exit(code),
                        None => End::Signal(status.signal().unwrap_or_default()),
                    });
                    let report = Report {
                        id: hook.id,
                        end,
                        stderr: String::from_utf8_lossy(&hook.said).into_owned(),
                        stdout: Zeroizing::new(String::from_utf8_lossy(&hook.printed).into()),
                    };
                    self.running.swap_remove(at);
                    self.report(report);
                }
                Err(error) => {
                    let id = hook.id;
                    self.running.swap_remove(at);
                    let end = End::NotStarted(error.to_string());
                    self.report(Report::silent(id, end));
                }
            }
        }
    }

    fn report(&mut self, report: Report) {
        self.say(&Said::Ended(report));
    }

    fn say(&mut self, said: &Said) {
        if let Ok(line) = serde_json::to_vec(said).map(Zeroizing::new) {
            self.outgoing.extend(line.iter());
            self.outgoing.push_back(b'\n');
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_mut_slices();
            match self.line.write(front) {
                Ok(written) => {
                    front.iter_mut().take(written).for_each(|byte| *byte = 0);
                    self.outgoing.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Only what the configuration has is run, and only told what hooks are told.
fn check(key: &Key, job: &Job) -> io::Result<()> {
    let (option, env) = (job.lane.option(), &job.env);
    let known = key.fits(option, &job.command, &job.seal);
    match known
        && env
            .iter()
            .all(|(name, _)| VARIABLES.contains(&name.as_str()))
    {
        true => Ok(()),
        false => Err(io::Error::other("the configuration doesn't have it")),
    }
}

/// Starts a command. What goes through its pipe goes to or from the daemon itself: this process
/// hands the descriptor on and keeps none.
fn start(job: &Job, pipe: Option<OwnedFd>) -> io::Result<Hook> {
    let (mut stdin, mut stdout) = (Stdio::null(), Stdio::null());
    match (job.pipe, pipe) {
        (Some(Pipe::Input), Some(end)) => stdin = end.into(),
        (Some(Pipe::Output), Some(end)) => stdout = end.into(),
        (Some(_), None) => return Err(io::Error::other("its pipe got lost")),
        (None, _) => {}
    }
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let mut command = Command::new(shell.unwrap_or_else(|| "/bin/sh".into()));
    for variable in activation::VARIABLES {
        command.env_remove(variable);
    }
    command
        .arg("-c")
        .arg(&job.command)
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(match job.lane {
            Lane::Secret => Stdio::piped(),
            _ => stdout,
        })
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = signals::unmasked(|| command.spawn())??;
    let (stderr, stdout) = (child.stderr.take(), child.stdout.take());
    for fd in [
        stderr.as_ref().map(AsFd::as_fd),
        stdout.as_ref().map(AsFd::as_fd),
    ] {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        if let Some(fd) = fd {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
    }
    Ok(Hook {
        id: job.id,
        child,
        stderr,
        said: Vec::new(),
        stdout,
        // Its whole room from the start: growing would leave copies of a secret behind.
        printed: Zeroizing::new(Vec::with_capacity(match job.lane {
            Lane::Secret => MAX_STDOUT_BYTES,
            _ => 0,
        })),
        deadline: Instant::now().checked_add(job.limit),
        killed: None,
    })
}

impl Hook {
    fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let stderr = self.stderr.as_ref().map(AsFd::as_fd);
        stderr
            .into_iter()
            .chain(self.stdout.as_ref().map(AsFd::as_fd))
    }

    /// Reads what it wrote, so that it never waits for a reader.
    fn listen(&mut self) {
        self.listen_to_stderr();
        self.listen_to_stdout();
    }

    /// Keeps the beginning.
    fn listen_to_stdout(&mut self) {
        let mut buffer = Zeroizing::new([0; 4096]);
        while let Some(stdout) = &mut self.stdout {
            match stdout.read(&mut *buffer) {
                Ok(count) if count > 0 => {
                    let room = MAX_STDOUT_BYTES.saturating_sub(self.printed.len());
                    self.printed.extend(buffer.iter().take(count.min(room)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.stdout = None,
            }
        }
    }

    /// Keeps the end.
    fn listen_to_stderr(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    self.said.extend(buffer.iter().take(count));
                    let excess = self.said.len().saturating_sub(MAX_STDERR_BYTES);
                    self.said.drain(..excess);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.stderr = None,
            }
        }
    }

    fn end(&mut self, why: End) {
        self.kill();
        self.deadline = None;
        self.killed.get_or_insert(why);
    }

    /// Kills its process group. The leader hasn't been reaped, so the number is still its own.
    fn kill(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may just have ended by itself.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_configuration_has_is_run_and_told_as_hooks_are() {
        let key = Key::of([1; 32]);
        let job = |lane, sealed: &str, variable: &str| Job {
            id: 1,
            lane,
            command: "true".into(),
            seal: key.seal("token_event_cmd", sealed),
            env: vec![(variable.into(), "x".into())],
            limit: Duration::ZERO,
            pipe: None,
        };
        assert!(check(&key, &job(Lane::Event, "true", "PIZAUTH_EVENT")).is_ok());
        for forged in [
            job(Lane::Event, "false", "PIZAUTH_EVENT"),
            job(Lane::Secret, "true", "PIZAUTH_EVENT"),
            job(Lane::Event, "true", "LD_PRELOAD"),
            job(Lane::Event, "true", "ENV"),
            job(Lane::Event, "true", "PIZAUTH_SOCK"),
        ] {
            assert!(check(&key, &forged).is_err(), "{forged:?}");
        }
    }
}
