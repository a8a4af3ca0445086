//! Token files. A thread of its own writes them, since a home directory on a network may hang;
//! each is replaced in one step, and is the user's alone from its first moment.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::{thread, time::Duration};

use super::{
    engine::Engine,
    helpers::{Helper, MonitorClient},
};
use crate::server::base::guard;
use crate::server::ipc::capability::{Capability, TOKEN_FILE};
use crate::server::ipc::helper_messages::HelperKind;
use crate::{error::Failure, lock::Lock, secret::Secret};

/// How long what couldn't be written waits for its next try, in case that there is room by then.
const RETRY: Duration = Duration::from_secs(10);

/// The writer's stack, in bytes: it holds a path or two.
const STACK: usize = 256 << 10;

/// The shell of [`crate::core::Effect::TokenFile`]. The thread starts with the first one.
pub struct TokenFiles {
    monitor: Arc<MonitorClient>,
    queue: Lock<Option<Sender<Job>>>,
}

/// What a file is to hold.
struct Wanted {
    engine: Weak<Engine>,
    account: Arc<str>,
    path: Arc<str>,
    capability: Capability,
    content: Option<Arc<Secret>>,
    /// That it couldn't be done has been told.
    told: bool,
}

enum Job {
    Keep(Wanted),
    /// Everything before has been done when this is taken up.
    Flush(SyncSender<()>),
}

impl TokenFiles {
    /// None yet; helpers that the monitor forks will write them.
    pub fn new(monitor: Arc<MonitorClient>) -> Self {
        TokenFiles {
            monitor,
            queue: Lock::default(),
        }
    }

    /// Queues a file.
    pub fn submit(
        &self,
        engine: &Arc<Engine>,
        account: Arc<str>,
        path: Arc<str>,
        content: Option<Arc<Secret>>,
    ) {
        let job = Job::Keep(Wanted {
            engine: Arc::downgrade(engine),
            account,
            // Of a configuration that may be replaced before the file is.
            capability: self.monitor.capability(TOKEN_FILE, &path),
            path,
            content,
            told: false,
        });
        self.queue.with(|queue| {
            if queue.is_none() {
                *queue = start(&self.monitor);
            }
            // Without a thread, nothing is written; `start` has said so, and tries again next time.
            let ended = queue.as_ref().is_some_and(|it| it.send(job).is_err());
            if ended {
                *queue = None;
            }
        });
    }

    /// Waits until all that was queued is done; false when that takes longer.
    pub fn finish(&self, patience: Duration) -> bool {
        let (done, finished) = sync_channel(1);
        let waits = self.queue.with(|queue| {
            let queue = queue.as_ref();
            queue.is_some_and(|queue| queue.send(Job::Flush(done)).is_ok())
        });
        !waits || finished.recv_timeout(patience).is_ok()
    }
}

fn start(monitor: &Arc<MonitorClient>) -> Option<Sender<Job>> {
    let (sender, receiver) = channel();
    let monitor = monitor.clone();
    let thread = thread::Builder::new().name("files".into());
    match thread
        .stack_size(STACK)
        .spawn(move || work(&receiver, &monitor))
    {
        Ok(_) => Some(sender),
        Err(error) => {
            log::error!("token files can't be written: {error}");
            None
        }
    }
}

fn work(queue: &Receiver<Job>, monitor: &MonitorClient) {
    let mut failed: Vec<Wanted> = Vec::new();
    loop {
        let next = match failed.is_empty() {
            true => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => queue.recv_timeout(RETRY),
        };
        if matches!(next, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        // What failed before may have been replaced meanwhile, and so comes first.
        let again = std::mem::take(&mut failed).into_iter().map(Job::Keep);
        let jobs: Vec<Job> = again.chain(next.ok()).chain(queue.try_iter()).collect();
        // One helper for all that is waiting.
        let mut helper = None;
        for job in jobs {
            match job {
                // The asking thread may have given up.
                Job::Flush(done) => drop(done.send(())),
                Job::Keep(mut wanted) => {
                    failed.retain(|it| it.path != wanted.path);
                    let done = guard::job("a token file", || {
                        perform(&mut wanted, monitor, &mut helper)
                    });
                    if done == Some(false) {
                        failed.push(wanted);
                    }
                }
            }
        }
    }
}

/// Whether that is done, or no longer wanted.
fn perform(wanted: &mut Wanted, monitor: &MonitorClient, helper: &mut Option<Helper>) -> bool {
    let Some(engine) = wanted.engine.upgrade() else {
        return true;
    };
    let (path, capability) = (&wanted.path, &wanted.capability);
    let content = wanted.content.as_deref();
    let mut kept = keep(monitor, helper, path, capability, content);
    if kept.is_err() {
        *helper = None;
        // What is there would soon be an expired token, and its place may be all that is wanting.
        if content.is_some() && keep(monitor, helper, path, capability, None).is_ok() {
            kept = keep(monitor, helper, path, capability, content);
        }
    }
    let Err(failure) = kept else {
        return true;
    };
    *helper = None;
    if !std::mem::replace(&mut wanted.told, true) {
        let why = format!("{path}: {failure}");
        engine.on(&wanted.account, |it, env| it.publish_failed(env, &why));
    }
    false
}

fn keep(
    monitor: &MonitorClient,
    helper: &mut Option<Helper>,
    path: &Arc<str>,
    capability: &Capability,
    content: Option<&Secret>,
) -> Result<(), Failure> {
    let helper = match helper.take().filter(Helper::is_fresh) {
        Some(held) => helper.insert(held),
        None => helper.insert(monitor.helper(HelperKind::Files)?),
    };
    match content {
        Some(content) => helper.replace(path, capability, content),
        None => helper.remove(path, capability),
    }
}
