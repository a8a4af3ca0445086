//! Asking the providers: a few worker threads that share one agent, and with it connections
//! and TLS sessions. Workers start when there is work and end when there is none.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use url::Url;

use super::{clock, guard, shared::Shared};
use crate::{
    core::AttemptId,
    http::Agents,
    oauth::token::{Outcome, Request},
    time::Instant,
};

/// How many requests are under way at once: 3,000 tokens due together are done within a minute
/// even when each takes a tenth of a second, and the threads stay few.
const MAX_WORKERS: usize = 8;

/// How many of the workers one endpoint may keep busy, so that one which hangs leaves the others
/// theirs.
const MAX_WORKERS_AN_ENDPOINT: usize = 7;

/// A worker's stack, in bytes: TLS needs a few tens of kilobytes.
const WORKER_STACK: usize = 512 << 10;

/// One request that waits for a worker or is with one.
struct Job {
    attempt: AttemptId,
    what: What,
}

enum What {
    /// A form for an account.
    Form(Arc<str>, Request),
    /// An issuer's document.
    Document(Url),
}

impl Job {
    fn endpoint(&self) -> &Url {
        match &self.what {
            What::Form(_, request) => &request.endpoint,
            What::Document(url) => url,
        }
    }

    fn ask(&self, agents: &Agents) -> Outcome {
        match &self.what {
            What::Form(_, request) => agents.post(request),
            What::Document(url) => agents.get(url),
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// The endpoint that each running worker is asking, if it is asking one.
    busy: Vec<Option<Url>>,
    /// What the workers share. It goes with the last of them: a connection that is kept holds the
    /// last request and its reply in its buffers, and a trust store may change meanwhile.
    agents: Weak<Agents>,
}

/// The workers and their queue.
pub struct Provider {
    queue: Mutex<Queue>,
}

impl Provider {
    /// No worker runs yet and nothing of TLS is loaded.
    pub fn new() -> Self {
        Provider {
            queue: Mutex::default(),
        }
    }

    /// Queues a request; its outcome goes to the core.
    pub fn submit(
        &self,
        shared: &Arc<Shared>,
        account: Arc<str>,
        attempt: AttemptId,
        request: Request,
    ) {
        let what = What::Form(account, request);
        self.queue(shared, Job { attempt, what });
    }

    /// Queues the request for an issuer's document; its outcome goes to the core.
    pub fn discover(&self, shared: &Arc<Shared>, attempt: AttemptId, url: Url) {
        let what = What::Document(url);
        self.queue(shared, Job { attempt, what });
    }

    fn queue(&self, shared: &Arc<Shared>, job: Job) {
        let mut queue = self.lock();
        queue.waiting.push_back(job);
        if queue.busy.len() >= MAX_WORKERS {
            return;
        }
        queue.busy.push(None);
        drop(queue);
        let theirs = shared.clone();
        let worker = thread::Builder::new()
            .name("provider".into())
            .stack_size(WORKER_STACK);
        if let Err(error) = worker.spawn(move || theirs.provider().work(&theirs)) {
            log::warn!("can't start a thread: {error}");
            self.without_worker(shared, &error);
        }
    }

    /// A thread couldn't be had. Another worker does its work; when there is none, the request has
    /// failed and the core will come again.
    fn without_worker(&self, shared: &Arc<Shared>, error: &io::Error) {
        let mut queue = self.lock();
        if let Some(idle) = queue.busy.iter().position(Option::is_none) {
            queue.busy.swap_remove(idle);
        }
        let orphans = match queue.busy.is_empty() {
            true => std::mem::take(&mut queue.waiting),
            false => VecDeque::new(),
        };
        drop(queue);
        for job in orphans {
            let outcome = Outcome::NotSent(format!("no thread to ask with: {error}"));
            report(shared, &job, clock::now().instant, &outcome);
        }
    }

    fn work(&self, shared: &Arc<Shared>) {
        let mut agents = None;
        while let Some(job) = self.next() {
            let sent = clock::now().instant;
            // Whatever a library does, the attempt gets its outcome and the worker goes on.
            let asked = guard::job("a request to a provider", || {
                let outcome = job.ask(agents.get_or_insert_with(|| self.agents()));
                report(shared, &job, sent, &outcome);
            });
            if asked.is_none() {
                let outcome = Outcome::Lost("an internal error".into());
                // If it has had its outcome, this one is dropped.
                guard::job("a request's end", || report(shared, &job, sent, &outcome));
            }
            self.done(job.endpoint());
        }
    }

    /// The first job whose endpoint has a worker left; `None` ends the worker.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        let at = queue.waiting.iter().position(|job| {
            let busy = queue.busy.iter().flatten();
            busy.filter(|endpoint| *endpoint == job.endpoint()).count() < MAX_WORKERS_AN_ENDPOINT
        });
        let job = at.and_then(|at| queue.waiting.remove(at));
        let idle = queue.busy.iter().position(Option::is_none);
        match (&job, idle) {
            (Some(job), Some(idle)) => {
                if let Some(slot) = queue.busy.get_mut(idle) {
                    *slot = Some(job.endpoint().clone());
                }
            }
            (None, Some(idle)) => {
                queue.busy.swap_remove(idle);
            }
            (_, None) => {}
        }
        job
    }

    fn done(&self, endpoint: &Url) {
        let mut queue = self.lock();
        if let Some(slot) = queue
            .busy
            .iter_mut()
            .find(|busy| busy.as_ref() == Some(endpoint))
        {
            *slot = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agents(&self) -> Arc<Agents> {
        let mut queue = self.lock();
        queue.agents.upgrade().unwrap_or_else(|| {
            let agents = Arc::new(Agents::new());
            queue.agents = Arc::downgrade(&agents);
            agents
        })
    }
}

fn report(shared: &Arc<Shared>, job: &Job, sent: Instant, outcome: &Outcome) {
    shared.with(|core, cx| match &job.what {
        What::Form(account, _) => core.token_outcome(cx, account, job.attempt, sent, outcome),
        What::Document(_) => core.discovery_outcome(cx, job.attempt, outcome),
    });
}
