//! The config that the world's daemon has, as what the sim varies of it: accounts, hooks, and where
//! each issuer is.

use std::{sync::Arc, time::Duration};

use url::Url;

use super::promise::{Invariant, Violation, fail};
use crate::{
    config::{self, Config, Listen, Policy, Registration, TokenSource},
    core::Ports,
    secret::Secret,
};

/// The accounts' names.
pub const NAMES: [&str; 5] = ["work", "home", "bank", "list", "club"];

/// How long before its end a sign-in may be told of.
pub const NOTICE_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);

/// The ports that the listeners have.
pub const PORTS: Ports = Ports {
    http: Some(14204),
    https: None,
};

/// What every minted or configured secret starts with.
pub const MARK: &str = "S3CR-";

/// How many issuers there are.
pub const ISSUERS: u8 = 3;

/// To whom a secret belongs: the account's name and what the sim varies of its registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub account: usize,
    pub issuer: u8,
    pub client: u8,
    /// Where the issuer has said that its endpoints are; 0 when the config says it.
    pub place: u8,
}

impl Origin {
    /// Whether its redirect ends at a page of the issuer's, from which the user copies the code.
    pub fn ends_elsewhere(self) -> bool {
        self.issuer == 2 && [0, 1, DISCOVERED].contains(&self.client)
    }

    /// The redirection endpoint as it is sent.
    pub fn redirect_uri(self) -> &'static str {
        match self.ends_elsewhere() {
            true => ELSEWHERE,
            false => "http://localhost:14204/",
        }
    }

    /// The registration, wherever its issuer is.
    pub fn registered(self) -> Origin {
        Origin { place: 0, ..self }
    }
}

/// A redirect that ends elsewhere. As a URL it has other letters.
const ELSEWHERE: &str = "https://Login.example:443";

/// How many places an issuer's endpoints have been at.
pub const PLACES: u8 = 2;

/// An account as the config has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Described {
    pub present: bool,
    pub origin: Origin,
    pub policy: u8,
    pub client_secret: u8,
    /// Whether there is a device authorization endpoint beside another way to sign in.
    pub device: bool,
    /// Whether there is a revocation endpoint.
    pub revocation: bool,
    pub file: u8,
}

impl Described {
    /// Whether a sign-in may use a device code.
    pub fn has_device(&self) -> bool {
        !self.is_unattended() && self.has_code_endpoint()
    }

    /// Whether the provider can be told of a `revoke`.
    pub fn can_revoke(&self) -> bool {
        self.revocation && self.origin.client != COMMAND
    }

    /// Whether nobody has to sign in.
    pub fn is_unattended(&self) -> bool {
        [OWN, COMMAND].contains(&self.origin.client)
    }

    fn has_code_endpoint(&self) -> bool {
        self.device || self.origin.client == DEVICE_ONLY
    }

    /// Whether a command prints the client secret.
    pub fn asks_for_secret(&self) -> bool {
        self.client_secret % 4 == 3
    }
}

/// The client of those registrations that have no other way to sign in than a device code.
pub const DEVICE_ONLY: u8 = 2;

/// The client of those registrations whose endpoints the issuer says.
pub const DISCOVERED: u8 = 3;

/// The client of those registrations that ask for tokens of their own.
pub const OWN: u8 = 4;

/// The registrations whose tokens a command prints.
pub const COMMAND: u8 = 5;

/// How many clients there are.
pub const CLIENTS: u8 = 6;

/// The config in force, as what the sim varies of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setup {
    pub accounts: Vec<Described>,
    /// Which hooks there are, and the reminders' interval: see [`Setup::has`].
    pub global: u8,
}

pub const NOTIFY: u8 = 1;
pub const ERROR: u8 = 2;
pub const EVENT: u8 = 4;
pub const PROBE: u8 = 8;
pub const HURRY: u8 = 16;
pub const SAVE: u8 = 32;
pub const LOAD: u8 = 64;

/// How many settings of all these there are.
pub const GLOBALS: u8 = 128;

impl Setup {
    pub fn has(&self, bit: u8) -> bool {
        self.global & bit != 0
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(if self.has(HURRY) { 60 } else { 900 })
    }

    pub fn policy(&self, account: usize) -> Policy {
        let secs = Duration::from_secs;
        let (at_least, before, retry) = match self.accounts[account].policy % 4 {
            0 => (5400, 90, 40),
            1 => (600, 30, 1),
            2 => (86_400, 7200, 3600),
            _ => (20, 5, 7),
        };
        Policy {
            refresh_at_least: secs(at_least),
            refresh_before_expiry: secs(before),
            refresh_retry: secs(retry),
            notice_before: NOTICE_BEFORE,
        }
    }

    /// The token file of `account`. One path may be any account's, but only one's.
    pub fn file(&self, account: usize) -> Option<config::TokenFile> {
        let shares = |one: &Described| one.present && one.file % 4 == 3;
        let name = NAMES[account];
        let (path, format) = match self.accounts[account].file % 4 {
            _ if !self.accounts[account].present => return None,
            0 => return None,
            1 => (format!("/files/{name}"), config::TokenFormat::Raw),
            2 => (format!("/files/{name}.json"), config::TokenFormat::Json),
            _ if self.accounts.iter().position(shares) != Some(account) => return None,
            _ => ("/files/any".into(), config::TokenFormat::Raw),
        };
        let path = path.into();
        Some(config::TokenFile { path, format })
    }

    pub fn config(&self) -> Config {
        let hook = |bit: u8, name: &str| self.has(bit).then(|| format!("hook {name}"));
        let accounts = self.accounts.iter().enumerate();
        Config {
            auth_notify_cmd: hook(NOTIFY, "notify"),
            auth_notify_interval: self.interval(),
            error_notify_cmd: hook(ERROR, "error"),
            http_listen: Listen::None,
            https_listen: Listen::None,
            notice_at: None,
            startup_cmd: None,
            state_load_cmd: hook(LOAD, "load"),
            state_save_cmd: hook(SAVE, "save"),
            state_trial: None,
            token_event_cmd: hook(EVENT, "event"),
            transient_error_if_cmd: hook(PROBE, "probe"),
            accounts: accounts
                .filter(|(_, described)| described.present)
                .map(|(index, described)| config::Account {
                    pasted_redirect: (described.origin)
                        .ends_elsewhere()
                        .then(|| ELSEWHERE.into()),
                    name: NAMES[index].into(),
                    registration: Arc::new(registration(described.origin)),
                    client: Arc::new(config::Client {
                        secret: match described.client_secret % 4 {
                            0 => config::ClientSecret::None,
                            3 => config::ClientSecret::Command("hook secret".into()),
                            n => {
                                let secret = Secret::new(format!("{MARK}client-{n}"));
                                config::ClientSecret::Given(Arc::new(secret))
                            }
                        },
                        ..config::Client::default()
                    }),
                    device_auth_uri: (described.has_device())
                        .then(|| device_endpoint(described.origin.issuer).into()),
                    revocation_uri: (described.can_revoke())
                        .then(|| revocation_endpoint(described.origin.issuer).into()),
                    policy: self.policy(index),
                    token_file: self.file(index).map(Arc::new),
                })
                .collect(),
            sockets: Vec::new(),
            proxies: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

fn registration(origin: Origin) -> Registration {
    let url = |path: &str| uri(&format!("https://iss{}.example/{path}", origin.issuer));
    let discovered = origin.client == DISCOVERED;
    let by_browser = ![DEVICE_ONLY, DISCOVERED, OWN, COMMAND].contains(&origin.client);
    let asks = ![DISCOVERED, COMMAND].contains(&origin.client);
    Registration {
        source: match origin.client {
            // To the core, `jwt_bearer` is the same: only the form that is sent differs. That a key is
            // read again when it can't sign is for tests/grants.rs.
            OWN => TokenSource::ClientCredentials,
            // Each is a registration of its own.
            COMMAND => TokenSource::Command(format!("hook token {}", origin.issuer)),
            _ => TokenSource::Person,
        },
        token_uri_fields: Vec::new(),
        issuer: discovered.then(|| issuer_uri(origin.issuer).into()),
        auth_uri: by_browser.then(|| url("auth").into()),
        token_uri: asks.then(|| url("token").into()),
        client_id: format!("client-{}-{}", origin.account, origin.client),
        redirect_uri: match origin.ends_elsewhere() {
            true => uri(ELSEWHERE).into(),
            false => uri("http://localhost/").into(),
        },
        scopes: vec!["mail".into()],
        auth_uri_fields: match origin.client {
            OWN | COMMAND => Vec::new(),
            _ => vec![("login_hint".into(), user(origin.account))],
        },
    }
}

/// Who is to sign in.
pub fn user(account: usize) -> String {
    format!("{}@x.example", NAMES[account])
}

fn uri(text: &str) -> Url {
    Url::parse(text).expect("a URI")
}

/// What an issuer calls itself.
pub fn issuer_uri(issuer: u8) -> String {
    format!("https://iss{issuer}.example")
}

/// Where an issuer's endpoints are when they are at `place`.
pub fn host(issuer: u8, place: u8) -> String {
    match place {
        0 => format!("iss{issuer}.example"),
        _ => format!("login{place}.iss{issuer}.example"),
    }
}

/// The token endpoint of an issuer.
pub fn endpoint(origin: Origin) -> Url {
    uri(&format!(
        "https://{}/token",
        host(origin.issuer, origin.place)
    ))
}

/// Its device authorization endpoint.
pub fn device_endpoint(issuer: u8) -> Url {
    uri(&format!("https://iss{issuer}.example/device_authorization"))
}

/// Its revocation endpoint.
pub fn revocation_endpoint(issuer: u8) -> Url {
    uri(&format!("https://iss{issuer}.example/revoke"))
}

/// The account of that name; the core knows no others.
pub fn index_of(name: &str) -> Result<usize, Violation> {
    match NAMES.iter().position(|known| *known == name) {
        Some(index) => Ok(index),
        None => fail(Invariant::Events, format!("something about {name}")),
    }
}
