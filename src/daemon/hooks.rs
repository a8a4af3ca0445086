//! The daemon's end of the hooks: effects become jobs for the runner (runner.rs), and what the
//! runner reports becomes events. Nothing here waits: jobs are queued (lanes.rs) and written by the
//! main thread whenever the runner takes them. When a runner has been killed, the monitor
//! (monitor.rs) sends the line to another one, and that goes on where the first had come.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use nix::poll::PollFlags;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    broker::Broker,
    job::{ACCOUNT, End, Job, Lane, Order, Pipe, Report, Said, take_line},
    lanes::{Lanes, LanesState, Output, Whose},
    pass,
    pipe::{PipeReader, PipeWriter, pipe},
    seals::Seal,
    shared::Shared,
};
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

/// The daemon's end of the lines to the runner and to the monitor.
pub struct Hooks {
    broker: Arc<Broker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    jobs: u64,
    lanes: Lanes,
    /// The line to the runner, unless that is gone.
    runner: Option<Line>,
    /// The line to the monitor, unless that is gone.
    monitor: Option<Arc<UnixStream>>,
    /// Its process, and how many were there before it.
    process: Option<u32>,
    losses: u32,
    /// What has begun to arrive from the monitor.
    incoming: Vec<u8>,
    /// Ends that nobody will tell of.
    lost: Vec<(Report, Whose)>,
}

/// A line to a runner.
struct Line {
    stream: Arc<UnixStream>,
    /// Orders that the runner hasn't taken yet, each with what comes along.
    outgoing: VecDeque<Outgoing>,
    incoming: Vec<u8>,
}

/// The rest of an order, and the descriptor that goes with its first byte.
struct Outgoing {
    bytes: Vec<u8>,
    fd: Option<OwnedFd>,
}

/// What a successor needs to know of the hooks.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HooksState {
    jobs: u64,
    process: Option<u32>,
    losses: u32,
    lanes: LanesState,
    /// A report of which only a part has arrived.
    incoming: Zeroizing<Vec<u8>>,
}

/// The lines that are there, and what to wait for on each.
pub type Lines = Vec<(Arc<UnixStream>, PollFlags)>;

impl Hooks {
    /// `monitor` will tell where the runner is; until then, jobs wait.
    ///
    /// # Errors
    /// When the line can't be made non-blocking.
    pub fn new(monitor: UnixStream, broker: Arc<Broker>) -> io::Result<Self> {
        monitor.set_nonblocking(true)?;
        let state = State {
            monitor: Some(Arc::new(monitor)),
            ..State::default()
        };
        Ok(Hooks {
            broker,
            state: Mutex::new(state),
        })
    }

    /// Goes on with a predecessor's lines and jobs.
    ///
    /// # Errors
    /// When a line can't be made non-blocking.
    pub fn adopt(
        monitor: UnixStream,
        broker: Arc<Broker>,
        runner: UnixStream,
        handed: HooksState,
    ) -> io::Result<Self> {
        for line in [&monitor, &runner] {
            line.set_nonblocking(true)?;
        }
        let mut line = Line::new(runner);
        line.incoming = handed.incoming.to_vec();
        let state = State {
            jobs: handed.jobs,
            lanes: Lanes::adopt(handed.lanes),
            runner: Some(line),
            monitor: Some(Arc::new(monitor)),
            process: handed.process,
            losses: handed.losses,
            ..State::default()
        };
        Ok(Hooks {
            broker,
            state: Mutex::new(state),
        })
    }

    /// What there is to hand over, once [`Hooks::is_settled`].
    pub fn state(&self) -> HooksState {
        let state = self.lock();
        let incoming = state.runner.as_ref().map(|line| line.incoming.clone());
        HooksState {
            jobs: state.jobs,
            process: state.process,
            losses: state.losses,
            lanes: state.lanes.state(),
            incoming: Zeroizing::new(incoming.unwrap_or_default()),
        }
    }

    /// The runner's process, if there is one, and how many were lost before it.
    pub fn runner(&self) -> (Option<u32>, u32) {
        let state = self.lock();
        (state.process, state.losses)
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
        let piped = pipe().and_then(|(theirs, ours)| {
            feed(ours, dump)?;
            Ok((Pipe::Input, theirs.into()))
        });
        self.run_piped(Lane::Save, attempt, command, piped, None);
    }

    fn load(&self, attempt: AttemptId, command: String) {
        let (piped, output) = match pipe().and_then(|(ours, theirs)| {
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
            env.insert(0, (ACCOUNT.into(), account.to_string()));
        }
        let whose = Whose {
            lane,
            account,
            attempt,
            output: None,
        };
        let mut state = self.lock();
        let job = Job {
            id: state.number(),
            lane,
            seal: self.seal(lane, &command),
            command,
            env,
            limit,
            pipe: None,
        };
        state.enqueue(job, None, whose);
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
        let whose = Whose {
            lane,
            account: "all accounts".into(),
            attempt: Some(attempt),
            output,
        };
        let mut state = self.lock();
        let id = state.number();
        match piped {
            Ok((pipe, fd)) => {
                let job = Job {
                    id,
                    lane,
                    seal: self.seal(lane, &command),
                    command,
                    env: Vec::new(),
                    limit: LIMIT,
                    pipe: Some(pipe),
                };
                state.enqueue(job, Some(fd), whose);
            }
            Err(error) => {
                let end = End::NotStarted(error.to_string());
                state.lost.push((Report::silent(id, end), whose));
            }
        }
    }

    /// A command that the configuration doesn't have has no seal, and isn't run.
    fn seal(&self, lane: Lane, command: &str) -> Seal {
        let found = self.broker.seal(lane.option(), command);
        found.unwrap_or_default()
    }

    fn end(&self, attempt: AttemptId) {
        let mut state = self.lock();
        for id in state.lanes.end(attempt) {
            state.order(&Order::End(id), None);
        }
    }

    /// Whether somebody is still being told of what has happened.
    pub fn tells(&self) -> bool {
        self.lock().lanes.has(&[Lane::Error, Lane::Event])
    }

    /// Whether a runner is there and has all the orders that it is to have for now. Without one, and
    /// without hope of one, there is nothing to wait for either.
    pub fn is_settled(&self) -> bool {
        let state = self.lock();
        match &state.runner {
            Some(line) => line.outgoing.is_empty(),
            None => state.monitor.is_none(),
        }
    }

    /// The lines to poll.
    pub fn lines(&self) -> Lines {
        let state = self.lock();
        let runner = state.runner.as_ref().map(|line| {
            let flags = match line.outgoing.is_empty() {
                true => PollFlags::POLLIN,
                false => PollFlags::POLLIN | PollFlags::POLLOUT,
            };
            (line.stream.clone(), flags)
        });
        let monitor = state.monitor.clone();
        let monitor = monitor.map(|line| (line, PollFlags::POLLIN));
        runner.into_iter().chain(monitor).collect()
    }

    /// Whether the monitor is there, without which no server goes on.
    pub fn is_minded(&self) -> bool {
        self.lock().monitor.is_some()
    }

    /// The line to the runner, for a successor.
    pub fn line(&self) -> Option<Arc<UnixStream>> {
        let state = self.lock();
        state.runner.as_ref().map(|line| line.stream.clone())
    }

    /// Writes and reads what can be without waiting, and hands reports to the core.
    pub fn exchange(&self, shared: &Arc<Shared>) {
        // What follows from an end may be another hook.
        let ended = self.lock().exchange();
        for (report, whose) in ended {
            finished(shared, &report, &whose);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(stream: UnixStream) -> Self {
        Line {
            stream: Arc::new(stream),
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
        }
    }

    /// Writes what the runner takes.
    fn write(&mut self) -> io::Result<()> {
        while let Some(front) = self.outgoing.front_mut() {
            let fds: Vec<_> = front.fd.iter().map(AsFd::as_fd).collect();
            match pass::send(&self.stream, &front.bytes, &fds) {
                Ok(written) => {
                    front.fd = None;
                    front.bytes.drain(..written);
                    if front.bytes.is_empty() {
                        self.outgoing.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the runner has said.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = Zeroizing::new([0; 4096]);
        loop {
            match (&*self.stream).read(&mut *buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.incoming.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl State {
    /// A number that no job has had.
    fn number(&mut self) -> u64 {
        self.jobs = self.jobs.saturating_add(1);
        self.jobs
    }

    fn enqueue(&mut self, job: Job, pipe: Option<OwnedFd>, whose: Whose) {
        let id = job.id;
        if self.runner.is_none() && self.monitor.is_none() {
            return self.lost.push((Report::silent(id, nobody()), whose));
        }
        if let Err(whose) = self.lanes.enqueue(job, pipe, whose) {
            let end = End::NotStarted("too many are waiting".into());
            self.lost.push((Report::silent(id, end), whose));
        }
        self.begin_waiting();
    }

    fn order(&mut self, order: &Order, fd: Option<OwnedFd>) {
        let Some(line) = &mut self.runner else {
            return;
        };
        match serde_json::to_vec(order) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                line.outgoing.push_back(Outgoing { bytes, fd });
            }
            Err(error) => log::error!("a hook can't be described: {error}"),
        }
    }

    /// Orders what there is room for, if somebody is there to order from.
    fn begin_waiting(&mut self) {
        while self.runner.is_some() {
            let Some((job, pipe)) = self.lanes.next() else {
                return;
            };
            log::debug!("running {}", job.words());
            self.order(&Order::Run(job), pipe);
        }
    }

    /// Writes and reads what can be without waiting; returns the jobs that have ended.
    fn exchange(&mut self) -> Vec<(Report, Whose)> {
        let mut ended = Vec::new();
        if let Some(line) = &mut self.runner {
            let outcome = line.write();
            // What a runner that is gone has said before still counts.
            let outcome = line.read().and(outcome);
            self.listen(&mut ended);
            if outcome.is_err() {
                self.lose_runner(&mut ended);
            }
        }
        self.meet_runner(&mut ended);
        if self.runner.is_none() && self.monitor.is_none() {
            let jobs = self.lanes.give_up().into_iter();
            ended.extend(jobs.map(|(id, whose)| (Report::silent(id, nobody()), whose)));
        }
        self.begin_waiting();
        if let Some(line) = &mut self.runner {
            // An error shows again at the next turn's read, which the line's end brings about.
            let _ = line.write();
        }
        ended.append(&mut self.lost);
        ended
    }

    fn listen(&mut self, ended: &mut Vec<(Report, Whose)>) {
        let Some(line) = &mut self.runner else {
            return;
        };
        while let Some(text) = take_line(&mut line.incoming) {
            match serde_json::from_slice::<Said>(&text) {
                Ok(Said::Begun(id)) => self.lanes.begun(id),
                Ok(Said::Ended(report)) => {
                    let whose = self.lanes.ended(report.id);
                    ended.extend(whose.map(|whose| (report, whose)));
                }
                Err(error) => log::error!("the hook runner makes no sense: {error}"),
            }
        }
    }

    fn lose_runner(&mut self, ended: &mut Vec<(Report, Whose)>) {
        self.runner = None;
        self.process = None;
        self.losses = self.losses.saturating_add(1);
        if self.monitor.is_some() {
            log::error!("the hook runner was killed; another one takes its place");
        }
        let lost = self.lanes.lose().into_iter();
        ended.extend(lost.map(|(id, whose)| (Report::silent(id, End::Lost), whose)));
    }

    /// Hears of a new runner, or of the monitor's end.
    fn meet_runner(&mut self, ended: &mut Vec<(Report, Whose)>) {
        let Some(monitor) = self.monitor.clone() else {
            return;
        };
        let (mut buffer, mut fds) = ([0; 64], Vec::new());
        loop {
            match pass::recv(&monitor, &mut buffer, &mut fds) {
                Ok(count) if count > 0 => self.incoming.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => {
                    self.monitor = None;
                    break;
                }
            }
        }
        for fd in fds {
            if self.runner.is_some() {
                // Its end hasn't been seen yet.
                self.lose_runner(ended);
            }
            let stream = UnixStream::from(fd);
            if stream.set_nonblocking(true).is_ok() {
                self.runner = Some(Line::new(stream));
            }
        }
        while let Some(line) = take_line(&mut self.incoming) {
            self.process = std::str::from_utf8(&line)
                .ok()
                .and_then(|it| it.parse().ok());
        }
    }
}

fn nobody() -> End {
    End::NotStarted("the hook runner is gone".into())
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
        let limit = (MAX_DUMP_BYTES as u64).saturating_add(1);
        let outcome = pipe.take(limit).read_to_end(&mut output);
        // Nobody listens when the command has failed.
        let _ = sender.send(outcome.map(|_| output));
    })?;
    Ok(receiver)
}

/// Draws the conclusions from a hook's end.
fn finished(shared: &Arc<Shared>, report: &Report, running: &Whose) {
    let failed = match &report.end {
        End::Exit(0) | End::Ended => None,
        End::Exit(status) => Some(format!("exited with status {status}")),
        End::Signal(signal) => Some(format!("was ended by signal {signal}")),
        End::TimedOut => Some("took too long and was killed".into()),
        End::NotStarted(why) => Some(format!("couldn't be started: {why}")),
        End::Lost => Some("was lost with the hook runner, which was killed".into()),
    };
    if failed.is_none() {
        let option = running.lane.option();
        log::debug!("{}: {option} has ended", running.account);
    }
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
            // One that could not be asked costs no login.
            let unasked = matches!(report.end, End::Lost | End::NotStarted(_));
            let transient = unasked || report.end == End::Exit(0);
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
fn output(running: &Whose) -> Result<Zeroizing<Vec<u8>>, String> {
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
