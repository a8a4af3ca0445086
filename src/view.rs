//! What users may see of the server's state, without secrets: the core makes it, `report` turns it into
//! JSON. Of addresses only those that the user is to open.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Wall;

/// One account as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Its name.
    pub account: String,
    /// The access token, if one is held.
    pub access: Option<AccessView>,
    /// What is known about refreshing it; `None` when no tokens are held.
    pub renewal: Option<RenewalView>,
    /// Why no tokens are held any more, unless the user has ended them.
    pub lost: Option<Refusal>,
    /// How far a sign-in is.
    pub sign_in: SignInView,
    /// Who has signed in, as the last id_token says.
    pub user: Option<String>,
    /// Whose tokens these are, if they are somebody else's than the config's login_hint.
    pub other_user: Option<String>,
    /// Whether its endpoints are asked over a network without TLS (`allow_http`).
    pub plain: bool,
    /// What its issuer says of itself; `None` when it isn't needed.
    pub discovery: Option<DiscoveryView>,
}

/// Where an account's provider is, as its issuer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryView {
    /// The issuer.
    pub issuer: String,
    /// What is known.
    pub state: DiscoveryState,
}

/// How far the discovery of an account's endpoints is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryState {
    /// Nothing has needed them yet.
    NotYet,
    /// The issuer is being asked.
    UnderWay,
    /// They are known; those that the config has are the config's.
    Done {
        /// The authorization endpoint.
        auth_uri: Option<String>,
        /// The token endpoint.
        token_uri: String,
        /// The device authorization endpoint.
        device_auth_uri: Option<String>,
        /// The revocation endpoint.
        revocation_uri: Option<String>,
    },
    /// The issuer was asked in vain.
    Failed {
        /// Since when.
        since: Wall,
        /// How often in a row.
        failures: u32,
        /// When it is asked again; `None` when that waits until it is needed.
        at: Option<Wall>,
        /// Why the last time failed.
        reason: Refusal,
    },
}

/// An access token's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessView {
    /// Whether `show` would print it now.
    pub valid: bool,
    /// When it was asked for, in milliseconds since 1970.
    pub obtained: Wall,
    /// When it expires, unless the provider didn't say.
    pub expires: Option<Wall>,
}

/// Why something didn't work, in the provider's words, and what can be done. Safe to show: no secret, no
/// control characters, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The provider's own words, or what happened on the way.
    pub text: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal in these words, without a hint.
    pub fn new(text: impl Into<String>) -> Self {
        Refusal {
            text: text.into(),
            hint: None,
        }
    }

    /// The refusal and its hint as one line.
    pub fn line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.text),
            None => self.text.clone(),
        }
    }
}

/// How the access token will be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenewalView {
    /// The provider gave no refresh token.
    Impossible,
    /// Nobody has to sign in, and nobody has asked for a token: it will be obtained then.
    OnRequest,
    /// A refresh is due then.
    Scheduled {
        /// When.
        at: Wall,
    },
    /// A refresh is under way, or a failed one is being judged by `transient_error_if_cmd`.
    UnderWay,
    /// Refreshes fail; the next is due then.
    Failing {
        /// Since when.
        since: Wall,
        /// How often in a row.
        failures: u32,
        /// When the next is due.
        at: Wall,
        /// Why the last failed.
        reason: Refusal,
    },
    /// The provider refused, or `transient_error_if_cmd` decided so: a new sign-in is needed.
    Rejected {
        /// When.
        since: Wall,
        /// Why.
        reason: Refusal,
    },
    /// The configuration is wrong, as far as the provider says.
    Parked {
        /// Since when.
        since: Wall,
        /// When it is tried again.
        at: Wall,
        /// Why.
        reason: Refusal,
    },
}

/// How far a sign-in is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInView {
    /// There is none.
    None {
        /// Why the last try ended without tokens.
        failed: Option<Refusal>,
    },
    /// One is wanted, but the endpoints aren't known yet.
    Discovering {
        /// Since when.
        since: Wall,
    },
    /// A request waits for the user.
    Pending {
        /// Since when.
        since: Wall,
        /// When the user was last asked.
        reminded: Option<Wall>,
        /// Why the one before it ended without tokens.
        failed: Option<Refusal>,
        /// The code to enter, if there is one.
        device: Option<DeviceView>,
        /// Whether the address of the last page, or the code on it, is to be pasted.
        paste: bool,
    },
    /// The user is back and the code is being exchanged.
    Exchanging {
        /// Since when.
        since: Wall,
        /// Why that has failed so far, if it has.
        trouble: Option<Refusal>,
    },
}

/// How far a sign-in is that a client wants to complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SignInStart {
    /// It waits for the user, by at least one of these ways.
    Open(SignInWays),
    /// The code is being asked for.
    AskingForCode,
    /// The user is back and the code is being exchanged.
    Exchanging,
    /// It has ended.
    Over,
}

/// How to complete a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInWays {
    /// The authorization request's URI, for a browser. It has the state, which is secret.
    pub browser_uri: Option<String>,
    /// A short address on this machine that leads there, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_uri: Option<String>,
    /// The code to enter.
    pub device: Option<DeviceView>,
    /// Whether the address of the last page, or the code on it, is to be pasted.
    #[serde(default)]
    pub paste: bool,
}

/// What to say of tokens that are this user's, when another one was to sign in.
pub fn other_user(user: &str) -> String {
    format!("signed in as {user}, which isn't the login_hint of the config")
}

/// What else there is to do for a sign-in whose last page isn't this program's.
pub const PASTE: &str = "after signing in, give the address of the last page, or the code that it \
                         shows, to `pizauth redirect`";

/// How to sign in from any device (RFC 8628, 3.2). All of it is safe to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// What to enter.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// When the code expires.
    pub expires: Wall,
}

/// What a server says of itself. A client of another version may know other fields.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The configuration in force.
    pub config_file: String,
    /// The http listener's port in decimal, or `none`.
    pub http_port: String,
    /// The https listener's port in decimal, or `none`.
    pub https_port: String,
    /// The https listener's public key, as bytes in hex.
    pub https_pub_key: Option<String>,
    /// The SHA-256 fingerprint of its SubjectPublicKeyInfo.
    pub https_pub_key_sha256: Option<String>,
    /// The SHA-256 fingerprint of the https listener's certificate.
    pub https_fingerprint: Option<String>,
    /// The server's process: a signal to it is meant for all that belong to it.
    pub pid: u32,
    /// The process that holds the tokens.
    pub token_holder: u32,
    /// How often it was restarted in place.
    pub restarts: u32,
    /// Why the last restart in place failed, unless it is still under way or hasn't.
    pub restart_failure: Option<String>,
    /// The process that runs the hooks; null without one.
    pub hook_runner: Option<u32>,
    /// How many hook runners were killed before it.
    pub hook_runner_losses: u32,
    /// The daemon's version.
    pub pizauth_version: String,
    /// What the daemon has given up, so that a bug in it can do less: `no_core`, `not_dumpable`,
    /// `no_new_privs`, `locked` (swap), `seccomp` or `pledge`, `landlock` or `unveil`, as far as the
    /// system has them.
    pub sandbox: Vec<String>,
    /// What of it the system has refused, and why, for people.
    pub sandbox_refused: Vec<String>,
}

/// An event, for `pizauth watch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// When.
    pub at: Wall,
    /// To which account; `None` when to all.
    pub account: Option<Arc<str>>,
    /// What.
    pub what: Happening,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A sign-in brought tokens.
    TokenNew {
        /// When the token expires, unless the provider didn't say.
        expires: Option<Wall>,
    },
    /// A refresh brought a new access token.
    TokenRefreshed {
        /// When the token expires, unless the provider didn't say.
        expires: Option<Wall>,
    },
    /// `pizauth restore` brought newer tokens.
    TokenRestored {
        /// When the access token expires, as far as is known.
        expires: Option<Wall>,
    },
    /// The provider, the user's own probe or a changed registration ended the tokens.
    TokenInvalidated,
    /// `pizauth revoke`.
    TokenRevoked,
    /// An authorization request waits for the user.
    AuthorisationPending,
    /// The user is back, and the code is being exchanged.
    AuthorisationCompleting,
    /// A sign-in ended without tokens.
    AuthorisationFailed {
        /// Why.
        reason: Refusal,
    },
    /// A sign-in was given up because of what the user did here.
    AuthorisationCancelled {
        /// Why.
        reason: Refusal,
    },
    /// The provider has refused the refresh token: a new sign-in is needed.
    AuthorisationNeeded {
        /// Why.
        reason: Refusal,
    },
    /// A refresh has failed in a way that may pass.
    RefreshFailing {
        /// How often in a row.
        failures: u32,
        /// When the next is due.
        at: Wall,
        /// Why.
        reason: Refusal,
    },
    /// A refresh has succeeded after some that had failed.
    RefreshRecovered,
    /// The configuration keeps the token from being refreshed.
    RefreshStopped {
        /// Why.
        reason: Refusal,
    },
    /// The configuration was read again.
    Reloaded,
}
