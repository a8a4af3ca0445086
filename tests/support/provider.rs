//! A scripted authorization server on loopback. Without a script it is honest (issuer.rs); a
//! script says, request by request, how it fails. It records what it is asked, and tests wait on
//! that record instead of sleeping.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, setsockopt,
    socket, sockopt,
};

use super::PATIENCE;
use super::http::{Pairs, Request, Response, read_request};
use super::issuer::{Issuer, Settings, token_error};
use super::wait::{self, Watched};

/// The path of the authorization endpoint.
pub const AUTHORIZE: &str = "/authorize";
/// The path of the token endpoint.
pub const TOKEN: &str = "/token";
/// The path of the device authorization endpoint.
/// Where authorization requests are pushed to (RFC 9126).
pub const PUSH: &str = "/par";
/// The device authorization endpoint.
pub const DEVICE_AUTHORIZATION: &str = "/device_authorization";
/// The path of the page where a device code is entered.
pub const DEVICE: &str = "/device";
/// The path of the revocation endpoint.
pub const REVOKE: &str = "/revoke";

/// The path of the registration endpoint.
pub const REGISTER: &str = "/register";
/// The path of the metadata (RFC 8414).
pub const METADATA: &str = "/.well-known/oauth-authorization-server";
/// The path of OpenID Connect's, where there is nothing.
pub const OPENID: &str = "/.well-known/openid-configuration";

/// The start of the paths of the accounts' own token endpoints.
const TOKEN_OF: &str = "/token/";

/// How long a reply waits at its gate: the test opens it, or ends and takes the provider along.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// How one request is answered.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// Honestly, as without a script.
    Happy,
    /// With exactly this.
    Reply(Response),
    /// With an OAuth error: a redirect from the authorization endpoint, a 400 with JSON elsewhere.
    Error(&'static str, &'static str),
    /// With this status and Location.
    Redirect(u16, String),
    /// Never: the connection stays open until the client hangs up.
    Hang,
    /// With a TCP reset.
    Reset,
    /// By closing the connection.
    Close,
    /// Honestly, but the last byte of the reply is missing.
    Truncated,
    /// Honestly, but nothing of the reply is sent: the classic lost rotation.
    HappyButLost,
    /// Honestly and at once, but only so many bytes of the reply arrive before the gate opens.
    Drip { bytes: usize, gate: Gate },
    /// With 200 and a JSON string of so many bytes.
    Huge(usize),
    /// When the gate opens, as said there; until then the request has no effect.
    Gated(Gate, Box<Scripted>),
}

impl Scripted {
    /// `status` with a body of `content_type`.
    pub fn reply(status: u16, content_type: &str, body: &str) -> Self {
        Scripted::Reply(Response::new(status, content_type, body))
    }

    /// `status` with a JSON body.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Scripted::reply(status, "application/json", &body.to_string())
    }

    /// The honest answer, when `gate` opens.
    pub fn gated(gate: &Gate) -> Self {
        Scripted::Gated(gate.clone(), Box::new(Scripted::Happy))
    }
}

/// Holds replies back until the test opens it, for good.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Watched<bool>>);

impl Gate {
    pub fn new() -> Self {
        Gate::default()
    }

    pub fn open(&self) {
        self.0.change(|open| *open = true);
    }

    fn wait(&self) {
        let _ = self.0.try_wait(FOREVER, |open| open.then_some(()));
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Which connection it came on, counted from 1.
    pub connection: u64,
    /// When it had arrived.
    pub at: Instant,
    /// When it had been answered.
    pub answered: Option<Instant>,
    pub method: String,
    pub path: String,
    pub query: Pairs,
    pub headers: Pairs,
    pub form: Pairs,
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    issuer: Issuer,
    scripts: HashMap<String, VecDeque<Scripted>>,
    requests: Vec<Recorded>,
    /// How many clients of a hanging request have hung up.
    hangups: usize,
    connections: HashMap<u64, Arc<TcpStream>>,
    opened: u64,
    /// Those that a reply waits at, or did.
    gates: Vec<Gate>,
    stopping: bool,
}

/// The running server. Dropping it closes every connection and joins every thread.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    state: Arc<Watched<State>>,
    accepting: Option<JoinHandle<()>>,
}

impl Provider {
    /// Starts an honest server on a port of the system's choice.
    pub fn start() -> Self {
        Provider::tagged("")
    }

    /// The same, with `tag` before each of its codes and tokens.
    pub fn tagged(tag: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        Provider::on(listener, tag)
    }

    fn on(listener: TcpListener, tag: &str) -> Self {
        let address = listener.local_addr().expect("the listener's address");
        let state = Arc::new(Watched::new(State {
            issuer: Issuer::new(tag),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        Provider {
            address,
            state,
            accepting: Some(thread::spawn(move || accept(&listener, &shared))),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The URL of `path` on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn auth_uri(&self) -> String {
        self.url(AUTHORIZE)
    }

    pub fn token_uri(&self) -> String {
        self.url(TOKEN)
    }

    /// An account block of pizauth.conf(5) for this server.
    pub fn account(&self, name: &str) -> String {
        self.account_with(name, "")
    }

    /// The same with further options.
    pub fn account_with(&self, name: &str, options: &str) -> String {
        format!(
            "account \"{name}\" {{\n    auth_uri = \"{}\";\n    token_uri = \"{}\";\n    \
             client_id = \"client-of-{name}\";\n    scopes = [\"mail\", \"offline\"];\n    \
             {options}\n}}\n",
            self.auth_uri(),
            self.token_uri()
        )
    }

    /// An account block with nothing but the issuer, the client and the scopes, and `options`.
    pub fn issuer_account(&self, name: &str, options: &str) -> String {
        format!(
            "account \"{name}\" {{\n    issuer = \"{}\";\n    \
             client_id = \"client-of-{name}\";\n    scopes = [\"mail\", \"offline\"];\n    \
             {options}\n}}\n",
            self.url("")
        )
    }

    /// The same with a token endpoint of its own, so that a script meets that account's requests
    /// and no other's: `path` is [`TOKEN`], a slash and more.
    pub fn account_at(&self, name: &str, path: &str, options: &str) -> String {
        self.account_with(name, options)
            .replace(&self.token_uri(), &self.url(path))
    }

    /// Changes how the honest half behaves from now on.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.state
            .change(|state| change(&mut state.issuer.settings));
    }

    /// Ends every grant, as when the user takes the consent back.
    pub fn end_grants(&self) {
        self.state.change(|state| state.issuer.end_grants());
    }

    /// Ends the grants of one client.
    pub fn end_grants_of(&self, client_id: &str) {
        self.state
            .change(|state| state.issuer.end_grants_of(client_id));
    }

    /// Whether a resource server would accept `access_token` (expiry aside).
    pub fn accepts(&self, access_token: &str) -> bool {
        self.state.read(|state| state.issuer.accepts(access_token))
    }

    /// Answers the next request for `path` that has no script yet as `scripted` says.
    pub fn script(&self, path: &str, scripted: Scripted) {
        self.state.change(|state| {
            let queue = state.scripts.entry(path.into()).or_default();
            queue.push_back(scripted);
        });
    }

    /// Forgets what is scripted for `path` and not yet used; says how much that was.
    pub fn unscript(&self, path: &str) -> usize {
        let queue = self.state.change(|state| state.scripts.remove(path));
        queue.map_or(0, |queue| queue.len())
    }

    /// The requests for `path` until now.
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        self.state.read(|state| state.requests_for(path))
    }

    /// Waits until at least `count` requests for `path` have arrived, and gives them all.
    pub fn wait_for(&self, path: &str, count: usize) -> Vec<Recorded> {
        self.try_wait_for(path, count, PATIENCE)
            .unwrap_or_else(|| panic!("waited in vain for request {count} for {path}"))
    }

    /// The same with another deadline; `None` when they don't come in time.
    pub fn try_wait_for(
        &self,
        path: &str,
        count: usize,
        patience: Duration,
    ) -> Option<Vec<Recorded>> {
        self.state.try_wait(patience, |state| {
            let found = state.requests_for(path);
            (found.len() >= count).then_some(found)
        })
    }

    /// Waits until `count` clients have hung up on a [`Scripted::Hang`].
    pub fn wait_for_hangups(&self, count: usize) {
        self.try_wait_for_hangups(count, PATIENCE)
            .unwrap_or_else(|| panic!("waited in vain for hang-up {count}"));
    }

    /// The same with another deadline; `None` when they don't hang up in time.
    pub fn try_wait_for_hangups(&self, count: usize, patience: Duration) -> Option<()> {
        self.state
            .try_wait(patience, |state| (state.hangups >= count).then_some(()))
    }

    /// The server goes down; its port refuses connections from now on.
    pub fn go_down(self) -> Dormant {
        let port = self.port();
        drop(self);
        Dormant::at(port)
    }

    /// Closes every connection, in use or idle, as a server's or a router's timeout does.
    pub fn drop_connections(&self) {
        self.state.change(State::drop_connections);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.state.change(|state| {
            state.stopping = true;
            // Before the gates open: what waits at one mustn't be answered any more.
            state.drop_connections();
            state.gates.iter().for_each(Gate::open);
        });
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// A port of a server that is down: connections to it are refused, and nobody else can take it.
#[derive(Debug)]
pub struct Dormant {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Dormant {
    /// Binds a port without listening on it.
    pub fn new() -> Self {
        Dormant::at(0)
    }

    /// The same with a port that was just given up.
    fn at(port: u16) -> Self {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .expect("a socket");
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("close-on-exec");
        setsockopt(&socket, sockopt::ReuseAddr, &true).expect("to take a port that was in use");
        // A child that another thread has just forked holds the old socket until it runs its program.
        let address = SockaddrIn::new(127, 0, 0, 1, port);
        wait::until("a port on loopback", || {
            bind(socket.as_raw_fd(), &address).ok()
        });
        let bound: SockaddrIn = getsockname(socket.as_raw_fd()).expect("the socket's address");
        Dormant {
            socket,
            address: SocketAddr::from((bound.ip(), bound.port())),
        }
    }

    /// The URL of `path` on the server that isn't up.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Brings the server up.
    pub fn wake(self) -> Provider {
        listen(&self.socket, Backlog::MAXCONN).expect("to listen");
        Provider::on(TcpListener::from(self.socket), "")
    }
}

impl State {
    fn requests_for(&self, path: &str) -> Vec<Recorded> {
        let wanted = self.requests.iter().filter(|request| request.path == path);
        wanted.cloned().collect()
    }

    /// Records `request`, and takes what is scripted for it.
    fn record(&mut self, connection: u64, request: &Request) -> Scripted {
        self.requests.push(Recorded {
            connection,
            at: Instant::now(),
            answered: None,
            method: request.method.clone(),
            path: request.path().into(),
            query: request.query(),
            headers: request.headers.clone(),
            form: request.form(),
            body: request.body.clone(),
        });
        self.scripts
            .get_mut(request.path())
            .and_then(VecDeque::pop_front)
            .unwrap_or(Scripted::Happy)
    }

    /// The last request of a connection has been answered.
    fn note_answer(&mut self, connection: u64) {
        let mut recorded = self.requests.iter_mut().rev();
        if let Some(last) = recorded.find(|it| it.connection == connection) {
            last.answered = Some(Instant::now());
        }
    }

    fn happy(&mut self, request: &Request) -> Response {
        let path = match request.path() {
            path if path.starts_with(TOKEN_OF) => TOKEN,
            path => path,
        };
        match (path, request.method.as_str()) {
            (AUTHORIZE, "GET") => self.issuer.authorize(&request.query()),
            (TOKEN, "POST") => self.issuer.token(request),
            (PUSH, "POST") => self.issuer.push(request),
            (DEVICE_AUTHORIZATION, "POST") => self.issuer.authorize_device(request),
            (DEVICE, "GET") => self.issuer.enter_device_code(&request.query()),
            (REVOKE, "POST") => self.issuer.revoke(request),
            (REGISTER, "POST") => self.issuer.register(request),
            (METADATA, "GET") => {
                let host = request.headers.header("Host").unwrap_or_default();
                self.issuer.metadata(host)
            }
            (AUTHORIZE | TOKEN | REVOKE, _) => {
                Response::new(405, "text/plain", "not by this method\n")
            }
            _ => Response::new(404, "text/plain", "nothing here\n"),
        }
    }

    fn drop_connections(&mut self) {
        for (_, stream) in self.connections.drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes `stream` in; `None` when the server is going down.
    fn connect(&mut self, stream: TcpStream) -> Option<(u64, Arc<TcpStream>)> {
        if self.stopping {
            return None;
        }
        self.opened += 1;
        let stream = Arc::new(stream);
        self.connections.insert(self.opened, Arc::clone(&stream));
        Some((self.opened, stream))
    }
}

fn accept(listener: &TcpListener, state: &Arc<Watched<State>>) {
    let mut handlers = Vec::new();
    for stream in listener.incoming().flatten() {
        let Some((id, stream)) = state.change(|state| state.connect(stream)) else {
            break;
        };
        let state = Arc::clone(state);
        handlers.push(thread::spawn(move || {
            // A client that goes away or talks nonsense is the test's business, not ours.
            let _ = converse(id, &stream, &state);
            state.change(|state| state.connections.remove(&id));
        }));
    }
    for handler in handlers {
        let _ = handler.join();
    }
}

/// Whether the connection can take another request.
#[derive(PartialEq, Eq)]
enum Then {
    KeepAlive,
    Close,
}

fn converse(id: u64, stream: &TcpStream, state: &Watched<State>) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let scripted = state.change(|state| state.record(id, &request));
        let then = perform(scripted, &request, &mut reader, state)?;
        state.change(|state| state.note_answer(id));
        let last = request
            .headers
            .header("Connection")
            .is_some_and(|value| value == "close");
        if last || then == Then::Close {
            break;
        }
    }
    Ok(())
}

fn perform(
    scripted: Scripted,
    request: &Request,
    reader: &mut BufReader<&TcpStream>,
    state: &Watched<State>,
) -> io::Result<Then> {
    let happy = || state.change(|state| state.happy(request));
    let mut stream = *reader.get_ref();
    match scripted {
        Scripted::Happy => send(stream, &happy()),
        Scripted::Reply(reply) => send(stream, &reply),
        Scripted::Error(error, description) if request.path() == AUTHORIZE => {
            let query = request.query();
            send(
                stream,
                &state.read(|state| state.issuer.refuse(&query, error, description)),
            )
        }
        Scripted::Error(error, description) => send(stream, &token_error(error, description)),
        Scripted::Redirect(status, location) => {
            send(stream, &Response::redirect(status, &location))
        }
        Scripted::Hang => {
            // Whatever else it sends is of no interest: this ends when it hangs up, or we do.
            let _ = io::copy(&mut reader.by_ref(), &mut io::sink());
            state.change(|state| state.hangups += 1);
            Ok(Then::Close)
        }
        Scripted::Reset => {
            let at_once = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&stream, sockopt::Linger, &at_once)?;
            Ok(Then::Close)
        }
        Scripted::Close => Ok(Then::Close),
        Scripted::Truncated => {
            let mut bytes = happy().to_bytes();
            bytes.pop();
            stream.write_all(&bytes)?;
            Ok(Then::Close)
        }
        Scripted::HappyButLost => {
            happy();
            Ok(Then::Close)
        }
        Scripted::Drip { bytes, gate } => {
            let reply = happy().to_bytes();
            let (first, rest) = reply.split_at(bytes.min(reply.len()));
            stream.write_all(first)?;
            pass(&gate, state);
            stream.write_all(rest)?;
            Ok(Then::KeepAlive)
        }
        Scripted::Huge(bytes) => send_huge(stream, bytes),
        Scripted::Gated(gate, scripted) => {
            pass(&gate, state);
            perform(*scripted, request, reader, state)
        }
    }
}

/// Waits at `gate`, which opens at the latest when the server goes down.
fn pass(gate: &Gate, state: &Watched<State>) {
    let stopping = state.change(|state| {
        state.gates.push(gate.clone());
        state.stopping
    });
    if !stopping {
        gate.wait();
    }
}

fn send(mut stream: &TcpStream, reply: &Response) -> io::Result<Then> {
    stream.write_all(&reply.to_bytes())?;
    Ok(Then::KeepAlive)
}

/// Sends a body piece by piece, so that the server needs no memory for it.
fn send_huge(mut stream: &TcpStream, bytes: usize) -> io::Result<Then> {
    const PIECE: [u8; 4096] = [b'x'; 4096];
    let head = format!(
        "HTTP/1.1 200 Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\"",
        bytes + 2
    );
    stream.write_all(head.as_bytes())?;
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE.len());
        stream.write_all(&PIECE[..piece])?;
        left -= piece;
    }
    stream.write_all(b"\"")?;
    Ok(Then::KeepAlive)
}
