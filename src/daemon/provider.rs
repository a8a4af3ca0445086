//! HTTP to the token endpoints: a few worker threads that share one agent, and with it connections
//! and TLS sessions. Workers start when there is work and end when there is none.

use std::{
    collections::VecDeque,
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use nix::errno::Errno;
use ureq::{
    Agent, Error, Timeout,
    config::Config,
    http,
    tls::{RootCerts, TlsConfig},
};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{clock, shared::Shared};
use crate::{
    core::AttemptId,
    oauth::token::{MAX_BODY_BYTES, Outcome, Reply, Request},
};

/// How many requests are under way at once: 3,000 tokens due together are done within a minute
/// even when each takes a tenth of a second, and the threads stay few.
const MAX_WORKERS: usize = 8;

/// How many of the workers one endpoint may keep busy, so that one which hangs leaves the others
/// theirs.
const MAX_WORKERS_AN_ENDPOINT: usize = 7;

/// A worker's stack, in bytes: TLS needs a few tens of kilobytes.
const WORKER_STACK: usize = 512 << 10;

/// How long a request may take from name lookup to the last byte: half a minute with the second
/// that ureq takes longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(29);

/// How long a connection is kept for the next request: long enough for accounts that are due
/// together, shorter than any server keeps it. One that the server closes while a request is on its
/// way looks like a lost reply.
const MAX_IDLE: Duration = Duration::from_secs(1);

/// How much of a reply is read, in bytes: one more than is understood, so that a reply which is too
/// long can be told from one that was lost.
const MAX_READ: u64 = MAX_BODY_BYTES as u64 + 1;

/// One request that waits for a worker or is with one.
struct Job {
    account: Arc<str>,
    attempt: AttemptId,
    request: Request,
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

/// An agent for each way out: what stays on this machine never goes through a proxy.
struct Agents {
    direct: Agent,
    proxied: Agent,
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
        let mut queue = self.lock();
        queue.waiting.push_back(Job {
            account,
            attempt,
            request,
        });
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
            report(
                shared,
                &job,
                Outcome::NotSent(format!("no thread to ask with: {error}")),
            );
        }
    }

    fn work(&self, shared: &Arc<Shared>) {
        let mut agents = None;
        while let Some(job) = self.next() {
            let sent = clock::now().instant;
            // Whatever a library does, the attempt gets its outcome and the worker goes on.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                ask(agents.get_or_insert_with(|| self.agents()), &job.request)
            }))
            .unwrap_or_else(|_| Outcome::Lost("an internal error".into()));
            shared.with(|core, cx| {
                core.token_outcome(cx, &job.account, job.attempt, sent, &outcome);
            });
            self.done(&job.request.endpoint);
        }
    }

    /// The first job whose endpoint has a worker left; `None` ends the worker.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        let at = queue.waiting.iter().position(|job| {
            let busy = queue.busy.iter().flatten();
            busy.filter(|endpoint| **endpoint == job.request.endpoint)
                .count()
                < MAX_WORKERS_AN_ENDPOINT
        });
        let job = at.and_then(|at| queue.waiting.remove(at));
        let idle = queue.busy.iter().position(Option::is_none);
        match (&job, idle) {
            (Some(job), Some(idle)) => {
                if let Some(slot) = queue.busy.get_mut(idle) {
                    *slot = Some(job.request.endpoint.clone());
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

/// POSTs one form.
fn ask(agents: &Agents, request: &Request) -> Outcome {
    let idle = match request.only_once {
        true => Duration::ZERO,
        false => MAX_IDLE,
    };
    let mut post = agents
        .toward(&request.endpoint)
        .post(request.endpoint.as_str())
        .config()
        .max_idle_age(idle)
        .build()
        .header(http::header::ACCEPT, "application/json")
        .header(
            http::header::CONTENT_TYPE,
            "application/x-www-form-urlencoded",
        );
    for header in &request.headers {
        post = post.header(&header.name, header.value.expose());
    }
    match post.send(request.form.expose().as_bytes()) {
        Ok(response) => read(response),
        Err(error) => failed(&error),
    }
}

impl Agents {
    fn new() -> Self {
        // The process's default; another library can't have set one, so the result says nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = |proxy| {
            Config::builder()
                .timeout_global(Some(REQUEST_TIMEOUT))
                .http_status_as_error(false)
                .max_idle_age(MAX_IDLE)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(concat!("pizauth/", env!("CARGO_PKG_VERSION")))
                .proxy(proxy)
                .tls_config(
                    TlsConfig::builder()
                        .root_certs(RootCerts::PlatformVerifier)
                        .build(),
                )
                .build()
        };
        Agents {
            direct: Agent::new_with_config(config(None)),
            proxied: Agent::new_with_config(config(ureq::Proxy::try_from_env())),
        }
    }

    fn toward(&self, endpoint: &Url) -> &Agent {
        let local = match endpoint.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match local {
            true => &self.direct,
            false => &self.proxied,
        }
    }
}

fn read(response: http::Response<ureq::Body>) -> Outcome {
    let header = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let status = response.status().as_u16();
    let retry_after = header(http::header::RETRY_AFTER);
    let location = header(http::header::LOCATION);
    // ureq's own limit is an error; here the rest just isn't read.
    let mut reader = response.into_body().into_reader().take(MAX_READ);
    // Room for any usual reply: a buffer that grew would leave its secrets behind.
    let mut body = Zeroizing::new(Vec::with_capacity(16 << 10));
    match reader.read_to_end(&mut body) {
        Ok(_) => Outcome::Reply(Reply {
            status,
            retry_after,
            location,
            body,
        }),
        Err(error) => Outcome::Lost(format!("the reply couldn't be read: {error}")),
    }
}

/// Whether anything of the request may have reached the endpoint decides whether a code may be
/// sent again.
fn failed(error: &Error) -> Outcome {
    let text = error.to_string();
    let not_sent = match error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::InvalidProxyUrl
        | Error::ConnectProxyFailed(_)
        | Error::Tls(_)
        // No certificates to trust, or no name to check: a handshake's errors come as Io.
        | Error::Rustls(_)
        | Error::BadUri(_)
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) if is_famine(error) => true,
        Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::NotFound
                // rustls' word for a handshake that failed.
                | io::ErrorKind::InvalidData
        ),
        _ => false,
    };
    match not_sent {
        true => Outcome::NotSent(text),
        false => Outcome::Lost(text),
    }
}

/// Whether there was no descriptor for a socket: one that exists never says so.
fn is_famine(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

fn report(shared: &Arc<Shared>, job: &Job, outcome: Outcome) {
    shared.with(|core, cx| {
        core.token_outcome(cx, &job.account, job.attempt, cx.now.instant, &outcome);
    });
}
