//! Asking the providers: a few worker threads that share one agent, and with it TLS sessions.
//! Workers start when there is work and end when there is none.

use std::sync::{Arc, Weak};
use std::{io, thread};

use url::Url;

use super::{engine::Engine, helpers::MonitorClient, request_queue::RequestQueue};
use crate::http::{self, Agents, Names};
use crate::oauth::token::{Outcome, Request};
use crate::server::base::{clock, guard};
use crate::server::ipc::helper_messages::HelperKind;
use crate::time::{Instant, humane};
use crate::{core::AttemptId, lock::Lock, sys};

/// A worker's stack, in bytes: TLS needs a few tens of kilobytes.
const WORKER_STACK: usize = 512 << 10;

/// One request that waits for a worker or is with one.
struct Job {
    attempt: AttemptId,
    what: What,
}

/// What is asked.
pub enum What {
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

    /// Who keeps a worker busy with it, whatever the path.
    fn host(&self) -> String {
        let url = self.endpoint();
        let port = url.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", url.host_str().unwrap_or_default())
    }

    /// When its answer is too late; `None` when somebody waits to sign in.
    fn due(&self) -> Option<Instant> {
        match &self.what {
            What::Form(_, request) => request.due,
            What::Document(_) => None,
        }
    }

    fn ask(&self, agents: &Agents) -> Outcome {
        match &self.what {
            What::Form(_, request) => {
                match http::assertion::signed(request, clock::now().wall.secs()) {
                    Ok(request) => agents.post(&request),
                    Err(why) => Outcome::NotSent(why),
                }
            }
            What::Document(url) => agents.get(url),
        }
    }

    /// Who is asked, and for whom: nothing else of a request is fit for a log.
    fn words(&self) -> String {
        let host = self.endpoint().host_str().unwrap_or_default();
        match &self.what {
            What::Form(account, _) => format!("{account}: asking {host}"),
            What::Document(_) => format!("asking {host} what it says of itself"),
        }
    }
}

#[derive(Default)]
struct Workers {
    requests: RequestQueue<Job>,
    /// What the workers share. It goes with the last of them: a trust store may change meanwhile.
    agents: Weak<Agents>,
}

/// The workers and their queue.
pub struct Provider {
    workers: Lock<Workers>,
    names: Names,
}

impl Provider {
    /// No worker runs yet and nothing of TLS is loaded.
    pub fn new(monitor: Arc<MonitorClient>) -> Self {
        Provider {
            workers: Lock::default(),
            names: Names(Arc::new(move |host, port, limit| {
                let found = monitor.with_helper(HelperKind::Names, |helper| {
                    helper.look_up(host, port, limit)
                });
                found.map_err(|failure| io::Error::other(failure.what))
            })),
        }
    }

    /// Queues a request; its outcome goes to the core.
    pub fn submit(self: &Arc<Self>, engine: &Arc<Engine>, attempt: AttemptId, what: What) {
        let job = Job { attempt, what };
        let (host, due) = (job.host(), job.due());
        if self.requests(|queue| queue.add(host, due, job)) {
            self.start_worker(engine);
        }
    }

    fn requests<T>(&self, f: impl FnOnce(&mut RequestQueue<Job>) -> T) -> T {
        self.workers.with(|workers| f(&mut workers.requests))
    }

    /// Starts the worker for which the queue has made a place.
    fn start_worker(self: &Arc<Self>, engine: &Arc<Engine>) {
        let (us, theirs) = (self.clone(), engine.clone());
        let worker = thread::Builder::new()
            .name("provider".into())
            .stack_size(WORKER_STACK);
        if let Err(error) = worker.spawn(move || us.work(&theirs)) {
            log::warn!("can't start a thread: {error}");
            // Another worker does its work; when there is none, the request has failed and the core
            // will come again.
            for job in self.requests(RequestQueue::without_worker) {
                let outcome = Outcome::NotSent(format!("no thread to ask with: {error}"));
                report(engine, &job, clock::now().instant, &outcome);
            }
        }
    }

    fn work(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut agents = None;
        while let Some((job, task, more)) = self.requests(RequestQueue::take) {
            if more {
                self.start_worker(engine);
            }
            let sent = clock::now().instant;
            // Whatever a library does, the attempt gets its outcome and the worker goes on.
            let asked = guard::job("a request to a provider", || {
                log::debug!("{}", job.words());
                let outcome = job.ask(agents.get_or_insert_with(|| self.agents()));
                let took = clock::now().instant.since(sent).as_millis();
                log::debug!("{}: {} after {took} ms", job.words(), came(&outcome));
                report(engine, &job, sent, &outcome);
            });
            if asked.is_none() {
                let outcome = Outcome::Lost("an internal error".into());
                // If it has had its outcome, this one is dropped.
                guard::job("a request's end", || report(engine, &job, sent, &outcome));
            }
            self.requests(|queue| queue.done(&task));
        }
        drop(agents);
        if self.requests(|queue| queue.is_idle()) {
            // The last one leaves behind what all the replies and the trust store took.
            sys::trim();
        }
    }

    fn agents(&self) -> Arc<Agents> {
        self.workers.with(|workers| {
            workers.agents.upgrade().unwrap_or_else(|| {
                let agents = Arc::new(Agents::asking(&self.names));
                workers.agents = Arc::downgrade(&agents);
                agents
            })
        })
    }
}

fn report(engine: &Arc<Engine>, job: &Job, sent: Instant, outcome: &Outcome) {
    match &job.what {
        What::Form(account, _) => {
            let due = engine.with(|core, cx| {
                core.on(cx, account, |it, env| {
                    it.token_outcome(env, job.attempt, sent, outcome)
                });
                let due = core.refresh_due(account);
                due.map(|at| at.since(cx.now.instant))
            });
            if let Some(span) = due {
                log::debug!("{account}: next refresh in {}", humane(span));
            }
        }
        What::Document(_) => {
            engine.with(|core, cx| core.discovery_outcome(cx, job.attempt, outcome));
        }
    }
}

/// What came of a request, without a word of what is in it.
fn came(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reply(reply) => format!("answered {}", reply.status),
        Outcome::NotSent(_) => "not reached".into(),
        Outcome::Lost(_) => "no whole answer".into(),
    }
}
