//! A small, honest authorization server, so that `make demo` needs no account anywhere. It holds
//! everything in memory, listens on loopback only, and exits when its stdin closes.
//!
//! ```text
//! demo-provider [--lifetime <seconds>] [--auto]   serve; the port is printed as one line
//!               [--sign-in-lasts <seconds>]       and say so, as Google does of an app in "Testing"
//! demo-provider --sign-in <url>                   be the user's browser: open, press Allow
//! demo-provider --check <url>                     ask the server about the token on stdin
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use pizauth::text::escape_html;
use sha2::{Digest, Sha256};
use url::{Position, Url};

#[allow(dead_code, missing_docs)]
#[path = "../tests/support/http.rs"]
mod http;

use http::{Pairs, Request, Response, read_request, read_response, write_request};

/// How long an access token lives, unless `--lifetime` says otherwise: long enough to be used,
/// short enough to watch its successor arrive.
const LIFETIME: Duration = Duration::from_secs(20);
/// How long an authorization code may wait for its exchange (RFC 6749, 4.1.2, allows 10 minutes).
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// How long to wait for the other end of a connection, which is on the same machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many random bytes a code, a token or a ticket has: 256 bits can't be guessed.
const RANDOM_BYTES: usize = 32;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-provider: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<()> {
    let mut auto = false;
    let mut lifetime = LIFETIME;
    let mut lasts = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--auto" => auto = true,
            "--lifetime" => {
                lifetime = Duration::from_secs(args.next().unwrap_or_default().parse()?);
            }
            "--sign-in-lasts" => {
                let secs = args.next().unwrap_or_default().parse()?;
                lasts = Some(Duration::from_secs(secs));
            }
            "--sign-in" => return sign_in(&Url::parse(&args.next().unwrap_or_default())?),
            "--check" => return check(&Url::parse(&args.next().unwrap_or_default())?),
            other => return Err(format!("unknown argument: {other}").into()),
        }
    }
    serve(Server::new(lifetime, auto, lasts))
}

// The server.

/// What has to be kept of a good authorization request.
struct Asked {
    client_id: String,
    redirect_uri: String,
    state: String,
    challenge: String,
}

struct Code {
    asked: Asked,
    expiry: Instant,
}

/// What the server remembers. Tickets, codes and refresh tokens are good once: use takes them out.
struct Server {
    lifetime: Duration,
    /// Agree in the user's place.
    auto: bool,
    /// How long a sign-in lasts, if not for ever.
    lasts: Option<Duration>,
    /// Pages that are shown, by the ticket in their form.
    shown: HashMap<String, Asked>,
    codes: HashMap<String, Code>,
    access_tokens: HashMap<String, Instant>,
    /// Refresh tokens, the clients that they belong to, and when their sign-ins end.
    refresh_tokens: HashMap<String, (String, Option<SystemTime>)>,
}

fn serve(server: Server) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let server = Arc::new(Mutex::new(server));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                if let Err(error) = converse(&stream, &server) {
                    eprintln!("demo-provider: {error}");
                }
            });
        }
    });
    // Whoever started it holds the other end: it goes when they go.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn converse(mut stream: &TcpStream, server: &Mutex<Server>) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
        let response = server.answer(&request)?;
        drop(server);
        stream.write_all(&response.to_bytes())?;
        if request.headers.header("Connection") == Some("close") {
            break;
        }
    }
    Ok(())
}

impl Server {
    fn new(lifetime: Duration, auto: bool, lasts: Option<Duration>) -> Self {
        Server {
            lifetime,
            auto,
            lasts,
            shown: HashMap::new(),
            codes: HashMap::new(),
            access_tokens: HashMap::new(),
            refresh_tokens: HashMap::new(),
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Response> {
        match (request.method.as_str(), request.path()) {
            ("GET", "/authorize") => self.authorize(&request.query()),
            ("POST", "/authorize") => self.decide(&request.form()),
            ("POST", "/token") => self.token(&request.form()),
            ("POST", "/check") => Ok(self.introspect(&request.form())),
            _ => Ok(page(404, "Nothing here", "<p>There is no such page.</p>")),
        }
    }

    /// The authorization endpoint (RFC 6749, 4.1.1): a page that asks the user.
    fn authorize(&mut self, query: &Pairs) -> Result<Response> {
        let asked = match Asked::new(query) {
            Ok(asked) => asked,
            Err(why) => {
                let why = format!("<p>{}.</p>", escape_html(&why));
                return Ok(page(400, "That request is not right", &why));
            }
        };
        if self.auto {
            return self.allow(asked);
        }
        let ticket = random()?;
        let form = format!(
            "<p><b>{}</b> asks for access to your mail.</p>\
             <form method=\"post\" action=\"/authorize\">\
             <input type=\"hidden\" name=\"ticket\" value=\"{ticket}\">\
             <button name=\"decision\" value=\"allow\">Allow</button> \
             <button name=\"decision\" value=\"refuse\">Refuse</button></form>",
            escape_html(&asked.client_id)
        );
        self.shown.insert(ticket, asked);
        Ok(page(200, "Demo provider", &form))
    }

    /// The user has pressed a button.
    fn decide(&mut self, form: &Pairs) -> Result<Response> {
        let ticket = form.get("ticket").unwrap_or_default();
        let Some(asked) = self.shown.remove(ticket) else {
            return Ok(page(400, "Already decided", "<p>Please start again.</p>"));
        };
        match form.get("decision") {
            Some("allow") => self.allow(asked),
            _ => asked.callback(&[
                ("error", "access_denied"),
                ("error_description", "the user pressed Refuse"),
            ]),
        }
    }

    fn allow(&mut self, asked: Asked) -> Result<Response> {
        let code = random()?;
        let callback = asked.callback(&[("code", &code)])?;
        let expiry = Instant::now() + CODE_LIFETIME;
        self.codes.insert(code, Code { asked, expiry });
        Ok(callback)
    }

    /// The token endpoint (RFC 6749, 4.1.3 and 6).
    fn token(&mut self, form: &Pairs) -> Result<Response> {
        let client_id = form.get("client_id").unwrap_or_default();
        let now = SystemTime::now();
        let mut end = self.lasts.map(|lasts| now + lasts);
        let granted = match form.get("grant_type") {
            Some("authorization_code") => self.redeem(form, client_id),
            Some("refresh_token") => {
                let token = form.get("refresh_token").unwrap_or_default();
                // Each is good for one refresh, whoever sends it.
                let (owner, ends) = self.refresh_tokens.remove(token).unwrap_or_default();
                end = ends;
                owner == client_id && end.is_none_or(|end| now < end)
            }
            _ => return Ok(token_error("unsupported_grant_type")),
        };
        if !granted {
            return Ok(token_error("invalid_grant"));
        }
        let (access_token, refresh_token) = (random()?, random()?);
        let mut reply = serde_json::json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": self.lifetime.as_secs(),
            "refresh_token": refresh_token,
        });
        let left = end.and_then(|end| end.duration_since(now).ok());
        if let (Some(left), Some(members)) = (left, reply.as_object_mut()) {
            members.insert("refresh_token_expires_in".into(), left.as_secs().into());
        }
        let expiry = Instant::now() + self.lifetime;
        self.access_tokens.insert(access_token, expiry);
        let refresh_token_of = (client_id.to_owned(), end);
        self.refresh_tokens.insert(refresh_token, refresh_token_of);
        Ok(Response::new(200, "application/json", reply.to_string()))
    }

    /// Whether the form's code is good, and the form comes from whoever asked for it (RFC 7636).
    fn redeem(&mut self, form: &Pairs, client_id: &str) -> bool {
        let code = form.get("code").unwrap_or_default();
        let Some(Code { asked, expiry }) = self.codes.remove(code) else {
            return false;
        };
        let verifier = form.get("code_verifier").unwrap_or_default();
        Instant::now() < expiry
            && asked.client_id == client_id
            && form.get("redirect_uri") == Some(&asked.redirect_uri)
            && asked.challenge == BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
    }

    /// Says whether a token is good now, and for how long (after RFC 7662).
    fn introspect(&self, form: &Pairs) -> Response {
        let token = form.get("token").unwrap_or_default();
        let expiry = self.access_tokens.get(token);
        let left = expiry.and_then(|expiry| expiry.checked_duration_since(Instant::now()));
        let reply = match left {
            Some(left) => serde_json::json!({ "active": true, "expires_in": left.as_secs() }),
            None => serde_json::json!({ "active": false }),
        };
        Response::new(200, "application/json", reply.to_string())
    }
}

impl Asked {
    /// Checks an authorization request; the error says what it lacks.
    fn new(query: &Pairs) -> std::result::Result<Self, String> {
        let one = |name: &str| match query.all(name).collect::<Vec<_>>()[..] {
            [value] if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(format!("it needs exactly one {name}")),
        };
        if one("response_type")? != "code" || one("code_challenge_method")? != "S256" {
            return Err("only codes with PKCE by S256 are given here".into());
        }
        let redirect_uri = one("redirect_uri")?;
        let host = Url::parse(&redirect_uri).map_err(|_| "its redirect_uri isn't one")?;
        // The code would leave the machine.
        if !matches!(host.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            return Err("its redirect_uri must lead to this machine".into());
        }
        Ok(Asked {
            client_id: one("client_id")?,
            redirect_uri,
            state: one("state")?,
            challenge: one("code_challenge")?,
        })
    }

    /// Sends the browser back to the client (RFC 6749, 4.1.2).
    fn callback(&self, pairs: &[(&str, &str)]) -> Result<Response> {
        let mut url = Url::parse(&self.redirect_uri)?;
        url.query_pairs_mut()
            .extend_pairs(pairs)
            .append_pair("state", &self.state);
        Ok(Response::redirect(303, url.as_str()))
    }
}

fn random() -> Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn token_error(error: &str) -> Response {
    let reply = serde_json::json!({ "error": error });
    Response::new(400, "application/json", reply.to_string())
}

fn page(status: u16, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <style>body{{font:1.1em/1.5 sans-serif;margin:4em auto;max-width:30em;padding:0 1em}}\
         button{{font:inherit;padding:.4em 1.5em}}</style><h1>{title}</h1>{body}</html>\n"
    );
    Response::new(status, "text/html; charset=utf-8", html)
}

// The user's browser, for machines that have none.

/// Opens the consent page, presses Allow, and prints the title of the page at the end of the way.
fn sign_in(url: &Url) -> Result<()> {
    let consent = fetch("GET", url, &Pairs::default())?;
    let text = consent.text();
    let ticket = between(&text, "name=\"ticket\" value=\"", "\"");
    let reply = match ticket {
        Some(ticket) => {
            let form = [("ticket", ticket), ("decision", "allow")].into();
            fetch("POST", &url.join("/authorize")?, &form)?
        }
        None => consent,
    };
    let Some(callback) = reply.header("Location") else {
        return Err(format!("{url} answers {}: {}", reply.status, reply.text()).into());
    };
    let callback = url.join(callback)?;
    let mut outcome = fetch("GET", &callback, &Pairs::default())?;
    if let Some(page) = outcome.header("Location") {
        outcome = fetch("GET", &callback.join(page)?, &Pairs::default())?;
    }
    let text = outcome.text();
    let title = between(&text, "<title>", "</title>").unwrap_or("(a page without a title)");
    println!("{}", title.trim());
    match outcome.status {
        200 => Ok(()),
        status => Err(format!("the sign-in ended with status {status}").into()),
    }
}

/// Asks the server how long the token on stdin is good for, and prints that; fails when it isn't.
fn check(url: &Url) -> Result<()> {
    let mut token = String::new();
    io::stdin().read_to_string(&mut token)?;
    let reply = fetch("POST", url, &[("token", token.trim())].into())?;
    let reply: serde_json::Value = serde_json::from_slice(&reply.body)?;
    match reply.get("expires_in").and_then(|left| left.as_u64()) {
        Some(left) => println!("valid for another {left}s"),
        None => return Err("the token is not valid".into()),
    }
    Ok(())
}

/// One request to a server on this machine; `form` is its body when it is a POST.
fn fetch(method: &str, url: &Url, form: &Pairs) -> Result<Response> {
    let host = url.host_str().ok_or("a URL without a host")?;
    let port = url.port_or_known_default().ok_or("a URL without a port")?;
    let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let headers = [
        ("Host", &url[Position::BeforeHost..Position::AfterPort]),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Connection", "close"),
    ]
    .into();
    let target = &url[Position::BeforePath..Position::AfterQuery];
    write_request(
        &mut stream,
        method,
        target,
        &headers,
        form.encode().as_bytes(),
    )?;
    Ok(read_response(&mut BufReader::new(stream), method)?)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}
