//! Token files. A thread of its own writes them, since a home directory on a network may hang;
//! each is replaced in one step, and is the user's alone from its first moment.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
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

/// The writer's stack, in bytes: it holds a path or two.
const STACK: usize = 256 << 10;

/// The shell of [`crate::core::Effect::TokenFile`]. The thread starts with the first one.
pub struct TokenFiles {
    monitor: Arc<MonitorClient>,
    queue: Lock<Option<Sender<Job>>>,
}

enum Job {
    Keep {
        engine: Weak<Engine>,
        account: Arc<str>,
        path: Arc<str>,
        capability: Capability,
        content: Option<Arc<Secret>>,
    },
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
        let job = Job::Keep {
            engine: Arc::downgrade(engine),
            account,
            // Of a configuration that may be replaced before the file is.
            capability: self.monitor.capability(TOKEN_FILE, &path),
            path,
            content,
        };
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
    for job in queue {
        // One helper for all that is waiting.
        let mut helper = None;
        perform(job, monitor, &mut helper);
        for job in queue.try_iter() {
            perform(job, monitor, &mut helper);
        }
    }
}

fn perform(job: Job, monitor: &MonitorClient, helper: &mut Option<Helper>) {
    match job {
        Job::Flush(done) => {
            // The asking thread may have given up.
            let _ = done.send(());
        }
        Job::Keep {
            engine,
            account,
            path,
            capability,
            content,
        } => {
            guard::job("a token file", || {
                let Some(engine) = engine.upgrade() else {
                    return;
                };
                let kept = keep(monitor, helper, &path, &capability, content.as_deref());
                if let Err(failure) = kept {
                    *helper = None;
                    let why = format!("{path}: {failure}");
                    engine.with(|core, cx| core.publish_failed(cx, &account, &why));
                }
            });
        }
    }
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
