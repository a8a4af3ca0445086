//! The hook runner: a process that runs the user's commands, as the holder orders.
//!
//! It has all of the user's rights, and no secrets but the key of the capabilities: what goes through
//! a command's pipe goes to or from the holder itself. It runs what comes with the configuration's
//! capability, one thread and one poll(2) for all. It sends no requests. If it is killed, the
//! monitor starts another one, and the holder orders again what hadn't begun; after a restart it
//! gets no new commands, and ends when its last one has. When its line ends, it ends its commands
//! and itself.

use std::{
    collections::VecDeque,
    fs,
    io::{self, ErrorKind, Read},
    iter::successors,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::server::{
    base::{
        clock, handlers, log,
        pipe::{PipeReader, pipe},
        program, signals,
    },
    ipc::{
        capability::Key,
        hook_messages::{
            HookEnd, HookEvent, HookJob, HookKind, HookOrder, HookReport, OrderLine, Pipe,
            VARIABLES,
        },
        line::{Message, Next},
    },
};
use crate::{alarm::Alarm, sys, text::sanitize};

/// How much of a hook's stderr is kept for the log, in bytes: the last words say why, and a log
/// line ([`crate::text::MAX_FOREIGN_CHARS`]) holds them whole beside whose they are.
const MAX_STDERR_BYTES: usize = 512;

/// How many hooks' output is read beyond their end, for the sake of what they have left behind: a
/// pipe that nobody reads would end a program that writes to it.
const MAX_LEFT: usize = 64;

/// How many processes may be between a program and what asks for it: more than wrappers do.
const MAX_ANCESTORS: usize = 32;

/// Runs hooks until the holder at the other end of `line` is gone.
///
/// # Errors
/// When the line breaks, or the ends of hooks can't be noticed.
pub fn run(key: Key, line: UnixStream) -> io::Result<()> {
    let mut runner = Runner {
        line: OrderLine::new(line),
        key,
        children: handlers::tell_of_children()?,
        announced: VecDeque::new(),
        running: Vec::new(),
        left: VecDeque::new(),
    };
    let outcome = runner.serve();
    for hook in &mut runner.running {
        hook.kill();
        // The monitor would take one that nobody has waited for to have been lost, and end its group.
        let _ = hook.child.wait();
    }
    outcome
}

struct Runner {
    line: OrderLine,
    key: Key,
    children: Alarm,
    /// Jobs that the holder is being told of, which are started when it has been.
    announced: VecDeque<(HookJob, Option<OwnedFd>)>,
    running: Vec<Hook>,
    /// The output of what ended hooks have left behind.
    left: VecDeque<Output>,
}

/// A command that runs.
struct Hook {
    id: u64,
    child: Child,
    output: Output,
    /// What it has started goes on without it.
    leaves: bool,
    /// When it is killed; `None` when the limit is beyond the clock's end.
    deadline: Option<Instant>,
    /// It is being killed, and this is why.
    killed: Option<HookEnd>,
}

/// What a hook writes, and nobody else reads.
#[derive(Default)]
struct Output {
    pipe: Option<PipeReader>,
    /// The last of it.
    said: Vec<u8>,
}

impl Runner {
    fn serve(&mut self) -> io::Result<()> {
        sys::trim();
        loop {
            self.wait()?;
            self.line.flush()?;
            if !self.read_orders()? {
                return Ok(());
            }
            self.children.clear();
            let now = Instant::now();
            for hook in &mut self.running {
                hook.output.read();
                if hook.deadline.is_some_and(|at| at <= now) {
                    hook.end(HookEnd::TimedOut);
                }
            }
            self.left.retain_mut(|output| {
                output.read();
                output.pipe.is_some()
            });
            self.reap()?;
            self.line.flush()?;
            self.start_announced()?;
            self.line.flush()?;
        }
    }

    /// Sleeps until something is to be done.
    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(self.line.as_fd(), self.line.awaits()),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        let outputs = self.running.iter().map(|hook| &hook.output);
        let pipes = outputs.chain(&self.left).filter_map(|it| it.pipe.as_ref());
        fds.extend(pipes.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let deadline = self.running.iter().filter_map(|hook| hook.deadline).min();
        let timeout = deadline.map_or(PollTimeout::NONE, |at| {
            clock::poll_timeout(at.saturating_duration_since(Instant::now()))
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR | Errno::ENOMEM | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// False when the holder is gone.
    fn read_orders(&mut self) -> io::Result<bool> {
        loop {
            match self.line.try_recv()? {
                Next::Message(Message { body, mut fds }) => match body {
                    HookOrder::Run(job) => {
                        self.line.queue(&HookEvent::Begun(job.id), Vec::new())?;
                        self.announced.push_back((job, fds.pop()));
                    }
                    HookOrder::End(id) => self.end(id)?,
                },
                Next::Lost => return Err(io::Error::other("a descriptor got lost")),
                Next::Nothing => return Ok(true),
                Next::End => return Ok(false),
            }
        }
    }

    fn end(&mut self, id: u64) -> io::Result<()> {
        if let Some(hook) = self.running.iter_mut().find(|hook| hook.id == id) {
            hook.end(HookEnd::Ended);
        } else if let Some(at) = self.announced.iter().position(|(job, _)| job.id == id) {
            self.announced.remove(at);
            self.report(HookReport::silent(id, HookEnd::Ended))?;
        }
        Ok(())
    }

    /// Starts what the holder has been told of: a job that it knows nothing of would be run again by
    /// the next runner.
    fn start_announced(&mut self) -> io::Result<()> {
        if !self.line.is_flushed() {
            return Ok(());
        }
        for (job, pipe) in std::mem::take(&mut self.announced) {
            if job.kind == HookKind::Requester {
                let mut report = HookReport::silent(job.id, HookEnd::Ended);
                report.stderr = requester(&job.command).unwrap_or_default();
                self.report(report)?;
                continue;
            }
            match check(&self.key, &job).and_then(|()| start(&job, pipe)) {
                Ok(hook) => self.running.push(hook),
                Err(error) => {
                    let end = HookEnd::NotStarted(error.to_string());
                    self.report(HookReport::silent(job.id, end))?;
                }
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut reports = Vec::new();
        self.running.retain_mut(|hook| match hook.child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                reports.push(hook.report(status));
                self.left.push_back(std::mem::take(&mut hook.output));
                false
            }
            Err(error) => {
                let end = HookEnd::NotStarted(error.to_string());
                reports.push(HookReport::silent(hook.id, end));
                false
            }
        });
        let excess = self.left.len().saturating_sub(MAX_LEFT);
        self.left.drain(..excess);
        reports
            .into_iter()
            .try_for_each(|report| self.report(report))
    }

    fn report(&mut self, report: HookReport) -> io::Result<()> {
        self.line.queue(&HookEvent::Ended(report), Vec::new())
    }
}

/// Which program asks for a token, and which one has started that: the process that asks waits for the
/// answer, so it and those above it are there.
fn requester(process: &str) -> Option<String> {
    let line = successors(look_at(process.parse().ok()?), |it| look_at(it.1));
    let mut names = line.take(MAX_ANCESTORS).filter_map(|it| it.0);
    let program = names.next()?;
    let parent = names.next().map(|it| format!(" (started by {it})"));
    Some(program + &parent.unwrap_or_default())
}

/// A process's name and its parent. What only asks for another has no name here: this program, and a
/// shell with one command. Nor does the server ask for itself, or what has started it.
fn look_at(process: i32) -> Option<(Option<String>, i32)> {
    if process == Pid::parent().as_raw() {
        return None;
    }
    let read = |file| fs::read(format!("/proc/{process}/{file}")).ok();
    let (status, words) = read("status").zip(read("cmdline"))?;
    // What would end a line in a name is escaped there (proc_pid_status(5)).
    let status = String::from_utf8_lossy(&status);
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let (name, parent) = (sanitize(field("Name:")?), field("PPid:")?.trim());
    let runs_one = words.split(|it| *it == 0).nth(1) == Some(b"-c");
    let asks = !name.is_empty() && name != "pizauth" && !(name.ends_with("sh") && runs_one);
    Some((asks.then_some(name), parent.parse().ok()?))
}

/// Only what the configuration has is run, and only told what hooks are told.
pub fn check(key: &Key, job: &HookJob) -> io::Result<()> {
    let known = |(name, _): &(String, String)| VARIABLES.contains(&name.as_str());
    if key.allows(job.kind.option(), &job.command, &job.capability) && job.env.iter().all(known) {
        Ok(())
    } else {
        Err(io::Error::other("the configuration doesn't have it"))
    }
}

/// Starts a command. What goes through its pipe goes to or from the holder itself: this process
/// passes the descriptor on and keeps none.
fn start(job: &HookJob, pipe: Option<OwnedFd>) -> io::Result<Hook> {
    let leaves = job.kind.leaves();
    let (output, mut stdout, stderr) = output(leaves)?;
    let mut stdin = Stdio::null();
    match (job.pipe, pipe) {
        (Some(Pipe::Input), Some(end)) => stdin = end.into(),
        (Some(Pipe::Output), Some(end)) => stdout = end.into(),
        (Some(_), None) => return Err(io::Error::other("its pipe got lost")),
        (None, _) => {}
    }
    let mut command = program::shell(&job.command);
    command
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    Ok(Hook {
        id: job.id,
        child: signals::unmasked(|| command.spawn())??,
        output,
        leaves,
        deadline: Instant::now().checked_add(job.limit),
        killed: None,
    })
}

/// Where a command's stdout and stderr go: in the foreground to those of the server. The last of
/// stderr is wanted for the log, so it comes by way of this process, but for a command that leaves
/// behind what must not need this process. In the background both come here.
fn output(leaves: bool) -> io::Result<(Output, Stdio, Stdio)> {
    let detached = log::is_detached();
    if leaves && !detached {
        return Ok((Output::default(), Stdio::inherit(), Stdio::inherit()));
    }
    let (ours, theirs) = pipe()?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let stdout = if detached {
        theirs.try_clone()?.into()
    } else {
        Stdio::inherit()
    };
    let output = Output {
        pipe: Some(ours),
        said: Vec::new(),
    };
    Ok((output, stdout, theirs.into()))
}

impl Hook {
    /// What there is to say of one that has ended.
    fn report(&mut self, status: ExitStatus) -> HookReport {
        self.output.read();
        let end = self.killed.take().unwrap_or(match status.code() {
            Some(code) => HookEnd::Exit(code),
            None => HookEnd::Signal(status.signal().unwrap_or_default()),
        });
        HookReport {
            id: self.id,
            end,
            stderr: String::from_utf8_lossy(&self.output.said).into_owned(),
        }
    }

    fn end(&mut self, why: HookEnd) {
        self.kill();
        self.deadline = None;
        self.killed.get_or_insert(why);
    }

    /// Kills it, and with it what it has started, unless that goes on. It hasn't been reaped, so the
    /// number is still its own.
    fn kill(&self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let pid = Pid::from_raw(pid);
            if self.leaves {
                // It may just have ended by itself.
                let _ = kill(pid, Signal::SIGKILL);
            } else {
                signals::kill_group(pid);
            }
        }
    }
}

impl Output {
    /// Reads what there is, so that no writer waits for a reader, passes it on and keeps the end.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    log::pass_on(bytes);
                    self.said.extend(bytes);
                    let excess = self.said.len().saturating_sub(MAX_STDERR_BYTES);
                    self.said.drain(..excess);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::ipc::hook_messages::HookKind;

    #[test]
    fn only_what_the_configuration_has_is_run_and_told_as_hooks_are() {
        let key = Key::of([1; 32]);
        let job = |kind, granted: &str, variable: &str| HookJob {
            id: 1,
            kind,
            command: "true".into(),
            capability: key.grant("token_event_cmd", granted),
            env: vec![(variable.into(), "x".into())],
            limit: Duration::ZERO,
            pipe: None,
        };
        assert!(check(&key, &job(HookKind::Event, "true", "PIZAUTH_EVENT")).is_ok());
        for forged in [
            job(HookKind::Event, "false", "PIZAUTH_EVENT"),
            job(HookKind::Secret, "true", "PIZAUTH_EVENT"),
            job(HookKind::Event, "true", "LD_PRELOAD"),
            job(HookKind::Event, "true", "ENV"),
            job(HookKind::Event, "true", "PIZAUTH_SOCK"),
        ] {
            assert!(check(&key, &forged).is_err(), "{forged:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_no_more_has_no_name() {
        let ours = fs::read_to_string("/proc/self/comm").unwrap();
        let process = std::process::id().to_string();
        assert_eq!(requester(&process).as_deref(), Some(ours.trim_end()));
        // What has started the server doesn't ask.
        let above = Pid::parent().to_string();
        for gone in ["4194305", "0", "self", "../proc/self", "-1", "", &above] {
            assert_eq!(requester(gone), None, "{gone}");
        }
    }

    #[test]
    fn the_group_goes_with_a_hook_that_only_carries_data() {
        use HookKind::{Error, Event, Load, Notify, Probe, Save, Secret, Startup, Token};
        for (kind, leaves) in [
            (Error, true),
            (Notify, true),
            (Event, false),
            (Load, false),
            (Probe, false),
            (Save, false),
            (Secret, false),
            (Startup, false),
            (Token, false),
        ] {
            let (mut reader, writer) = pipe().unwrap();
            // What it starts says who it is, and ends when nobody waits for it to.
            let job = HookJob {
                id: 1,
                kind,
                command: "sleep 60 & echo $!; wait".into(),
                capability: Key::of([1; 32]).grant(kind.option(), ""),
                env: Vec::new(),
                limit: Duration::ZERO,
                pipe: Some(Pipe::Output),
            };
            let mut hook = start(&job, Some(writer.into())).unwrap();
            let mut word = [0; 16];
            let count = reader.read(&mut word).unwrap();
            let started = std::str::from_utf8(&word[..count]).unwrap().trim();
            let started = Pid::from_raw(started.parse().unwrap());
            hook.end(HookEnd::TimedOut);
            let status = hook.child.wait().unwrap();
            assert_eq!(hook.report(status).end, HookEnd::TimedOut, "{kind:?}");
            if leaves {
                assert_eq!(kill(started, None), Ok(()), "{kind:?}");
                kill(started, Signal::SIGKILL).unwrap();
            }
            // The end of the last process that writes to the pipe.
            assert_eq!(reader.read(&mut word).unwrap(), 0, "{kind:?}");
        }
    }
}
