//! One program at a proxy, until it is signed in at the server.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::poll;
use nix::unistd::geteuid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::{ServerConfig, ServerConnection};

use super::privileged::{Errand, ask};
use super::{Shared, is_full};
use crate::config::{self, ProxyTls};
use crate::mail::accept::{Accepted, Acceptor, ProgramRefusal, UserPassword};
use crate::mail::{Goal, Session};
use crate::relay::dial::{self, Attempt};
use crate::relay::end::End;
use crate::relay::pump::Pump;
use crate::serve::Socket;
use crate::server::base::error::other;
use crate::{error::Failure, lock::Lock, paths, secret::Secret};

/// How long a program may take from one sign-in to the next, and to the first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same where others wait for their turn: a program that wants something has begun by then.
const CROWDED_PATIENCE: Duration = Duration::from_secs(5);

/// How often a program may give a wrong password.
const MAX_TRIES: u32 = 3;

/// How long it waits for the answer then, in milliseconds: whoever guesses has to come often.
const WRONG_PAUSE_MILLIS: u16 = 1000;

/// How often wrong passwords make a line in the log: who guesses is not to fill it.
const WRONG_LINE_EVERY: Duration = Duration::from_secs(60);

/// How old a password may be that a program doesn't know, before it is asked for again: it may have
/// been changed, and who guesses is not to have a command run each time.
const PASSWORD_AGE: Duration = Duration::from_secs(60);

/// One proxy.
pub struct Entrance {
    config: config::Proxy,
    tls: Option<Arc<ServerConfig>>,
    /// The programs' password, and when the command printed it.
    password: Lock<Option<(Secret, Instant)>>,
    /// When wrong passwords made a line in the log, and how many there were since.
    wrong: Lock<(Option<Instant>, u32)>,
    /// What the server's sessions can do, as far as that is known.
    capabilities: Lock<Vec<String>>,
}

impl Entrance {
    /// With the certificate that it needs.
    ///
    /// # Errors
    /// When that is of no use.
    pub fn new(config: &config::Proxy) -> Result<Self, Failure> {
        let address = &config.address;
        let of = |failure: Failure| other(&format!("proxy {address}: {}", failure.what));
        Ok(Entrance {
            tls: config.tls.as_ref().map(identity).transpose().map_err(of)?,
            config: config.clone(),
            password: Lock::default(),
            wrong: Lock::default(),
            capabilities: Lock::default(),
        })
    }

    /// Whether this is the password.
    fn admits(&self, shared: &Shared, number: usize, given: &Secret) -> Result<bool, Failure> {
        if self.config.password_cmd.is_none() {
            return Ok(true);
        }
        self.password.with(|known| {
            let fresh = |(_, at): &(Secret, Instant)| at.elapsed() < PASSWORD_AGE;
            match known {
                Some((password, _)) if password == given => return Ok(true),
                Some(known) if fresh(known) => return Ok(false),
                _ => {}
            }
            let password = ask(&shared.privileged, Errand::Password(number))?.secret;
            Ok(known.insert((password, Instant::now())).0 == *given)
        })
    }

    /// Counts a wrong password; how many there were since this was last said, if it is time to say so.
    fn count_wrong(&self) -> Option<u32> {
        self.wrong.with(|(said, count)| {
            *count = count.saturating_add(1);
            let is_due = said.is_none_or(|at| at.elapsed() >= WRONG_LINE_EVERY);
            is_due.then(|| {
                *said = Some(Instant::now());
                std::mem::take(count)
            })
        })
    }

    /// A session at the server; none for a wrong password.
    fn enter(
        &self,
        shared: &Shared,
        number: usize,
        given: &UserPassword,
    ) -> Result<Option<(dial::Connection, Session)>, Failure> {
        if !self.admits(shared, number, &given.password)? {
            return Ok(None);
        }
        let brought = ask(&shared.privileged, Errand::Token(number))?;
        let server = &self.config.server;
        let of = |what: String| other(&format!("{server}: {what}"));
        // Nothing else says whose it is.
        let said = Some(&*given.user).filter(|user| user.contains('@'));
        let hint = brought.login_hint.as_deref().or(said);
        let user = server.user(self.config.user.as_deref(), hint);
        let (found, tls, goal) = (&brought.addresses, &shared.tls, Goal::Session);
        let attempt = Attempt::make(server, found, tls, user, &brought.secret, goal, |_| Ok(()));
        let attempt = attempt.map_err(|failure| of(failure.what))?;
        let session = attempt.outcome.map_err(|refusal| of(refusal.reason))?;
        Ok(Some((attempt.connection, session)))
    }
}

/// What TLS needs on this side.
fn identity(tls: &ProxyTls) -> Result<Arc<ServerConfig>, Failure> {
    let of = |file: &str, why: &dyn std::fmt::Display| other(&format!("{file}: {why}"));
    let expand = |file: &str| paths::expand(file).ok_or_else(|| of(file, &"no home directory"));
    let chain = CertificateDer::pem_file_iter(expand(&tls.certificate)?)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| of(&tls.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(expand(&tls.key)?);
    let key = key.map_err(|error| of(&tls.key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|it| it.with_no_client_auth().with_single_cert(chain, key));
    Ok(Arc::new(
        config.map_err(|error| of(&tls.certificate, &error))?,
    ))
}

/// Signs a program in: its session, if it gets one.
///
/// # Errors
/// When it leaves, or takes too long.
pub fn admit(shared: &Arc<Shared>, number: usize, socket: Socket) -> io::Result<Option<Pump>> {
    let Some(proxy) = shared.proxies.get(number) else {
        return Ok(None);
    };
    // A socket's directory may be open to more users than was meant.
    let is_ours = |peer: paths::Peer| peer.uid == geteuid();
    if socket.local_addr()?.is_unix() && !paths::peer(&socket).is_some_and(is_ours) {
        return Ok(None);
    }
    let starttls = proxy.config.tls.as_ref().is_some_and(|tls| !tls.implicit);
    let capabilities = proxy.capabilities.with(|it| it.clone());
    let mut door = Door {
        proxy,
        acceptor: Acceptor::new(proxy.config.server.protocol, capabilities, starttls),
        program: End::socket(socket),
        shared,
        since: Instant::now(),
        input: Vec::new(),
        tries: 0,
    };
    if !starttls {
        door.secure()?;
    }
    door.say(&door.acceptor.greeting())?;
    while let Some(given) = door.hear()? {
        let goes_on = match proxy.enter(shared, number, &given) {
            Ok(Some((connection, session))) => {
                return Ok(Some(door.open(connection, &session)));
            }
            Ok(None) => door.refuse(None)?,
            Err(failure) => door.refuse(Some(&failure.what))?,
        };
        if !goes_on {
            break;
        }
    }
    Ok(None)
}

/// A program before its sign-in.
struct Door<'a> {
    proxy: &'a Entrance,
    acceptor: Acceptor,
    program: End,
    shared: &'a Arc<Shared>,
    /// Since when it is waited for.
    since: Instant,
    /// What it has said that hasn't been looked at yet.
    input: Vec<u8>,
    /// How many wrong passwords it has given.
    tries: u32,
}

impl Door<'_> {
    /// Begins TLS, where there is any.
    fn secure(&mut self) -> io::Result<()> {
        if let Some(config) = &self.proxy.tls {
            let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            self.program.secure(tls.into());
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.program.say(text.as_bytes(), Instant::now() + PATIENCE)
    }

    /// Waits for more that it says.
    fn listen(&mut self) -> io::Result<()> {
        loop {
            let deadline = Instant::now() + CROWDED_PATIENCE;
            let heard = self.program.listen(&mut self.input, deadline);
            let waited = self.since.elapsed();
            let is_over = waited > PATIENCE || (waited > CROWDED_PATIENCE && is_full(self.shared));
            match heard {
                Err(error) if error.kind() == ErrorKind::TimedOut && !is_over => {}
                Ok(false) => return Err(ErrorKind::UnexpectedEof.into()),
                outcome => return outcome.map(drop),
            }
        }
    }

    /// What it signs in with; `None` when it is to leave.
    fn hear(&mut self) -> io::Result<Option<UserPassword>> {
        loop {
            let mut output = Vec::new();
            let accepted = self.acceptor.feed(&mut self.input, &mut output);
            self.program.say(&output, Instant::now() + PATIENCE)?;
            match accepted {
                Accepted::More => self.listen().inspect_err(|_| {
                    // One that has left doesn't hear it.
                    let _ = self.say(&self.acceptor.bye("it takes too long"));
                })?,
                Accepted::StartTls => {
                    self.secure()?;
                    self.acceptor.secured();
                }
                Accepted::SignIn(given) => return Ok(Some(given)),
                Accepted::End => return Ok(None),
            }
        }
    }

    /// There is no session for it, for this reason, or since its password is wrong. Whether it may try
    /// again.
    fn refuse(&mut self, why: Option<&str>) -> io::Result<bool> {
        let address = &self.proxy.config.address;
        let refusal = match why {
            Some(why) => {
                log::warn!("proxy {address}: {why}");
                ProgramRefusal::Unavailable(why)
            }
            None => {
                let _ = poll(&mut [], WRONG_PAUSE_MILLIS);
                // Where others wait for their turn there is no second one.
                let cost = if is_full(self.shared) { MAX_TRIES } else { 1 };
                self.tries = self.tries.saturating_add(cost);
                if let Some(count) = self.proxy.count_wrong() {
                    log::warn!("proxy {address}: wrong passwords: {count}");
                }
                ProgramRefusal::Password
            }
        };
        self.say(&self.acceptor.refuse(refusal))?;
        self.since = Instant::now();
        if self.tries >= MAX_TRIES {
            self.say(&self.acceptor.bye("too many wrong passwords"))?;
        }
        Ok(self.tries < MAX_TRIES && !self.acceptor.has_ended())
    }

    /// The session of a program that has been signed in.
    fn open(mut self, connection: dial::Connection, session: &Session) -> Pump {
        let can = &session.capabilities;
        (self.proxy.capabilities).with(|known| known.clone_from(can));
        self.program.tell(self.acceptor.admit(can).as_bytes());
        self.program.tell(&session.rest);
        let mut server = connection.into_end();
        server.tell(self.acceptor.opening().as_bytes());
        server.tell(&self.input);
        Pump::new(self.program, server, None)
    }
}
