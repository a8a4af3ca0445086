//! The holder's end of the hooks: effects become jobs for the hook runner, and what that reports
//! becomes events. Nothing here waits: jobs are queued, and written by the main thread whenever the
//! runner takes them. When a runner has been killed, the monitor sends the line to another one, and
//! that goes on where the first had come. After a restart, the runners of the program before get no
//! more jobs, and go when their last one has ended.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Duration,
};

use nix::poll::PollFlags;
use serde::{Deserialize, Serialize};

use super::{
    engine::Engine,
    helpers::MonitorClient,
    hook_outcomes::conclude,
    hook_queue::{HookQueues, JobOwner, Output},
};
use crate::{
    core::{
        AttemptId,
        dump::{self, MAX_DUMP_BYTES},
        hook::{Hook, HookInput},
    },
    lock::Lock,
    secret::SecretBytes,
    server::{
        base::pipe::{PipeReader, PipeWriter, pipe},
        ipc::{
            hook_messages::{
                ACCOUNT, HookEnd, HookEvent, HookJob, HookKind, HookLine, HookOrder, HookReport,
                Pipe,
            },
            line::{Line, Message, Next},
            monitor_messages::MonitorEvent,
            slots::{Slot, SlotReader, SlotWriter},
        },
    },
    view::PASTE,
};

/// How long `token_event_cmd`, `error_notify_cmd` and `startup_cmd` may run: the manual's minute.
const LIMIT: Duration = Duration::from_secs(60);

/// How long `transient_error_if_cmd`, `client_secret_cmd` and `token_cmd` may take, the manual's three
/// minutes: a password manager may ask for its own password first.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);

/// The stack of the thread that fills or empties a pipe, in bytes.
const PIPE_STACK: usize = 256 << 10;

/// The holder's end of the lines to the runners and to the monitor.
pub struct Hooks {
    monitor: Arc<MonitorClient>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    jobs: u64,
    queues: HookQueues,
    /// The runner that gets new jobs, unless it is gone.
    runner: Option<Runner>,
    /// Those of a program before.
    retiring: Vec<Runner>,
    /// Whether there has been a runner, and how many of them were killed.
    losses: u32,
    /// The line on which the monitor tells of runners, unless it is gone.
    events: Option<Line<(), MonitorEvent>>,
    /// Jobs that have ended, which the core isn't told of yet.
    ended: Vec<(HookReport, JobOwner)>,
}

/// A line to a runner.
struct Runner {
    process: u32,
    line: HookLine,
}

/// What a successor needs to know of the hooks.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HooksState {
    jobs: u64,
    losses: u32,
    queues: HookQueues,
    runners: Vec<RunnerState>,
}

/// A runner: its process, the line to it, and what has arrived of its next message.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunnerState {
    process: u32,
    line: Slot,
    unread: Vec<u8>,
}

/// The lines that are there, and what to wait for on each.
pub type Sockets = Vec<(Arc<UnixStream>, PollFlags)>;

impl Hooks {
    /// `events` will tell where the runner is; until then, jobs wait.
    pub fn new(events: Line<(), MonitorEvent>, monitor: Arc<MonitorClient>) -> Self {
        let state = State {
            events: Some(events),
            ..State::default()
        };
        Hooks {
            monitor,
            state: Lock::new(state),
        }
    }

    /// Goes on with a predecessor's runners and jobs.
    ///
    /// # Errors
    /// When a line is missing.
    pub fn adopt(&self, state: HooksState, fds: &mut SlotReader) -> io::Result<()> {
        let runners = state.runners.into_iter().map(|runner| {
            let stream = fds.take(runner.line)?.into();
            Ok(Runner {
                process: runner.process,
                line: HookLine::resume(stream, &runner.unread),
            })
        });
        let runners = runners.collect::<io::Result<_>>()?;
        self.state.with(|ours| {
            ours.jobs = state.jobs;
            ours.losses = state.losses;
            ours.queues = state.queues;
            ours.retiring = runners;
        });
        Ok(())
    }

    /// The state for a restart; the lines go along, but no order that a runner hasn't taken yet: a
    /// successor must be given one for which [`Hooks::is_settled`] holds. A trial may have any.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn state(&self, fds: &mut SlotWriter) -> io::Result<HooksState> {
        self.state.with(|state| {
            let runners = state.runners().map(|runner| RunnerState {
                process: runner.process,
                line: fds.put(runner.line.socket()),
                unread: runner.line.unread(),
            });
            Ok(HooksState {
                jobs: state.jobs,
                losses: state.losses,
                runners: runners.collect(),
                // A copy through the format that a successor reads.
                queues: serde_json::from_value(serde_json::to_value(&state.queues)?)?,
            })
        })
    }

    /// The runner's process, if there is one, and how many were lost before it.
    pub fn runner(&self) -> (Option<u32>, u32) {
        self.state.with(|state| {
            let runner = state.runner.as_ref();
            (runner.map(|runner| runner.process), state.losses)
        })
    }

    /// Queues a command.
    pub fn run(&self, hook: Hook) {
        if let (HookKind::Notify, Some(attempt)) = (hook.kind, hook.attempt) {
            // The reminder before has had its time.
            self.end(attempt);
        }
        let kind = hook.kind;
        let limit = match (kind, &hook.input) {
            (_, HookInput::SignIn { limit, .. }) => *limit,
            (HookKind::Probe | HookKind::Secret | HookKind::Token, _) => ANSWER_LIMIT,
            _ => LIMIT,
        };
        let mut env = Vec::new();
        if !matches!(kind, HookKind::Startup | HookKind::Save | HookKind::Load) {
            env.push((ACCOUNT.into(), hook.account.to_string()));
        }
        let input = tell(hook.input, &mut env);
        // A command that the configuration doesn't have isn't run.
        let capability = self.monitor.capability(kind.option(), &hook.command);
        let owner = JobOwner {
            kind,
            account: hook.account,
            attempt: hook.attempt,
            input: input.map(Arc::new),
            output: None,
        };
        self.state.with(|state| {
            let job = HookJob {
                id: state.next_id(),
                kind,
                command: hook.command,
                capability,
                env,
                limit,
                pipe: pipe_of(kind),
            };
            state.enqueue(job, owner);
        });
    }

    /// Ends the reminder of this sign-in.
    pub fn end(&self, attempt: AttemptId) {
        self.state.with(|state| {
            for id in state.queues.end(attempt) {
                state.order_end(id);
            }
        });
    }

    /// Whether a hook is still telling of what has happened.
    pub fn tells(&self) -> bool {
        let telling = [HookKind::Error, HookKind::Event];
        self.state.with(|state| state.queues.has(&telling))
    }

    /// Whether a runner is there and has all the orders that it is to have for now. Without one, and
    /// without hope of one, there is nothing to wait for either.
    pub fn is_settled(&self) -> bool {
        self.state
            .with(|state| state.is_flushed() && (state.runner.is_some() || state.events.is_none()))
    }

    /// The lines to poll.
    pub fn sockets(&self) -> Sockets {
        self.state.with(|state| {
            let runners = state
                .runners()
                .map(|it| (it.line.socket(), it.line.awaits()));
            let events = state.events.iter();
            let events = events.map(|line| (line.socket(), line.awaits()));
            runners.chain(events).collect()
        })
    }

    /// Whether the monitor is there, without which no server goes on.
    pub fn has_monitor(&self) -> bool {
        self.state.with(|state| state.events.is_some())
    }

    /// Writes and reads what can be without waiting, and tells the core of ends.
    pub fn exchange(&self, engine: &Arc<Engine>) {
        // What follows from an end may be another hook.
        for (report, owner) in self.state.with(State::exchange) {
            conclude(engine, report, owner);
        }
    }
}

impl State {
    fn runners(&self) -> impl Iterator<Item = &Runner> {
        self.retiring.iter().chain(&self.runner)
    }

    fn is_flushed(&self) -> bool {
        self.runners().all(|runner| runner.line.is_flushed())
    }

    /// A number that no job has had.
    fn next_id(&mut self) -> u64 {
        self.jobs = self.jobs.saturating_add(1);
        self.jobs
    }

    fn enqueue(&mut self, job: HookJob, owner: JobOwner) {
        let id = job.id;
        if self.runner.is_none() && self.events.is_none() {
            return self.end(id, no_runner(), owner);
        }
        if let Err(owner) = self.queues.enqueue(job, owner) {
            let end = HookEnd::NotStarted("too many are waiting".into());
            self.end(id, end, owner);
        }
        self.begin_waiting();
    }

    /// An end that no runner will tell of.
    fn end(&mut self, id: u64, end: HookEnd, owner: JobOwner) {
        self.ended.push((HookReport::silent(id, end), owner));
    }

    /// Whichever runner has the job ends it; to the others its number means nothing.
    fn order_end(&mut self, id: u64) {
        for runner in self.retiring.iter_mut().chain(&mut self.runner) {
            // A line that is lost shows it when it is read.
            let _ = runner.line.queue(&HookOrder::End(id), Vec::new());
        }
    }

    /// Orders what there is room for, if there is a runner to order from.
    fn begin_waiting(&mut self) {
        let Some(runner) = &mut self.runner else {
            return;
        };
        while let Some((job, owner)) = self.queues.next(runner.process) {
            log::debug!("running {}", job.words());
            let id = job.id;
            let ordered = open_pipe(job.pipe, owner).and_then(|fd| {
                runner
                    .line
                    .queue(&HookOrder::Run(job), fd.into_iter().collect())
            });
            if let Err(error) = ordered {
                let end = HookEnd::NotStarted(error.to_string());
                let owner = self.queues.ended(id);
                let report = HookReport::silent(id, end);
                self.ended.extend(owner.map(|owner| (report, owner)));
            }
        }
    }

    /// Writes and reads what can be without waiting; returns the jobs that have ended.
    fn exchange(&mut self) -> Vec<(HookReport, JobOwner)> {
        if let Some(runner) = self.runner.take() {
            self.runner = self.hear(runner);
        }
        for runner in std::mem::take(&mut self.retiring) {
            let runner = self.hear(runner);
            // Its line's end is its own.
            let busy = runner.filter(|runner| self.queues.has_jobs_of(runner.process));
            self.retiring.extend(busy);
        }
        self.hear_monitor();
        if self.runner.is_none() && self.events.is_none() {
            for (id, owner) in self.queues.give_up() {
                self.end(id, no_runner(), owner);
            }
        }
        self.begin_waiting();
        if let Some(runner) = &mut self.runner {
            // An error shows again at the next turn's read, which the line's end brings about.
            let _ = runner.line.flush();
        }
        std::mem::take(&mut self.ended)
    }

    /// Returns the runner unless it is gone; what it has said before still counts.
    fn hear(&mut self, mut runner: Runner) -> Option<Runner> {
        let flushed = runner.line.flush();
        loop {
            match runner.line.try_recv() {
                Ok(Next::Message(Message { body, .. })) => match body {
                    HookEvent::Begun(id) => self.queues.begun(id),
                    HookEvent::Ended(report) => {
                        let owner = self.queues.ended(report.id);
                        self.ended.extend(owner.map(|owner| (report, owner)));
                    }
                },
                Ok(Next::Nothing) if flushed.is_ok() => return Some(runner),
                Ok(Next::Lost | Next::Nothing | Next::End) => break,
                Err(error) => {
                    log::error!("the line to the hook runner has ended: {error}");
                    break;
                }
            }
        }
        self.lose(&runner);
        None
    }

    fn lose(&mut self, runner: &Runner) {
        self.losses = self.losses.saturating_add(1);
        if self.events.is_some() {
            log::error!("the hook runner was killed; another one takes its place");
        }
        for (id, owner) in self.queues.lose(runner.process) {
            self.end(id, HookEnd::Lost, owner);
        }
    }

    /// Hears of a new runner, or of the monitor's end.
    fn hear_monitor(&mut self) {
        while let Some(events) = &mut self.events {
            match events.try_recv() {
                Ok(Next::Message(Message { body, mut fds })) => {
                    let MonitorEvent::RunnerStarted(process) = body;
                    let Some(fd) = fds.pop() else {
                        continue;
                    };
                    // Its end, and what it said before, may not have been heard yet.
                    if let Some(before) = self.runner.take() {
                        if let Some(before) = self.hear(before) {
                            self.lose(&before);
                        }
                    }
                    let line = HookLine::new(fd.into());
                    self.runner = Some(Runner { process, line });
                }
                // The monitor starts another one when the line to this one has ended.
                Ok(Next::Lost) => {}
                Ok(Next::Nothing) => return,
                Ok(Next::End) | Err(_) => self.events = None,
            }
        }
    }
}

/// Puts what a command is told into its environment; what goes to its standard input is returned.
fn tell(input: HookInput, env: &mut Vec<(String, String)>) -> Option<SecretBytes> {
    let mut set = |name: &str, value: String| env.push((name.into(), value));
    match input {
        HookInput::None => {}
        HookInput::Message(message) => set("PIZAUTH_MSG", message),
        HookInput::Event(event) => set("PIZAUTH_EVENT", event.name()),
        HookInput::SignIn {
            ways,
            requester,
            expiring,
            ..
        } => {
            if let Some(requester) = requester {
                set("PIZAUTH_REQUESTER", requester);
            }
            set("PIZAUTH_URL", ways.uri().unwrap_or_default().into());
            if let Some(device) = ways.device {
                set("PIZAUTH_USER_CODE", device.user_code);
                set("PIZAUTH_VERIFICATION_URI", device.verification_uri);
            }
            if ways.paste {
                set("PIZAUTH_MSG", PASTE.into());
            }
            if expiring {
                set("PIZAUTH_EVENT", "sign_in_expiring".into());
            }
        }
        HookInput::State { dump, random } => {
            let sealed = SecretBytes::new(dump::seal(&dump, random));
            // A pipe whose server was killed ends like one that is complete.
            set("PIZAUTH_BYTES", sealed.len().to_string());
            return Some(sealed);
        }
    }
    None
}

fn no_runner() -> HookEnd {
    HookEnd::NotStarted("the hook runner is gone".into())
}

/// What of a command's streams leads here.
fn pipe_of(kind: HookKind) -> Option<Pipe> {
    match kind {
        HookKind::Save => Some(Pipe::Input),
        HookKind::Load | HookKind::Secret | HookKind::Token => Some(Pipe::Output),
        _ => None,
    }
}

/// The command's end of its pipe; this end is a thread's.
fn open_pipe(stream: Option<Pipe>, owner: &mut JobOwner) -> io::Result<Option<OwnedFd>> {
    Ok(match stream {
        None => None,
        Some(Pipe::Input) => {
            let (theirs, ours) = pipe()?;
            if let Some(dump) = &owner.input {
                feed(ours, dump.clone())?;
            }
            Some(theirs.into())
        }
        Some(Pipe::Output) => {
            let (ours, theirs) = pipe()?;
            owner.output = Some(collect(ours, owner.kind)?);
            Some(theirs.into())
        }
    })
}

/// Writes a dump to a command, from a thread: the command may take its time, or never read at all.
fn feed(mut pipe: PipeWriter, dump: Arc<SecretBytes>) -> io::Result<()> {
    if dump.len() > MAX_DUMP_BYTES {
        let why = "the state is larger than any that can be loaded";
        return Err(io::Error::other(why));
    }
    make_room(&pipe, dump.len());
    let thread = thread::Builder::new().name("save".into());
    thread.stack_size(PIPE_STACK).spawn(move || {
        // A command that doesn't want it says by its exit status whether that is well.
        let _ = pipe.write_all(&dump);
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

/// How much is read of a secret's file, whose first line counts, or of a token with what is around it,
/// in bytes: Microsoft's reach 16 KiB.
const MAX_SECRET_BYTES: usize = 64 << 10;

/// Reads a command's output, from a thread: a dump as far as there can be one, or the beginning of a
/// secret's file, the rest of which is thrown away.
fn collect(mut pipe: PipeReader, kind: HookKind) -> io::Result<Receiver<Output>> {
    let (sender, receiver) = sync_channel(1);
    let thread = thread::Builder::new().name("load".into());
    thread.stack_size(PIPE_STACK).spawn(move || {
        let outcome = match kind {
            HookKind::Load => read_dump(&mut pipe),
            _ => read_secret(&mut pipe),
        };
        // The receiver is gone when the command has failed.
        let _ = sender.send(outcome);
    })?;
    Ok(receiver)
}

fn read_secret(pipe: &mut PipeReader) -> Output {
    let mut output = Vec::new();
    (&mut *pipe)
        .take(MAX_SECRET_BYTES as u64)
        .read_to_end(&mut output)?;
    io::copy(pipe, &mut io::sink())?;
    Ok(output)
}

/// How much of a dump is read at a time, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// Reads in pieces, which become one when all of them are there: a buffer that grows is there twice
/// whenever it does.
fn read_dump(pipe: &mut PipeReader) -> Output {
    let (mut pieces, mut length) = (Vec::new(), 0_usize);
    loop {
        let mut piece = Vec::new();
        piece.try_reserve_exact(PIECE_BYTES)?;
        let read = (&mut *pipe)
            .take(PIECE_BYTES as u64)
            .read_to_end(&mut piece)?;
        length = length.saturating_add(read);
        if length > MAX_DUMP_BYTES {
            let why = format!("it is more than {} MiB", MAX_DUMP_BYTES >> 20);
            return Err(io::Error::other(why));
        }
        pieces.push(piece);
        if read < PIECE_BYTES {
            break;
        }
    }
    let mut output = Vec::new();
    output.try_reserve_exact(length)?;
    pieces.into_iter().for_each(|piece| output.extend(piece));
    Ok(output)
}

#[cfg(test)]
mod tests {
    use std::{error::Error, os::unix::net::UnixStream, sync::Arc};

    use super::*;
    use crate::server::ipc::line::Line;

    #[test]
    fn a_trial_does_not_wait_for_the_runner_to_take_its_orders() -> Result<(), Box<dyn Error>> {
        let pair = UnixStream::pair;
        let ((monitor, _a), (events, _b), (runner, _c)) = (pair()?, pair()?, pair()?);
        let hooks = Hooks::new(
            Line::new(events),
            Arc::new(MonitorClient::new(Line::new(monitor))?),
        );
        hooks.state.with(|state| {
            let line = HookLine::new(runner);
            state.runner = Some(Runner { process: 7, line });
        });
        assert!(hooks.is_settled());
        hooks.run(Hook::startup("true".into()));
        assert!(!hooks.is_settled(), "an order is to be taken");
        let state = hooks.state(&mut SlotWriter::default())?;
        assert_eq!(state.runners.len(), 1);
        Ok(())
    }
}
