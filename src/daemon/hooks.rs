//! The daemon's end of the hooks: effects become jobs for the runner (runner.rs), and what the
//! runner reports becomes events. Nothing here waits: jobs are queued and written by the main
//! thread whenever the runner takes them.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{pass, shared::Shared};
use crate::{
    core::{
        AttemptId, Effect,
        dump::{MAX_DUMP_BYTES, Sealed},
    },
    secret::Secret,
};

/// How long `token_event_cmd`, `error_notify_cmd` and `startup_cmd` may run: the manual's minute.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the end of a command's output may take to arrive when the command has ended: it is in
/// the pipe then, unless something that it left behind holds that open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// The stack of the thread that fills or empties a pipe, in bytes.
const PIPE_STACK: usize = 256 << 10;

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
    /// `state_load_cmd`.
    Load,
    /// `state_save_cmd`.
    Save,
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
            Lane::Load => "state_load_cmd",
            Lane::Save => "state_save_cmd",
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
    /// What a descriptor that came along with the order is for.
    pub pipe: Option<Pipe>,
}

/// Which of a command's streams leads to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pipe {
    /// It reads what the daemon writes.
    Input,
    /// It writes what the daemon reads.
    Output,
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
    /// Orders that the runner hasn't taken yet, each with what comes along.
    outgoing: VecDeque<Outgoing>,
    incoming: Vec<u8>,
    /// What to do when a job ends.
    running: HashMap<u64, Running>,
    /// What couldn't even be ordered.
    failed: Vec<Report>,
    closed: bool,
}

/// The rest of an order, and the descriptor that goes with its first byte.
struct Outgoing {
    bytes: Vec<u8>,
    fd: Option<OwnedFd>,
}

/// What a successor needs to know of the jobs that run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HooksState {
    jobs: u64,
    running: Vec<(u64, Lane, Arc<str>, Option<u64>)>,
}

struct Running {
    lane: Lane,
    account: Arc<str>,
    attempt: Option<AttemptId>,
    /// Where its output arrives, if that is wanted.
    output: Option<Receiver<Output>>,
}

/// What a command has printed.
type Output = io::Result<Zeroizing<Vec<u8>>>;

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

    /// What there is to hand over, once nothing waits to be written.
    pub fn state(&self) -> HooksState {
        let state = self.lock();
        let running = state.running.iter();
        HooksState {
            jobs: state.jobs,
            running: running
                .map(|(id, job)| {
                    let attempt = job.attempt.map(AttemptId::number);
                    (*id, job.lane, job.account.clone(), attempt)
                })
                .collect(),
        }
    }

    /// Goes on with a predecessor's jobs.
    pub fn adopt(&self, handed: HooksState) {
        let mut state = self.lock();
        state.jobs = handed.jobs;
        for (id, lane, account, attempt) in handed.running {
            let attempt = attempt.map(AttemptId::from_number);
            let running = Running {
                lane,
                account,
                attempt,
                output: None,
            };
            state.running.insert(id, running);
        }
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
                command,
                message,
            } => self.error(account, command, message),
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
            Effect::Save {
                attempt,
                command,
                dump,
            } => self.save(attempt, command, dump),
            Effect::Load { attempt, command } => self.load(attempt, command),
            Effect::FetchSecret {
                account,
                attempt,
                command,
            } => self.ask(Lane::Secret, account, attempt, command, SECRET_LIMIT),
            Effect::Request { .. }
            | Effect::Discover { .. }
            | Effect::TokenFile { .. }
            | Effect::Settled { .. }
            | Effect::Answer { .. }
            | Effect::Log { .. } => {}
        }
    }

    fn error(&self, account: Arc<str>, command: Option<String>, message: String) {
        let Some(command) = command else {
            return log::error!("{account}: {message}");
        };
        let env = vec![("PIZAUTH_MSG".into(), message)];
        self.run(Lane::Error, account, None, command, env, LIMIT);
    }

    fn save(&self, attempt: AttemptId, command: String, dump: Arc<Sealed>) {
        let piped = io::pipe().and_then(|(theirs, ours)| {
            feed(ours, dump)?;
            Ok((Pipe::Input, theirs.into()))
        });
        self.run_piped(Lane::Save, attempt, command, piped, None);
    }

    fn load(&self, attempt: AttemptId, command: String) {
        let (piped, output) = match io::pipe().and_then(|(ours, theirs)| {
            let output = collect(ours)?;
            Ok(((Pipe::Output, theirs.into()), output))
        }) {
            Ok((piped, output)) => (Ok(piped), Some(output)),
            Err(error) => (Err(error), None),
        };
        self.run_piped(Lane::Load, attempt, command, piped, output);
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
        let running = Running {
            lane,
            account,
            attempt,
            output: None,
        };
        let mut state = self.lock();
        let id = state.begin(running);
        let job = Job {
            id,
            lane,
            command,
            env,
            limit,
            pipe: None,
        };
        state.order(&Order::Run(job), None);
    }

    /// Queues a command that is about all accounts. One whose pipe couldn't be made fails to start,
    /// like any other without it.
    fn run_piped(
        &self,
        lane: Lane,
        attempt: AttemptId,
        command: String,
        piped: io::Result<(Pipe, OwnedFd)>,
        output: Option<Receiver<Output>>,
    ) {
        let running = Running {
            lane,
            account: "all accounts".into(),
            attempt: Some(attempt),
            output,
        };
        let mut state = self.lock();
        let id = state.begin(running);
        match piped {
            Ok((pipe, fd)) => {
                let job = Job {
                    id,
                    lane,
                    command,
                    env: Vec::new(),
                    limit: LIMIT,
                    pipe: Some(pipe),
                };
                state.order(&Order::Run(job), Some(fd));
            }
            Err(error) => state.failed.push(Report {
                id,
                end: End::NotStarted(error.to_string()),
                stderr: String::new(),
                stdout: Zeroizing::default(),
            }),
        }
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
            state.order(&Order::End(id), None);
        }
    }

    /// Whether somebody is still being told of what has happened.
    pub fn tells(&self) -> bool {
        let state = self.lock();
        let told = |job: &Running| matches!(job.lane, Lane::Error | Lane::Event);
        state.running.values().any(told)
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
        while let Some(front) = state.outgoing.front_mut() {
            let fds: Vec<_> = front.fd.iter().map(AsFd::as_fd).collect();
            match pass::send(&self.line, &front.bytes, &fds) {
                Ok(written) => {
                    front.fd = None;
                    front.bytes.drain(..written);
                    if front.bytes.is_empty() {
                        state.outgoing.pop_front();
                    }
                }
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
        for report in state.lost() {
            if let Some(running) = state.running.remove(&report.id) {
                reports.push((report, running));
            }
        }
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
    /// Takes note of a job; returns its number.
    fn begin(&mut self, running: Running) -> u64 {
        self.jobs += 1;
        self.running.insert(self.jobs, running);
        self.jobs
    }

    fn order(&mut self, order: &Order, fd: Option<OwnedFd>) {
        if self.closed {
            return;
        }
        match serde_json::to_vec(order) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                self.outgoing.push_back(Outgoing { bytes, fd });
            }
            Err(error) => log::error!("a hook can't be described: {error}"),
        }
    }

    /// The jobs that nobody will report on: those that couldn't be handed over and, when the runner
    /// is gone, all.
    fn lost(&mut self) -> Vec<Report> {
        let mut lost = std::mem::take(&mut self.failed);
        if self.closed {
            lost.extend(self.running.keys().map(|id| Report {
                id: *id,
                end: End::NotStarted("the hook runner is gone".into()),
                stderr: String::new(),
                stdout: Zeroizing::default(),
            }));
        }
        lost
    }

    fn gone(&mut self, why: &str) {
        log::error!("hooks no longer run: the hook runner is gone: {why}");
        self.closed = true;
        self.outgoing.clear();
    }
}

/// Writes a dump to a command, from a thread: the command may take its time, or never read at all.
fn feed(mut pipe: PipeWriter, dump: Arc<Sealed>) -> io::Result<()> {
    make_room(&pipe, dump.bytes().len());
    let thread = thread::Builder::new().name("save".into());
    thread.stack_size(PIPE_STACK).spawn(move || {
        // A command that doesn't want it says by its exit status whether that is well.
        let _ = pipe.write_all(dump.bytes());
    })?;
    Ok(())
}

/// Lets the pipe hold so many bytes, if the system can: then it takes the dump in one step, and a
/// server that is killed just then can't leave a command with half of it.
#[cfg(target_os = "linux")]
fn make_room(pipe: &PipeWriter, bytes: usize) {
    use nix::fcntl::{FcntlArg, fcntl};
    if let Ok(bytes) = i32::try_from(bytes) {
        // Above the system's limit, it stays as it is.
        let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes));
    }
}

#[cfg(not(target_os = "linux"))]
fn make_room(_pipe: &PipeWriter, _bytes: usize) {}

/// Reads a command's output to its end, from a thread.
fn collect(pipe: PipeReader) -> io::Result<Receiver<Output>> {
    let (sender, receiver) = sync_channel(1);
    let thread = thread::Builder::new().name("load".into());
    thread.stack_size(PIPE_STACK).spawn(move || {
        let mut output = Zeroizing::new(Vec::new());
        let limit = MAX_DUMP_BYTES as u64 + 1;
        let outcome = pipe.take(limit).read_to_end(&mut output);
        // Nobody listens when the command has failed.
        let _ = sender.send(outcome.map(|_| output));
    })?;
    Ok(receiver)
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
        Lane::Error | Lane::Event | Lane::Startup | Lane::Load | Lane::Save => false,
    };
    let mut trouble = None;
    let stderr = crate::text::sanitize(&report.stderr);
    let said = match stderr.is_empty() {
        true => String::new(),
        false => format!(": {stderr}"),
    };
    if let (Some(how), false) = (&failed, usual) {
        let (option, account) = (running.lane.option(), &running.account);
        match running.lane {
            Lane::Load | Lane::Save => trouble = Some(format!("{option} {how}{said}")),
            _ => log::error!("{account}: {option} {how}{said}"),
        }
    }
    let Some(attempt) = running.attempt else {
        return;
    };
    match running.lane {
        Lane::Probe => {
            let transient = report.end == End::Exit(0);
            shared.with(|core, cx| core.probe_outcome(cx, &running.account, attempt, transient));
        }
        Lane::Save => {
            let outcome = trouble.map_or(Ok(()), Err);
            shared.with(|core, cx| core.save_outcome(cx, attempt, outcome));
        }
        Lane::Load => {
            let output = trouble.map_or_else(|| output(running), Err);
            let outcome = output.as_ref().map(|bytes| bytes.as_slice());
            let outcome = outcome.map_err(Clone::clone);
            shared.with(|core, cx| core.load_outcome(cx, attempt, outcome));
        }
        Lane::Secret => {
            let secret = match failed {
                Some(how) => Err(format!("client_secret_cmd {how}{said}")),
                None => first_line(&report.stdout)
                    .ok_or_else(|| format!("client_secret_cmd printed nothing{said}")),
            };
            shared.with(|core, cx| core.secret_outcome(cx, &running.account, attempt, secret));
        }
        Lane::Notify | Lane::Error | Lane::Event | Lane::Startup => {}
    }
}

/// All that a command has printed which has ended.
fn output(running: &Running) -> Result<Zeroizing<Vec<u8>>, String> {
    let received = running.output.as_ref();
    match received.map(|output| output.recv_timeout(OUTPUT_TIMEOUT)) {
        Some(Ok(Ok(bytes))) => Ok(bytes),
        Some(Ok(Err(error))) => Err(format!("its output can't be read: {error}")),
        Some(Err(_)) | None => Err("something that it left behind holds its output open".into()),
    }
}

/// The first line of a command's output, unless it is empty.
fn first_line(output: &str) -> Option<Secret> {
    let line = output.lines().next().unwrap_or_default();
    (!line.is_empty()).then(|| Secret::new(line.to_owned()))
}
