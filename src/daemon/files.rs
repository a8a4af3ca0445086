//! Token files. A thread of its own writes them, since a home directory on a network may hang;
//! each is replaced in one step, and is the user's alone from its first moment.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    broker::Hand,
    guard,
    seals::{self, Seal},
    shared::Shared,
};
use crate::{error::Failure, secret::Secret};

/// The writer's stack, in bytes: it holds a path or two.
const STACK: usize = 256 << 10;

/// The shell of [`crate::core::Effect::TokenFile`]. The thread starts with the first one.
#[derive(Default)]
pub struct TokenFiles(Mutex<Option<Sender<Job>>>);

enum Job {
    Keep {
        account: Arc<str>,
        path: Arc<str>,
        seal: Seal,
        content: Option<Arc<Secret>>,
    },
    /// Everything before has been done when this is taken up.
    Flush(std::sync::mpsc::SyncSender<()>),
}

impl TokenFiles {
    /// Queues a file.
    pub fn submit(
        &self,
        shared: &Arc<Shared>,
        account: Arc<str>,
        path: Arc<str>,
        content: Option<Arc<Secret>>,
    ) {
        // Of a configuration that may be replaced before the file is.
        let seal = shared.broker().seal(seals::TOKEN_FILE, &path);
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let job = Job::Keep {
            account,
            seal: seal.unwrap_or_default(),
            path,
            content,
        };
        if sender.is_none() {
            *sender = start(shared);
        }
        // Without a thread, nothing is written; `start` has said so, and tries again next time.
        if let Some(queue) = &*sender {
            if queue.send(job).is_err() {
                *sender = None;
            }
        }
    }

    /// Waits until all that was queued is done; false when that takes longer.
    pub fn finish(&self, patience: Duration) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, finished) = sync_channel(1);
        match &*sender {
            Some(queue) if queue.send(Job::Flush(done)).is_ok() => {
                finished.recv_timeout(patience).is_ok()
            }
            Some(_) | None => true,
        }
    }
}

fn start(shared: &Arc<Shared>) -> Option<Sender<Job>> {
    let (sender, receiver) = channel();
    let shared = Arc::downgrade(shared);
    let thread = thread::Builder::new().name("files".into());
    match thread
        .stack_size(STACK)
        .spawn(move || work(&receiver, &shared))
    {
        Ok(_) => Some(sender),
        Err(error) => {
            log::error!("token files can't be written: {error}");
            None
        }
    }
}

fn work(queue: &Receiver<Job>, shared: &Weak<Shared>) {
    for job in queue {
        // One hand for all that is waiting.
        let mut hand = None;
        perform(job, shared, &mut hand);
        for job in queue.try_iter() {
            perform(job, shared, &mut hand);
        }
    }
}

fn perform(job: Job, shared: &Weak<Shared>, hand: &mut Option<Hand>) {
    match job {
        Job::Flush(done) => {
            // Whoever asked may have lost patience.
            let _ = done.send(());
        }
        Job::Keep {
            account,
            path,
            seal,
            content,
        } => {
            guard::job("a token file", || {
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                if let Err(failure) = keep(&shared, hand, &path, &seal, content.as_deref()) {
                    *hand = None;
                    let why = format!("{path}: {failure}");
                    shared.with(|core, cx| core.publish_failed(cx, &account, &why));
                }
            });
        }
    }
}

fn keep(
    shared: &Shared,
    hand: &mut Option<Hand>,
    path: &Arc<str>,
    seal: &Seal,
    content: Option<&Secret>,
) -> Result<(), Failure> {
    let hand = match hand.take() {
        Some(held) => hand.insert(held),
        None => hand.insert(shared.broker().hand()?),
    };
    match content {
        Some(content) => hand.replace(path, seal, content),
        None => hand.remove(path, seal),
    }
}
