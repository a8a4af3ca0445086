//! Token files. A thread of its own writes them, since a home directory on a network may hang;
//! each is replaced in one step, and is the user's alone from its first moment.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{guard, shared::Shared};
use crate::{paths, secret::Secret};

/// The writer's stack, in bytes: it holds a path or two.
const STACK: usize = 256 << 10;

/// The shell of [`crate::core::Effect::TokenFile`]. The thread starts with the first one.
#[derive(Default)]
pub struct TokenFiles(Mutex<Option<Sender<Job>>>);

enum Job {
    Keep {
        account: Arc<str>,
        path: Arc<str>,
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
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let job = Job::Keep {
            account,
            path,
            content,
        };
        if sender.is_none() {
            *sender = start(shared);
        }
        // Without a thread, nothing is written; `start` has said so, and tries again next time.
        if let Some(queue) = &*sender
            && queue.send(job).is_err()
        {
            *sender = None;
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
        match job {
            Job::Flush(done) => {
                // Whoever asked may have lost patience.
                let _ = done.send(());
            }
            Job::Keep {
                account,
                path,
                content,
            } => {
                guard::job("a token file", || {
                    if let Err(why) = keep(&path, content.as_deref())
                        && let Some(shared) = shared.upgrade()
                    {
                        shared.with(|core, cx| core.publish_failed(cx, &account, &why));
                    }
                });
            }
        }
    }
}

fn keep(written: &str, content: Option<&Secret>) -> Result<(), String> {
    let path = paths::expand(written)
        .ok_or_else(|| format!("no home directory: where {written} is can't be told (set HOME)"))?;
    let outcome = match content {
        Some(content) => replace(&path, content),
        None => remove(&path),
    };
    outcome.map_err(|error| format!("{written}: {error}"))
}

fn replace(path: &Path, content: &Secret) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new: PathBuf = path.with_file_name(name);
    // Nobody else uses this name; what is there was left by a process of the same number.
    remove(&new)?;
    let outcome = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(content.expose().as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    if outcome.is_err() {
        // The error that matters is known.
        let _ = remove(&new);
    }
    outcome
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
