//! The configuration: text in, [`Config`] out. Pure: reads no file and no environment.

mod ast;
mod error;
mod key;
mod lexer;
mod lower;
mod options;
mod pitfalls;
mod proxy;
mod secrets;
mod section;
mod server;
mod socket;
mod source;
mod state;
mod syntax;
mod value;
mod write;

use std::{sync::Arc, time::Duration};

use cfgrammar::Span;
use jiff::{civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::secret::{Mark, Secret};

pub use error::ConfigError;
pub use options::{Level, options};
pub(crate) use server::is_name;
pub use server::{Protocol, Server, Tls};
pub use source::TokenSource;
pub use state::keepers;
pub use value::{is_loopback, is_plain};
pub use write::{account, comment, quoted, string};

/// How large a config file may be, in bytes: room for tens of thousands of accounts, and whatever
/// is larger was named by mistake. A reader needs to read no more than one byte more.
pub const MAX_CONFIG_BYTES: usize = 16 * 1024 * 1024;

/// What some editors start a file with.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text that `bytes` are, which are what `file` holds (or one byte more than it may); the name
/// is for errors only.
///
/// # Errors
/// It is too large, or not UTF-8 somewhere.
pub fn text(file: &str, bytes: Vec<u8>) -> Result<String, ConfigError> {
    check_size(file, bytes.len())?;
    String::from_utf8(bytes).map_err(|error| {
        // Up to the fault this is the file.
        let text = String::from_utf8_lossy(error.as_bytes());
        let fault = error.utf8_error().valid_up_to();
        let (text, at) = match text.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) => (text, fault - BYTE_ORDER_MARK.len_utf8()),
            None => (&*text, fault),
        };
        let span = Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8());
        let error = error::Source { file, text }.error(span, "this isn't UTF-8");
        error.hint("save the file as UTF-8; `iconv -f latin1 -t utf-8` makes it from Latin-1")
    })
}

/// The configuration in `text`, which is what `file` holds; the name is for errors only.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    check_size(file, text.len())?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let source = error::Source { file, text };
    let items = syntax::parse(&source)?;
    lower::lower(&source, &items)
}

fn check_size(file: &str, bytes: usize) -> Result<(), ConfigError> {
    if bytes <= MAX_CONFIG_BYTES {
        return Ok(());
    }
    let what = format!("the file is larger than {} KiB", MAX_CONFIG_BYTES / 1024);
    Err(ConfigError::of_file(file, what))
}

/// The whole of pizauth.conf(5), checked: a value of this type cannot be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Asks the user to sign in. Run again every `auth_notify_interval` while a request is pending.
    pub auth_notify_cmd: Option<String>,
    /// How long to wait between two reminders.
    pub auth_notify_interval: Duration,
    /// Tells the user of an error; the log does when unset.
    pub error_notify_cmd: Option<String>,
    /// Where http redirects are listened for.
    pub http_listen: Listen,
    /// Where https redirects are listened for.
    pub https_listen: Listen,
    /// When the user is awake, and where: there a sign-in's end is told of.
    pub notice_at: Option<(civil::Time, TimeZone)>,
    /// Run once, when the server answers.
    pub startup_cmd: Option<String>,
    /// Prints what `state_save_cmd` was given; run before the server answers.
    pub state_load_cmd: Option<String>,
    /// Gets the dump on its standard input after every change of a token, and at shutdown.
    pub state_save_cmd: Option<String>,
    /// Where `state` stands for those two: its line, and a command that succeeds if they can.
    pub state_trial: Option<(usize, String)>,
    /// Hears of every change of a token.
    pub token_event_cmd: Option<String>,
    /// Decides whether a transient error is one.
    pub transient_error_if_cmd: Option<String>,
    /// The accounts, in the order of the file, no two of the same name; at least one.
    pub accounts: Vec<Account>,
    /// Further ways in, in the order of the file, no two of the same path.
    pub sockets: Vec<RestrictedSocket>,
    /// Where programs without OAuth2 sign in, in the order of the file, no two of the same address.
    pub proxies: Vec<Proxy>,
    /// What works but should be changed, each on one line that starts with `file:line: `.
    pub warnings: Vec<String>,
}

/// A listener's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `none`: don't listen.
    None,
    /// `"host:port"`; port 0 lets the system choose.
    On {
        /// A host name or an IP address (an IPv6 one without its brackets).
        host: String,
        /// The TCP port.
        port: u16,
    },
}

/// One `account "name" { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As written in the config.
    pub name: Arc<str>,
    /// To whom its tokens belong.
    pub registration: Arc<Registration>,
    /// How the client proves who it is.
    pub client: Arc<Client>,
    /// The device authorization endpoint (RFC 8628, 3.1): a further way to sign in. Not part of the
    /// registration: it sees no token, and those that it leads to come from the token endpoint.
    pub device_auth_uri: Option<Arc<Url>>,
    /// The revocation endpoint (RFC 7009), to which only `revoke` sends anything. Not part of the
    /// registration: it is added in order to revoke the tokens that there are.
    pub revocation_uri: Option<Arc<Url>>,
    /// The redirection endpoint, letter by letter, where this server can't listen for it: the user
    /// pastes what the browser ends with. Not part of the registration, which has the same address.
    pub pasted_redirect: Option<Arc<str>>,
    /// When its tokens are refreshed.
    pub policy: Policy,
    /// Where its access token is written to, for programs that can't ask.
    pub token_file: Option<Arc<TokenFile>>,
}

/// One `socket "path" { … }`: its clients may do this and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestrictedSocket {
    /// Absolute, or below `~/`.
    pub path: Arc<str>,
    /// The accounts that exist as far as its clients can tell; at least one.
    pub accounts: Vec<Arc<str>>,
    /// What they may ask; at least one.
    pub allow: Vec<Allowed>,
}

/// One `proxy "address" { … }`: stands between a server and programs that know only a user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens: `host:port`, or a path, absolute or below `~/`.
    pub address: Arc<str>,
    /// The account whose token signs in at the server.
    pub account: Arc<str>,
    /// The server.
    pub server: Server,
    /// This command's first line is the programs' password; only a path does without.
    pub password_cmd: Option<String>,
    /// Whom the server is to sign in.
    pub user: Option<String>,
    /// Programs talk to it over TLS.
    pub tls: Option<ProxyTls>,
}

/// TLS between a proxy and its programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyTls {
    /// It begins with the connection (RFC 8314, 3), and with STARTTLS otherwise.
    pub implicit: bool,
    /// The file of the certificate chain in PEM: absolute, or below `~/`.
    pub certificate: Arc<str>,
    /// The file of its private key in PEM: absolute, or below `~/`.
    pub key: Arc<str>,
}

/// What a restricted socket may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// `pizauth refresh`.
    Refresh,
    /// `pizauth show`.
    Show,
    /// `pizauth status`, of its accounts.
    Status,
}

impl Allowed {
    /// All there are, by name.
    pub const ALL: [Allowed; 3] = [Allowed::Refresh, Allowed::Show, Allowed::Status];

    /// As in the config, and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Allowed::Refresh => "refresh",
            Allowed::Show => "show",
            Allowed::Status => "status",
        }
    }
}

/// A file that holds an account's access token for as long as there is a valid one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFile {
    /// Absolute, or below `~/`.
    pub path: Arc<str>,
    /// What stands in it.
    pub format: TokenFormat,
}

/// What stands in a token file, always one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFormat {
    /// The token.
    Raw,
    /// An object with the token and what is known about it.
    Json,
    /// The initial response of SASL's XOAUTH2.
    Xoauth2 {
        /// The mailbox's user: the account's `login_hint`.
        user: String,
    },
}

/// How the client proves who it is to the provider's endpoints (RFC 6749, 2.3). Not part of the
/// registration: renewing an expired secret at the provider must not cost a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// By which method, when the config says: else as the provider's metadata wants it, or the usual.
    pub auth: Option<ClientAuth>,
    /// With what.
    pub secret: ClientSecret,
    /// Further headers of requests to these endpoints, in the order of the file, no two of a name.
    pub headers: Vec<Header>,
}

/// A method of client authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// The secret is in an `Authorization` header (`client_secret_basic`).
    Basic,
    /// The secret is in the form (`client_secret_post`).
    #[default]
    Body,
    /// A private key signs for it (`private_key_jwt`; OpenID Connect Core, 9).
    PrivateKeyJwt,
    /// There is no secret: a public client.
    None,
}

impl ClientAuth {
    /// All there are, as in the config.
    const ALL: [(&str, ClientAuth); 4] = [
        ("basic", ClientAuth::Basic),
        ("body", ClientAuth::Body),
        ("private_key_jwt", ClientAuth::PrivateKeyJwt),
        ("none", ClientAuth::None),
    ];

    fn name(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }
}

/// Where the client secret comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientSecret {
    /// The client has no secret.
    #[default]
    None,
    /// The config has it.
    Given(Arc<Secret>),
    /// This command's first line is it; all that it prints is the private key where that signs.
    Command(String),
}

/// A header of an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// A token (RFC 9110, 5.1).
    pub name: String,
    /// Printable ASCII. It may well be a key to something.
    pub value: Arc<Secret>,
}

/// Everything that says to whom an account's tokens belong: where they come from, what they are
/// for and who asked. Reload, dump and restore all compare by this type's one equality; tokens
/// live with the registration they were issued under and go with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// How its tokens are obtained. A dump of an account that a person signs in to is as it was
    /// before there was any other.
    #[serde(default, skip_serializing_if = "TokenSource::is_person")]
    pub source: TokenSource,
    /// The issuer (RFC 8414, 2), as written. A dump of an account without one is as it was before
    /// there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    /// The authorization endpoint (RFC 6749, 3.1) as configured; without, the issuer's metadata
    /// says it, and without an issuer only a device code signs in.
    pub auth_uri: Option<Arc<Url>>,
    /// The token endpoint (RFC 6749, 3.2) as configured; without, there is an issuer whose metadata
    /// says it.
    pub token_uri: Option<Arc<Url>>,
    /// The client identifier (RFC 6749, 2.2).
    pub client_id: String,
    /// The redirection endpoint (RFC 6749, 3.1.2) as configured; where there is a listener for it,
    /// its port is the listener's.
    pub redirect_uri: Arc<Url>,
    /// The scopes asked for, in the order of the file.
    pub scopes: Vec<String>,
    /// Further parameters of the authorization request, in the order of the file; a key may repeat.
    pub auth_uri_fields: Vec<(String, String)>,
    /// Further parameters of token requests, in the order of the file; a key may repeat. They say
    /// what the tokens are for (`resource`, `audience`).
    pub token_uri_fields: Vec<(String, String)>,
}

impl Registration {
    /// What secrets are bound to that are issued under it.
    pub fn mark(&self) -> Mark {
        // It can always be written down: its maps are lists.
        Mark::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// The issuer to ask for the endpoints: only where one is missing that no account can do without.
    pub fn discovers(&self) -> Option<&Arc<str>> {
        let needs_auth_uri = self.source.is_person() && self.auth_uri.is_none();
        let complete = self.token_uri.is_some() && !needs_auth_uri;
        self.issuer.as_ref().filter(|_| !complete)
    }

    /// An address of the provider's: the token endpoint as configured or, without, the issuer.
    pub fn provider(&self) -> Option<Arc<Url>> {
        let issuer = || Url::parse(self.issuer.as_ref()?).ok().map(Arc::new);
        self.token_uri.clone().or_else(issuer)
    }

    /// Its host.
    pub fn provider_host(&self) -> Option<String> {
        self.provider()?.host_str().map(str::to_owned)
    }
}

/// When an account's tokens are refreshed. A changed policy bites at once and keeps the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Refresh at least so often, however long the provider lets a token live.
    pub refresh_at_least: Duration,
    /// Refresh so long before a token's expiry.
    pub refresh_before_expiry: Duration,
    /// Wait so long after a refresh that failed, before the next (doubling up to ten minutes).
    pub refresh_retry: Duration,
    /// Tell so long before that a sign-in will end; zero is never.
    pub notice_before: Duration,
}
