//! A connection to a mail server: name lookup, TCP, TLS and a sign-in, all with one deadline.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, crypto::ring, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt;

use super::end::End;
use crate::{
    error::{Exit, Failure},
    http::{self, race, tls_error, tls_failure},
    mail::{Action, Goal, MailRefusal, MailVerdict, Server, Session, SignIn, Tls},
    oauth::token::Refusal,
    secret::Secret,
};

/// How long a server gets for everything, from its name to its last line: two slow round trips for
/// each step, and what a server waits before it refuses a password.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server's addresses have to take a connection: a home line that wakes up needs some.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// A connection with a deadline for all that is done with it.
pub struct Connection {
    end: End,
    deadline: Instant,
    /// The server is on this machine.
    loopback: bool,
}

/// A sign-in on a connection, and what came of it.
pub struct Attempt {
    /// The connection.
    pub connection: Connection,
    /// What was said.
    pub sign_in: SignIn,
    /// Whether there is a session.
    pub outcome: Result<Session, MailRefusal>,
}

impl Attempt {
    /// Connects and signs in; what both sides say goes to `show`.
    ///
    /// # Errors
    /// When there is no connection, or `show` fails.
    pub fn make(
        server: &Server,
        addresses: &[SocketAddr],
        config: &Arc<ClientConfig>,
        user: Option<&str>,
        token: &Secret,
        goal: Goal,
        show: impl Fn(Vec<String>) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut connection = Connection::open(addresses)?;
        if server.tls == Tls::AtOnce {
            connection.secure(server, config)?;
        }
        let mut sign_in = SignIn::new(server, connection.loopback, user, token, goal);
        let outcome = loop {
            let action = sign_in.next_action();
            show(std::mem::take(&mut sign_in.transcript))?;
            match action {
                Action::Read => {
                    let mut heard = Vec::new();
                    match connection.receive(&mut heard)? {
                        false => break Err(sign_in.hung_up()),
                        true => sign_in.feed(&heard),
                    }
                }
                Action::Send(bytes) => connection.send(&bytes)?,
                Action::StartTls => {
                    connection.secure(server, config)?;
                    sign_in.secured();
                }
                Action::SignedIn(session) => break Ok(session),
                Action::Refused(refusal) => break Err(refusal),
            }
        };
        Ok(Attempt {
            connection,
            sign_in,
            outcome,
        })
    }
}

/// The addresses of a server.
///
/// # Errors
/// When it has none, or nobody says.
pub fn look_up(server: &Server) -> Result<Vec<SocketAddr>, Failure> {
    http::look_up(&server.host, server.port, SESSION_TIMEOUT)
        .map_err(|error| unreachable(&format!("can't be found: {error}")))
}

/// The exit status of a refusal.
pub fn exit(refusal: &MailRefusal) -> Exit {
    match &refusal.verdict {
        _ if refusal.is_passing() => Exit::TryLater,
        MailVerdict::Refused { .. } | MailVerdict::NoMailbox(_) => Exit::AuthorisationNeeded,
        MailVerdict::NoUser => Exit::Usage,
        _ => Exit::Protocol,
    }
}

impl Connection {
    /// Connects to the first address of a server that answers.
    fn open(addresses: &[SocketAddr]) -> Result<Self, Failure> {
        let deadline = Instant::now() + SESSION_TIMEOUT;
        let (stream, address) = race(addresses, CONNECT_TIMEOUT)
            .map_err(|error| unreachable(&format!("can't be reached: {}", why(&error))))?;
        Ok(Connection {
            end: End::socket(stream),
            deadline,
            loopback: address.ip().to_canonical().is_loopback(),
        })
    }

    /// Begins TLS, with a certificate for `server`.
    fn secure(&mut self, server: &Server, config: &Arc<ClientConfig>) -> Result<(), Failure> {
        let name = ServerName::try_from(server.host.clone())
            .map_err(|error| Failure::new(Exit::Usage, format!("can't have TLS: {error}")))?;
        let tls = ClientConnection::new(Arc::clone(config), name)
            .map_err(|error| Failure::new(Exit::Protocol, format!("TLS fails: {error}")))?;
        self.end.secure(tls.into());
        self.end
            .agree(self.deadline)
            .map_err(|error| explain(&error))
    }

    /// The server; the deadline is the caller's now.
    pub fn into_end(self) -> End {
        self.end
    }

    /// Sends all of these.
    ///
    /// # Errors
    /// When it doesn't take them.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.end.say(bytes, self.deadline);
        sent.map_err(|error| unreachable(&format!("doesn't listen any more: {}", why(&error))))
    }

    /// Reads what there is; false at the end, which many reach without TLS's own farewell.
    fn receive(&mut self, heard: &mut Vec<u8>) -> Result<bool, Failure> {
        let read = self.end.listen(heard, self.deadline);
        read.map_err(|error| unreachable(&format!("says no more: {}", why(&error))))
    }
}

/// What TLS needs on this side: the system's trust store.
///
/// # Errors
/// When there is none.
pub fn tls() -> Result<Arc<ClientConfig>, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier);
    let config = config.map_err(|error| {
        let what = format!("there is no TLS on this machine: {error}");
        Failure::new(Exit::Other, what)
    })?;
    Ok(Arc::new(config.with_no_client_auth()))
}

fn unreachable(what: &str) -> Failure {
    Failure::new(Exit::TryLater, what)
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut => "it takes too long".into(),
        ErrorKind::UnexpectedEof => "it hung up".into(),
        _ => error.to_string(),
    }
}

/// Why there is no TLS.
fn explain(error: &io::Error) -> Failure {
    let Some(inner) = tls_error(error) else {
        return unreachable(&format!("TLS doesn't come about: {}", why(error)));
    };
    if let rustls::Error::InvalidMessage(_) = inner {
        return Failure::new(Exit::Protocol, "TLS fails: the answer is not TLS").hint(
            "the server doesn't begin with TLS: use imap://, pop3:// or smtp://, where TLS comes a little \
             later",
        );
    }
    let Refusal { text, hint } = tls_failure(inner);
    Failure::new(Exit::Protocol, format!("TLS fails: {text}")).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_keeps_silent_is_left_when_the_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let server = Server::parse(&url).unwrap();
        let open = |millis| {
            let mut connection = Connection::open(&look_up(&server).unwrap()).unwrap();
            connection.deadline = Instant::now() + Duration::from_millis(millis);
            connection
        };
        let failure = open(50).receive(&mut Vec::new()).unwrap_err();
        let told = (failure.exit, failure.what.as_str());
        assert_eq!(told, (Exit::TryLater, "says no more: it takes too long"));
        let failure = open(50).secure(&server, &tls().unwrap()).unwrap_err();
        let told = (failure.exit, failure.what.as_str());
        assert_eq!(
            told,
            (Exit::TryLater, "TLS doesn't come about: it takes too long")
        );
        // Its own time is over before anything is sent.
        let mut late = open(1);
        let _ = late.receive(&mut Vec::new());
        let failure = late.send(b"x").unwrap_err();
        assert_eq!(failure.what, "doesn't listen any more: it takes too long");
    }

    #[test]
    fn a_name_that_nobody_has_is_told() {
        let server = Server::parse("imap://nobody.invalid").unwrap();
        let failure = look_up(&server).err().unwrap();
        assert_eq!(failure.exit, Exit::TryLater);
        assert!(failure.what.starts_with("can't be found: "), "{failure}");
    }
}
