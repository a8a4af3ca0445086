//! The daemon's end of the hooks: effects become jobs for the runner (runner.rs), and what the
//! runner reports becomes events. Nothing here waits: jobs are queued and written by the main
//! thread whenever the runner takes them.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::shared::Shared;
use crate::{
    core::{AttemptId, Effect},
    secret::Secret,
};

/// How long `token_event_cmd`, `error_notify_cmd` and `startup_cmd` may run: the manual's minute.
const LIMIT: Duration = Duration::from_secs(60);

/// How long `transient_error_if_cmd` may think: the manual's three minutes.
const PROBE_LIMIT: Duration = Duration::from_secs(180);

/// How long `client_secret_cmd` may take: a password manager may ask for its own password first.
const SECRET_LIMIT: Duration = Duration::from_secs(180);

/// Hooks of one lane run one at a time or few at a time, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// `auth_notify_cmd`: they wait for a click, so each account's runs beside the others.
    Notify,
    /// `error_notify_cmd`.
    Error,
    /// `token_event_cmd`: one at a time, in order.
    Event,
    /// `transient_error_if_cmd`.
    Probe,
    /// `startup_cmd`.
    Startup,
    /// `client_secret_cmd`.
    Secret,
}

impl Lane {
    /// The option whose command runs there, for messages.
    pub fn option(self) -> &'static str {
        match self {
            Lane::Notify => "auth_notify_cmd",
            Lane::Error => "error_notify_cmd",
            Lane::Event => "token_event_cmd",
            Lane::Probe => "transient_error_if_cmd",
            Lane::Startup => "startup_cmd",
            Lane::Secret => "client_secret_cmd",
        }
    }
}

/// What the daemon tells the runner, a JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Run this when its lane has room.
    Run(Job),
    /// End this, or don't start it.
    End(u64),
}

/// A command to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Never used twice.
    pub id: u64,
    /// Where it queues.
    pub lane: Lane,
    /// `$SHELL -c` it.
    pub command: String,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// When it has run so long, its process group is killed.
    pub limit: Duration,
}

/// What the runner tells the daemon, a JSON object a line, once for each job.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The job's.
    pub id: u64,
    /// How it ended.
    pub end: End,
    /// The end of what it wrote to stderr.
    pub stderr: String,
    /// What it wrote to stdout, in the lane whose output counts; a secret.
    pub stdout: Zeroizing<String>,
}

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed at its limit.
    TimedOut,
    /// It was ended by [`Order::End`].
    Ended,
    /// It couldn't be started.
    NotStarted(String),
}

/// The daemon's end of the line to the runner.
pub struct Hooks {
    line: UnixStream,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: u64,
    /// Bytes that the runner hasn't taken yet.
    outgoing: VecDeque<u8>,
    incoming: Vec<u8>,
    /// What to do when a job ends.
    running: HashMap<u64, Running>,
    closed: bool,
}

struct Running {
    lane: Lane,
    account: Arc<str>,
    attempt: Option<AttemptId>,
}

impl Hooks {
    /// `line` leads to a runner.
    ///
    /// # Errors
    /// When the line can't be made non-blocking.
    pub fn new(line: UnixStream) -> io::Result<Self> {
        line.set_nonblocking(true)?;
        Ok(Hooks {
            line,
            state: Mutex::default(),
        })
    }

    /// Queues what a hook's effect asks for; any other effect is nothing to this.
    pub fn perform(&self, effect: Effect) {
        match effect {
            Effect::Notify {
                account,
                attempt,
                command,
                uri,
                device,
                limit,
            } => {
                // The reminder before has had its time.
                self.end(attempt);
                let mut env = vec![("PIZAUTH_URL".into(), uri)];
                if let Some(device) = device {
                    env.push(("PIZAUTH_USER_CODE".into(), device.user_code));
                    env.push(("PIZAUTH_VERIFICATION_URI".into(), device.verification_uri));
                }
                self.run(Lane::Notify, account, Some(attempt), command, env, limit);
            }
            Effect::NotifyEnd { attempt } => self.end(attempt),
            Effect::Error {
                account,
                command: Some(command),
                message,
            } => {
                let env = vec![("PIZAUTH_MSG".into(), message)];
                self.run(Lane::Error, account, None, command, env, LIMIT);
            }
            Effect::Error {
                account,
                command: None,
                message,
            } => log::error!("{account}: {message}"),
            Effect::Announce {
                account,
                command,
                event,
            } => {
                let env = vec![("PIZAUTH_EVENT".into(), event.name().into())];
                self.run(Lane::Event, account, None, command, env, LIMIT);
            }
            Effect::Probe {
                account,
                attempt,
                command,
            } => self.ask(Lane::Probe, account, attempt, command, PROBE_LIMIT),
            Effect::FetchSecret {
                account,
                attempt,
                command,
            } => self.ask(Lane::Secret, account, attempt, command, SECRET_LIMIT),
            Effect::Request { .. }
            | Effect::Settled { .. }
            | Effect::Answer { .. }
            | Effect::Log { .. } => {}
        }
    }

    /// Queues a command whose end is an answer to the core.
    fn ask(
        &self,
        lane: Lane,
        account: Arc<str>,
        attempt: AttemptId,
        command: String,
        limit: Duration,
    ) {
        self.run(lane, account, Some(attempt), command, Vec::new(), limit);
    }

    /// Queues `startup_cmd`.
    pub fn startup(&self, command: String) {
        let whose = "startup".into();
        self.run(Lane::Startup, whose, None, command, Vec::new(), LIMIT);
    }

    /// Every command but `startup_cmd` hears whose it is.
    fn run(
        &self,
        lane: Lane,
        account: Arc<str>,
        attempt: Option<AttemptId>,
        command: String,
        mut env: Vec<(String, String)>,
        limit: Duration,
    ) {
        if lane != Lane::Startup {
            env.insert(0, ("PIZAUTH_ACCOUNT".into(), account.to_string()));
        }
        let mut state = self.lock();
        state.jobs += 1;
        let id = state.jobs;
        let running = Running {
            lane,
            account,
            attempt,
        };
        state.running.insert(id, running);
        state.order(&Order::Run(Job {
            id,
            lane,
            command,
            env,
            limit,
        }));
    }

    fn end(&self, attempt: AttemptId) {
        let mut state = self.lock();
        let ids: Vec<u64> = state
            .running
            .iter()
            .filter(|(_, job)| job.lane == Lane::Notify && job.attempt == Some(attempt))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            state.order(&Order::End(id));
        }
    }

    /// Whether orders wait to be written.
    pub fn wants_write(&self) -> bool {
        let state = self.lock();
        !state.closed && !state.outgoing.is_empty()
    }

    /// The line to poll, unless the runner is gone.
    pub fn line(&self) -> Option<BorrowedFd<'_>> {
        (!self.lock().closed).then(|| self.line.as_fd())
    }

    /// Writes and reads what can be without waiting, and hands reports to the core.
    pub fn exchange(&self, shared: &Arc<Shared>) {
        self.write();
        for (report, running) in self.read() {
            finished(shared, &report, &running);
        }
    }

    fn write(&self) {
        let mut state = self.lock();
        while !state.outgoing.is_empty() && !state.closed {
            let (front, _) = state.outgoing.as_slices();
            match (&self.line).write(front) {
                Ok(written) => {
                    state.outgoing.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => state.gone(&error.to_string()),
            }
        }
    }

    fn read(&self) -> Vec<(Report, Running)> {
        let mut state = self.lock();
        let mut buffer = [0; 4096];
        while !state.closed {
            match (&self.line).read(&mut buffer) {
                Ok(0) => state.gone("it has ended"),
                Ok(count) => state.incoming.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => state.gone(&error.to_string()),
            }
        }
        let mut reports = Vec::new();
        while let Some(line) = take_line(&mut state.incoming) {
            match serde_json::from_slice::<Report>(&line) {
                Ok(report) => {
                    if let Some(running) = state.running.remove(&report.id) {
                        reports.push((report, running));
                    }
                }
                Err(error) => log::error!("the hook runner makes no sense: {error}"),
            }
        }
        reports
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn order(&mut self, order: &Order) {
        if self.closed {
            return;
        }
        match serde_json::to_vec(order) {
            Ok(line) => {
                self.outgoing.extend(line);
                self.outgoing.push_back(b'\n');
            }
            Err(error) => log::error!("a hook can't be described: {error}"),
        }
    }

    fn gone(&mut self, why: &str) {
        log::error!("hooks no longer run: the hook runner is gone: {why}");
        self.closed = true;
        self.outgoing.clear();
    }
}

/// Takes the first whole line out of `input`.
pub fn take_line(input: &mut Vec<u8>) -> Option<Zeroizing<Vec<u8>>> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let mut line: Zeroizing<Vec<u8>> = Zeroizing::new(input.drain(..=end).collect());
    // Draining leaves a copy of the last bytes behind.
    input.spare_capacity_mut().zeroize();
    line.pop();
    Some(line)
}

/// Draws the conclusions from a hook's end.
fn finished(shared: &Arc<Shared>, report: &Report, running: &Running) {
    let failed = match &report.end {
        End::Exit(0) | End::Ended => None,
        End::Exit(status) => Some(format!("exited with status {status}")),
        End::Signal(signal) => Some(format!("was ended by signal {signal}")),
        End::TimedOut => Some("took too long and was killed".into()),
        End::NotStarted(why) => Some(format!("couldn't be started: {why}")),
    };
    // A reminder that waits for a click until the next one is due has done its work, a probe
    // answers by its status, and what a secret's command says goes along with the secret's lack.
    let usual = match running.lane {
        Lane::Notify => report.end == End::TimedOut,
        Lane::Probe => matches!(report.end, End::Exit(_)),
        Lane::Secret => true,
        Lane::Error | Lane::Event | Lane::Startup => false,
    };
    let stderr = crate::text::sanitize(&report.stderr);
    let said = match stderr.is_empty() {
        true => String::new(),
        false => format!(": {stderr}"),
    };
    if let (Some(how), false) = (&failed, usual) {
        let (option, account) = (running.lane.option(), &running.account);
        log::error!("{account}: {option} {how}{said}");
    }
    if let (Lane::Probe, Some(attempt)) = (running.lane, running.attempt) {
        let transient = report.end == End::Exit(0);
        shared.with(|core, cx| core.probe_outcome(cx, &running.account, attempt, transient));
    }
    if let (Lane::Secret, Some(attempt)) = (running.lane, running.attempt) {
        let secret = match failed {
            Some(how) => Err(format!("client_secret_cmd {how}{said}")),
            None => first_line(&report.stdout)
                .ok_or_else(|| format!("client_secret_cmd printed nothing{said}")),
        };
        shared.with(|core, cx| core.secret_outcome(cx, &running.account, attempt, secret));
    }
}

/// The first line of a command's output, unless it is empty.
fn first_line(output: &str) -> Option<Secret> {
    let line = output.lines().next().unwrap_or_default();
    (!line.is_empty()).then(|| Secret::new(line.to_owned()))
}
