//! The redirection endpoint (RFC 6749 3.1.2, RFC 8252 7.3): where a browser brings an
//! authorization response. It reads requests and shows pages; what a response means, and whose it
//! is, its [`CallbackHandler`] decides.

mod bind;
pub mod http;
mod page;
mod pages;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;
use std::{io, net::TcpListener};

use url::{Url, form_urlencoded};

use crate::serve::{self, ConnId, Inbox, Limits, Listener, Next, Service, Share, Socket, Unparked};

use self::http::{HttpRequest, Method, Parser, StatusCode};
pub use bind::{Open, bind};
pub use page::SignInPage;
pub use pages::Pages;
pub use tls::{Identity, IdentityDer};

/// What strangers on the loopback interface may cost a server with so many descriptors. One address
/// has as much as all others together: what keeps one of them busy keeps nobody from the other. The
/// first connections make way in a crowd, so as many are kept as come in while a browser says what it
/// wants: it needs milliseconds, unless the machine is busy.
pub fn limits(descriptors: usize) -> Limits {
    let share = Share {
        connections: (descriptors / 16).clamp(8, 256),
        parked: 32,
    };
    Limits {
        first: share,
        others: share,
        // The two more are an empty line that may come first.
        max_input: http::MAX_HEAD + http::MAX_BODY + 2,
        read_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
    }
}

/// How long a browser waits for the exchange before it gets a page that says what it waits for.
pub const WAIT_TIMEOUT: Duration = Duration::from_millis(700);

/// After how many seconds a browser asks again that waits for the provider's answer.
const SOON: u8 = 1;

/// How long the name of a short address is, in characters.
const SHORT_LENGTH: usize = 22;

/// A fatal alert (RFC 8446 6: protocol_version) for a peer that greets the http port with TLS: a
/// browser that tries https first falls back at once.
const TLS_ALERT: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 70];

/// A port to serve.
pub struct Site {
    /// Its sockets: one, or one for each of the loopback addresses.
    pub sockets: Vec<TcpListener>,
    /// Its certificate: with one it is https, without one http.
    pub identity: Option<Arc<Identity>>,
}

impl Site {
    /// The port of all its sockets.
    ///
    /// # Errors
    /// When the system can't tell, or there is none.
    pub fn port(&self) -> io::Result<u16> {
        let first = self.sockets.first().map(TcpListener::local_addr);
        first.map_or(Err(io::ErrorKind::NotFound.into()), |it| Ok(it?.port()))
    }

    /// The same once more, with descriptors of its own.
    ///
    /// # Errors
    /// When the process has none left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(TcpListener::try_clone);
        Ok(Site {
            sockets: sockets.collect::<io::Result<_>>()?,
            identity: self.identity.clone(),
        })
    }
}

/// Knows the redirect URIs, and takes the callbacks. Its calls must not block.
pub trait CallbackHandler {
    /// Whether a redirect URI of this scheme has this host (lower case, no port). The loopback
    /// names needn't be asked about.
    fn has_host(&self, scheme: &str, host: &str) -> bool;

    /// Whether a redirect URI of this scheme has this path.
    fn has_path(&self, scheme: &str, path: &str) -> bool;

    /// A browser has come to such a path `at` one of these hosts, with `params` of an authorization
    /// response: the query, or the form of a POST, not yet decoded. The account whose
    /// sign-in they are for, when its outcome isn't known yet: that is [`Pages::promise`], sent to the
    /// connection through [`serve::Remote::send`] as its last bytes.
    ///
    /// # Errors
    /// The page to show at once.
    fn callback(&mut self, id: ConnId, at: &Url, params: &str) -> Result<String, SignInPage>;

    /// Who is to give the tokens for the sign-in to `account` that a browser waits for, and what has
    /// gone wrong so far.
    fn awaited(&self, account: &str) -> (Option<String>, Option<String>);

    /// Where the browser goes that has asked for the short address with this name: `None` within is
    /// there again, in a moment. A page says why it can't go on.
    fn sign_in_at(&mut self, name: &str) -> Option<Result<Option<String>, SignInPage>>;

    /// Where the browser goes that is to try the sign-in to `account` again.
    fn sign_in_again(&mut self, account: &str) -> Option<String>;

    /// A connection that was told to wait is gone, answered or not.
    fn left(&mut self, _id: ConnId) {}
}

/// Serves these ports until [`serve::Remote::stop`]; a browser waits for so long until it gets a page.
///
/// # Errors
/// When a socket can't be made non-blocking, and those of [`serve::run`].
pub fn run(
    limits: Limits,
    wait_timeout: Duration,
    sites: Vec<Site>,
    endpoint: impl CallbackHandler,
    pages: Arc<Pages>,
    inbox: Inbox,
) -> io::Result<()> {
    let (mut listeners, mut origins) = (Vec::new(), Vec::new());
    for Site { sockets, identity } in sites {
        let scheme = identity.as_ref().map_or("http", |_| "https");
        for socket in sockets {
            let port = socket.local_addr()?.port();
            origins.push(Origin { scheme, port });
            let mut listener = Listener::new(socket)?;
            listener.wrap = identity.as_ref().map(|it| it.wrap());
            listeners.push(listener);
        }
    }
    serve::run(
        listeners,
        Redirects {
            origins,
            endpoint,
            pages,
            wait_timeout,
        },
        limits,
        inbox,
    )
}

/// What a listener is to browsers.
#[derive(Clone, Copy)]
struct Origin {
    scheme: &'static str,
    port: u16,
}

struct Redirects<E> {
    /// One for each listener.
    origins: Vec<Origin>,
    endpoint: E,
    pages: Arc<Pages>,
    wait_timeout: Duration,
}

struct Conn {
    id: ConnId,
    origin: Origin,
    parser: Parser,
    /// The account that it waits for.
    waiting: Option<String>,
}

impl<E: CallbackHandler> Service for Redirects<E> {
    type Conn = Conn;

    fn connected(&mut self, id: ConnId, listener: usize, _peer: &Socket) -> Option<Conn> {
        let origin = *self.origins.get(listener)?;
        Some(Conn {
            id,
            origin,
            parser: Parser::default(),
            waiting: None,
        })
    }

    fn received(&mut self, conn: &mut Conn, input: &mut Vec<u8>, end: bool) -> Next {
        if input.first() == Some(&http::TLS_HANDSHAKE) {
            log::debug!("a redirect connection speaks TLS on the port of http");
            return Next::Reply(TLS_ALERT.to_vec());
        }
        match conn.parser.parse(input) {
            Ok(Some(request)) => match self.answer(conn, &request) {
                Some(reply) => Next::Reply(reply),
                None => Next::Park(Some(self.wait_timeout)),
            },
            Ok(None) if !end => Next::More,
            // A browser connects ahead of need, and thinks better of it.
            Ok(None) if input.is_empty() => Next::Close,
            Ok(None) => Next::Reply(refuse(StatusCode::BAD_REQUEST, false)),
            Err(status) => Next::Reply(refuse(status, false)),
        }
    }

    fn unparked(&mut self, conn: &mut Conn, why: Unparked) -> Vec<u8> {
        match why {
            // In a crowd too the sign-in goes on, and only the page can't wait for it.
            Unparked::Deadline | Unparked::Crowded => {
                let account = conn.waiting.clone().unwrap_or_default();
                self.pages
                    .promise(conn.id, &SignInPage::Waiting { account })
            }
            Unparked::Draining | Unparked::Stopping => self.pages.reply(&SignInPage::Stopping),
        }
    }

    fn closed(&mut self, conn: Conn) {
        if conn.waiting.is_some() {
            self.endpoint.left(conn.id);
        }
    }
}

impl<E: CallbackHandler> Redirects<E> {
    /// The reply to a request; `None` when it must wait. Only a GET or a form with parameters of an
    /// authorization response, to one of our hosts and paths, goes to the endpoint: whatever else
    /// browsers send of their own accord must consume nothing.
    fn answer(&mut self, conn: &mut Conn, request: &HttpRequest) -> Option<Vec<u8>> {
        let scheme = conn.origin.scheme;
        let bare = request.method == Method::HEAD;
        let Some(host) = self.host(conn.origin, request.host) else {
            log::debug!("a redirect connection asks for another host");
            return Some(refuse(StatusCode::MISDIRECTED_REQUEST, bare));
        };
        let name = request.path.strip_prefix('/').unwrap_or_default();
        let asked = matches!(request.method, Method::GET | Method::HEAD);
        let short = name.len() == SHORT_LENGTH && request.query.is_empty() && asked;
        match short.then(|| self.endpoint.sign_in_at(name)).flatten() {
            Some(Ok(Some(uri))) => return Some(http::found(&uri, bare)),
            Some(Ok(None)) => {
                return Some(http::refresh(&page::fixed("going_on"), request.path, SOON));
            }
            Some(Err(page)) => return Some(self.pages.reply(&page)),
            None => {}
        }
        if request.method == Method::POST && request.path == pages::AGAIN {
            return Some(self.again(request, scheme));
        }
        let params = match request.method {
            Method::OPTIONS => return Some(http::reply(StatusCode::NO_CONTENT, "", true)),
            Method::HEAD => "",
            Method::GET => request.query,
            Method::POST => request.body,
            _ => return Some(refuse(StatusCode::METHOD_NOT_ALLOWED, false)),
        };
        let known = self.endpoint.has_path(scheme, request.path);
        if !known || !is_response(params) {
            return Some(self.page(known, request.path, bare));
        }
        let Ok(at) = Url::parse(&format!("{scheme}://{host}{}", request.path)) else {
            return Some(self.pages.reply(&SignInPage::Stale));
        };
        match self.endpoint.callback(conn.id, &at, params) {
            Err(outcome) => Some(self.pages.reply(&outcome)),
            Ok(account) => {
                conn.waiting = Some(account);
                None
            }
        }
    }

    /// For who brings nothing: the page that a browser was sent on to, or the one at a redirect's
    /// path, if this is a `known` one.
    fn page(&self, known: bool, path: &str, bare: bool) -> Vec<u8> {
        let waiting = |account: &str, waited| {
            let (host, trouble) = self.endpoint.awaited(account);
            page::waiting(account, host.as_deref(), trouble.as_deref(), waited)
        };
        match self.pages.at(path, waiting) {
            Some((status, page)) => http::reply(status, &page, bare),
            None if known => http::reply_with_script(&page::fixed("idle"), page::SCRIPT_HASH, bare),
            None if self.pages.had(path) => {
                http::reply(StatusCode::NOT_FOUND, &page::fixed("gone"), bare)
            }
            None => refuse(StatusCode::NOT_FOUND, bare),
        }
    }

    /// The page of a failed sign-in asks for another one.
    fn again(&mut self, request: &HttpRequest, scheme: &str) -> Vec<u8> {
        let token = request.body.strip_prefix("token=");
        let token = token.filter(|_| request.is_same_origin(scheme));
        let account = token.and_then(|token| self.pages.take_again(token));
        match account.and_then(|account| self.endpoint.sign_in_again(&account)) {
            Some(uri) => http::refresh(&page::fixed("going_on"), &uri, 0),
            None => self.pages.reply(&SignInPage::Stale),
        }
    }

    /// The host that is asked, in lower case, if it is one of ours: a page of another site, whose
    /// name has been made to point here (DNS rebinding), must get nothing.
    fn host(&self, origin: Origin, authority: &str) -> Option<String> {
        let (name, port) = http::split_authority(authority)?;
        let name = name.to_ascii_lowercase();
        let known = matches!(name.as_str(), "localhost" | "127.0.0.1" | "[::1]")
            || self.endpoint.has_host(origin.scheme, &name);
        (known && port.is_none_or(|port| port == origin.port)).then_some(name)
    }
}

/// Whether there is anything of an authorization response (RFC 6749 4.1.2) in `params`.
fn is_response(params: &str) -> bool {
    let mut pairs = form_urlencoded::parse(params.as_bytes());
    pairs.any(|(name, _)| matches!(&*name, "code" | "error" | "state"))
}

fn refuse(status: StatusCode, bare: bool) -> Vec<u8> {
    http::reply(status, &page::refusal(status), bare)
}
