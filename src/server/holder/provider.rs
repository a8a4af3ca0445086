//! Asking the providers: a few worker threads that share one agent, and with it TLS sessions.
//! Workers start when there is work and end when there is none.

use std::sync::{Arc, Weak};
use std::{collections::VecDeque, io, thread};

use url::Url;

use super::{engine::Engine, helpers::MonitorClient};
use crate::http::{Agents, Names};
use crate::oauth::token::{Outcome, Request};
use crate::server::base::{clock, guard};
use crate::server::ipc::helper_messages::HelperKind;
use crate::time::{Instant, humane};
use crate::{core::AttemptId, lock::Lock, sys};

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
struct Queue {
    waiting: VecDeque<Job>,
    /// The endpoint that each running worker is asking, if it is asking one.
    busy: Vec<Option<Url>>,
    /// What the workers share. It goes with the last of them: a trust store may change meanwhile.
    agents: Weak<Agents>,
}

impl Queue {
    /// The endpoint that keeps all the workers busy that it may.
    fn full(&self) -> Option<&Url> {
        // One at most: two would need more workers than there are.
        const { assert!(2 * MAX_WORKERS_AN_ENDPOINT > MAX_WORKERS) };
        let busy = || self.busy.iter().flatten();
        let workers = |endpoint: &Url| busy().filter(|it| *it == endpoint).count();
        busy().find(|endpoint| workers(endpoint) >= MAX_WORKERS_AN_ENDPOINT)
    }

    /// The first job whose endpoint has a worker left.
    fn ready(&self) -> Option<usize> {
        let full = self.full();
        let mut waiting = self.waiting.iter();
        waiting.position(|job| full != Some(job.endpoint()))
    }

    /// Makes a place for another worker, unless one is on its way to a job or there are enough.
    fn hire(&mut self) -> bool {
        let wanted = self.busy.len() < MAX_WORKERS && self.busy.iter().all(Option::is_some);
        if wanted {
            self.busy.push(None);
        }
        wanted
    }

    /// Adds a job; whether it needs another worker, for which there is a place then.
    fn add(&mut self, job: Job) -> bool {
        let ready = self.full() != Some(job.endpoint());
        self.waiting.push_back(job);
        // What waited before either can't be begun, or has a worker on its way.
        ready && self.hire()
    }

    /// A worker's next job, and whether there is another one for another worker, for which there is a
    /// place then. Workers start one after the other, so that there are no more than are needed.
    fn take(&mut self) -> Option<(Job, bool)> {
        let at = self.ready();
        let job = at.and_then(|at| self.waiting.remove(at));
        let idle = self.busy.iter().position(Option::is_none);
        match (&job, idle) {
            (Some(job), Some(idle)) => {
                if let Some(slot) = self.busy.get_mut(idle) {
                    *slot = Some(job.endpoint().clone());
                }
            }
            (None, Some(idle)) => {
                self.busy.swap_remove(idle);
            }
            (_, None) => {}
        }
        let job = job?;
        let more = self.ready().is_some() && self.hire();
        Some((job, more))
    }
}

/// The workers and their queue.
pub struct Provider {
    queue: Lock<Queue>,
    names: Names,
}

impl Provider {
    /// No worker runs yet and nothing of TLS is loaded.
    pub fn new(monitor: Arc<MonitorClient>) -> Self {
        Provider {
            queue: Lock::default(),
            names: Names::asking(Arc::new(move |host, port, limit| {
                let found = monitor
                    .helper(HelperKind::Names)
                    .and_then(|mut helper| helper.look_up(host, port, limit));
                found.map_err(|failure| io::Error::other(failure.what))
            })),
        }
    }

    /// Queues a request; its outcome goes to the core.
    pub fn submit(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        account: Arc<str>,
        attempt: AttemptId,
        request: Request,
    ) {
        let what = What::Form(account, request);
        self.queue(engine, Job { attempt, what });
    }

    /// Queues the request for an issuer's document; its outcome goes to the core.
    pub fn discover(self: &Arc<Self>, engine: &Arc<Engine>, attempt: AttemptId, url: Url) {
        let what = What::Document(url);
        self.queue(engine, Job { attempt, what });
    }

    fn queue(self: &Arc<Self>, engine: &Arc<Engine>, job: Job) {
        let needs_worker = self.queue.with(|queue| queue.add(job));
        if needs_worker {
            self.start_worker(engine);
        }
    }

    /// Starts the worker for which [`Queue::hire`] has made a place.
    fn start_worker(self: &Arc<Self>, engine: &Arc<Engine>) {
        let (us, theirs) = (self.clone(), engine.clone());
        let worker = thread::Builder::new()
            .name("provider".into())
            .stack_size(WORKER_STACK);
        if let Err(error) = worker.spawn(move || us.work(&theirs)) {
            log::warn!("can't start a thread: {error}");
            self.without_worker(engine, &error);
        }
    }

    /// A thread couldn't be had. Another worker does its work; when there is none, the request has
    /// failed and the core will come again.
    fn without_worker(&self, engine: &Arc<Engine>, error: &io::Error) {
        let orphans = self.queue.with(|queue| {
            if let Some(idle) = queue.busy.iter().position(Option::is_none) {
                queue.busy.swap_remove(idle);
            }
            if queue.busy.is_empty() {
                std::mem::take(&mut queue.waiting)
            } else {
                VecDeque::new()
            }
        });
        for job in orphans {
            let outcome = Outcome::NotSent(format!("no thread to ask with: {error}"));
            report(engine, &job, clock::now().instant, &outcome);
        }
    }

    fn work(self: &Arc<Self>, engine: &Arc<Engine>) {
        let mut agents = None;
        while let Some((job, more)) = self.next() {
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
            self.done(job.endpoint());
        }
        drop(agents);
        if self.queue.with(|queue| queue.busy.is_empty()) {
            // The last one leaves behind what all the replies and the trust store took.
            sys::trim_heap();
        }
    }

    fn next(&self) -> Option<(Job, bool)> {
        self.queue.with(Queue::take)
    }

    fn done(&self, endpoint: &Url) {
        self.queue.with(|queue| {
            let mut busy = queue.busy.iter_mut();
            if let Some(slot) = busy.find(|busy| busy.as_ref() == Some(endpoint)) {
                *slot = None;
            }
        });
    }

    fn agents(&self) -> Arc<Agents> {
        self.queue.with(|queue| {
            queue.agents.upgrade().unwrap_or_else(|| {
                let agents = Arc::new(Agents::asking(&self.names));
                queue.agents = Arc::downgrade(&agents);
                agents
            })
        })
    }
}

fn report(engine: &Arc<Engine>, job: &Job, sent: Instant, outcome: &Outcome) {
    match &job.what {
        What::Form(account, _) => {
            let due = engine.with(|core, cx| {
                core.token_outcome(cx, account, job.attempt, sent, outcome);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job(host: &str) -> Job {
        let what = What::Document(Url::parse(&format!("https://{host}/")).unwrap());
        let attempt = AttemptId::from_number(1);
        Job { attempt, what }
    }

    /// What a queue of these jobs makes of every worker that it asks for: the hosts that are asked,
    /// and how many wait.
    fn begin(queue: &mut Queue, hosts: &[&str]) -> (Vec<String>, usize) {
        let mut asked = Vec::new();
        for host in hosts {
            let mut wanted = queue.add(job(host));
            while wanted {
                let (job, more) = queue.take().unwrap();
                asked.push(job.endpoint().host_str().unwrap_or_default().to_owned());
                wanted = more;
            }
        }
        (asked, queue.waiting.len())
    }

    #[test]
    fn one_endpoint_gets_seven_workers_and_another_one_the_eighth() {
        let mut queue = Queue::default();
        assert_eq!(begin(&mut queue, &["a"; 20]), (vec!["a".to_owned(); 7], 13));
        assert_eq!(queue.busy.len(), 7);
        assert_eq!(begin(&mut queue, &["b", "b", "a"]).0, ["b"]);
        assert_eq!(queue.busy.len(), 8);
        assert_eq!(queue.waiting.len(), 15);
    }

    #[test]
    fn a_worker_on_its_way_is_enough_until_it_sees_that_there_is_more() {
        let mut queue = Queue::default();
        assert!(queue.add(job("a")));
        assert!(!queue.add(job("a")) && !queue.add(job("b")));
        assert_eq!(queue.busy.len(), 1);
        let (_, more) = queue.take().unwrap();
        assert!(more && queue.busy.len() == 2);
        let (_, more) = queue.take().unwrap();
        assert!(more && queue.busy.len() == 3);
        let (last, more) = queue.take().unwrap();
        assert!(!more && last.endpoint().host_str() == Some("b"));
        // It has nothing left to do, and goes.
        queue.busy.push(None);
        assert!(queue.take().is_none() && queue.busy.len() == 3);
    }
}
