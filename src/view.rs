//! What users may see of the server's state, without secrets, and of addresses only those that the user is
//! to open: the core makes it, clients print it. In between it is the JSON that scripts read, as
//! pizauth(1) and pizauth.sock(7) promise it: flat, so that a shell can read it; times twice, as RFC 3339
//! in UTC and as seconds since 1970; absent what there is nothing to say of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time::Wall;

/// Raised when a script that reads `status -j` would have to change.
pub const STATUS_FORMAT_VERSION: u32 = 1;

/// Raised when a script that reads `watch -j` would have to change.
pub const WATCH_FORMAT_VERSION: u32 = 1;

/// `status -j`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_FORMAT_VERSION`].
    pub status_format_version: u32,
    /// Every account, by name.
    pub accounts: Vec<AccountView>,
    /// Every proxy, and earlier ones in which sessions go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<ProxyView>,
    /// Why the state can't be saved, or what was saved not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_error: Option<String>,
}

/// One proxy.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProxyView {
    /// Where it listens.
    pub address: String,
    /// The account that it signs in with.
    pub account: String,
    /// How many programs are signed in.
    pub sessions: u64,
}

/// One account as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// Its name.
    pub account: String,
    /// Whether `show` would print a token now.
    pub valid: bool,
    /// What only the user can do.
    pub needs: Needs,
    /// Whether its endpoints are asked over a network without TLS (`allow_http`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// When the access token was asked for; `None` when none is held.
    #[serde(flatten, with = "obtained")]
    pub obtained: Option<Wall>,
    /// When it expires, unless the provider didn't say.
    #[serde(flatten, with = "expires")]
    pub expires: Option<Wall>,
    /// What is known about refreshing it.
    #[serde(flatten)]
    pub renewal: RenewalView,
    /// How far a sign-in is.
    #[serde(flatten)]
    pub sign_in: SignInView,
    /// Who has signed in, as the last id_token says: for the page that ends a sign-in.
    #[serde(skip)]
    pub user: Option<String>,
    /// When the sign-in of the tokens held will end; `None` when nobody can tell, or each refresh puts it
    /// off.
    #[serde(flatten)]
    pub sign_in_end: Option<SignInEnd>,
    /// Whose tokens these are, if they are somebody else's than the config's login_hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_user: Option<String>,
    /// What its issuer says of itself; `None` when it isn't needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryView>,
}

/// When a sign-in will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInEnd {
    /// When.
    #[serde(flatten, with = "sign_in_ends")]
    pub at: Wall,
    /// Who says so.
    #[serde(rename = "sign_in_ends_by")]
    pub by: EndsBy,
}

/// How it is known when a sign-in will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndsBy {
    /// The provider says so.
    Provider,
    /// Earlier ones of the account have ended so.
    Experience,
}

/// What only the user can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Nothing.
    None,
    /// Sign in.
    SignIn,
    /// Correct the configuration.
    Config,
}

/// Where an account's provider is, as its issuer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryView {
    /// The issuer.
    pub issuer: String,
    /// What is known.
    #[serde(flatten)]
    pub state: DiscoveryState,
}

/// How far the discovery of an account's endpoints is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DiscoveryState {
    /// Nothing has needed them yet.
    NotYet,
    /// The issuer is being asked.
    UnderWay,
    /// They are known; those that the config has are the config's.
    Done {
        /// The authorization endpoint.
        #[serde(skip_serializing_if = "Option::is_none")]
        auth_uri: Option<String>,
        /// The token endpoint.
        token_uri: String,
        /// The device authorization endpoint.
        #[serde(skip_serializing_if = "Option::is_none")]
        device_auth_uri: Option<String>,
        /// The revocation endpoint.
        #[serde(skip_serializing_if = "Option::is_none")]
        revocation_uri: Option<String>,
    },
    /// The issuer was asked in vain.
    Failed {
        /// Since when.
        #[serde(flatten, with = "since")]
        since: Wall,
        /// How often in a row.
        failures: u32,
        /// When it is asked again; `None` when that waits until it is needed.
        #[serde(flatten, with = "next")]
        at: Option<Wall>,
        /// Why the last time failed.
        #[serde(flatten, with = "error")]
        reason: Refusal,
    },
    /// A word of a newer server.
    #[serde(other)]
    Other,
}

/// Why something didn't work, in the provider's words, and what can be done. Safe to show: no secret, no
/// control characters, one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// The same, with this hint.
    #[must_use]
    pub fn hint(self, hint: Option<&str>) -> Self {
        let hint = hint.map(str::to_owned);
        Refusal { hint, ..self }
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refresh", rename_all = "snake_case")]
pub enum RenewalView {
    /// No tokens are held.
    #[serde(rename = "none")]
    NoTokens {
        /// Why not any more, unless the user has ended them.
        #[serde(flatten, with = "refresh_error")]
        lost: Option<Refusal>,
    },
    /// The provider gave no refresh token.
    Impossible,
    /// Nobody has to sign in, and nobody has asked for a token: it will be obtained then.
    OnRequest,
    /// A refresh is due then.
    Scheduled {
        /// When.
        #[serde(flatten, with = "refresh_at")]
        at: Wall,
    },
    /// A refresh is under way, or a failed one is being judged by `transient_error_if_cmd`.
    UnderWay,
    /// Refreshes fail; the next is due then.
    Failing {
        /// When the next is due.
        #[serde(flatten, with = "refresh_at")]
        at: Wall,
        /// Since when.
        #[serde(flatten, with = "refresh_since")]
        since: Wall,
        /// How often in a row.
        #[serde(rename = "refresh_failures")]
        failures: u32,
        /// Why the last failed.
        #[serde(flatten, with = "refresh_error")]
        reason: Refusal,
    },
    /// The provider refused, or `transient_error_if_cmd` decided so: a new sign-in is needed.
    Rejected {
        /// When.
        #[serde(flatten, with = "refresh_since")]
        since: Wall,
        /// Why.
        #[serde(flatten, with = "refresh_error")]
        reason: Refusal,
    },
    /// The configuration is wrong, as far as the provider says.
    #[serde(rename = "stopped")]
    Parked {
        /// When it is tried again.
        #[serde(flatten, with = "refresh_at")]
        at: Wall,
        /// Since when.
        #[serde(flatten, with = "refresh_since")]
        since: Wall,
        /// Why.
        #[serde(flatten, with = "refresh_error")]
        reason: Refusal,
    },
    /// A word of a newer server.
    #[serde(other)]
    Other,
}

/// How far a sign-in is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sign_in", rename_all = "snake_case")]
pub enum SignInView {
    /// There is none.
    None,
    /// There is none, and the last ended without tokens.
    Failed {
        /// Why.
        #[serde(flatten, with = "sign_in_error")]
        reason: Refusal,
    },
    /// One is wanted, but the endpoints aren't known yet.
    Discovering {
        /// Since when.
        #[serde(flatten, with = "sign_in_since")]
        since: Wall,
    },
    /// A request waits for the user.
    Pending {
        /// Since when.
        #[serde(flatten, with = "sign_in_since")]
        since: Wall,
        /// Which program has asked for a token.
        #[serde(rename = "sign_in_requester", skip_serializing_if = "Option::is_none")]
        requester: Option<String>,
        /// When the user was last asked.
        #[serde(flatten, with = "sign_in_reminded")]
        reminded: Option<Wall>,
        /// The code to enter, if there is one.
        #[serde(rename = "sign_in_device", skip_serializing_if = "Option::is_none")]
        device: Option<DeviceView>,
        /// Whether the address of the last page, or the code on it, is to be pasted.
        #[serde(rename = "sign_in_paste", default)]
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        paste: bool,
        /// Why the one before it ended without tokens.
        #[serde(flatten, with = "sign_in_error")]
        failed: Option<Refusal>,
    },
    /// The user is back and the code is being exchanged.
    #[serde(rename = "completing")]
    Exchanging {
        /// Since when.
        #[serde(flatten, with = "sign_in_since")]
        since: Wall,
        /// Why that has failed so far, if it has.
        #[serde(flatten, with = "sign_in_error")]
        trouble: Option<Refusal>,
    },
    /// A word of a newer server.
    #[serde(other)]
    Other,
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

impl SignInWays {
    /// The address to open: the browser's, or else the page for the code.
    pub fn uri(&self) -> Option<&str> {
        let device = self.device.as_ref().map(DeviceView::page);
        self.browser_uri.as_deref().or(device)
    }
}

impl DeviceView {
    /// The page for the code, if possible with it in there.
    pub fn page(&self) -> &str {
        let complete = self.verification_uri_complete.as_ref();
        complete.unwrap_or(&self.verification_uri)
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// When the code expires.
    #[serde(flatten, with = "expires")]
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

/// An event, for `pizauth watch`. A client reads the word for it as it is: a newer server may have others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News<Event = Happening> {
    /// [`WATCH_FORMAT_VERSION`].
    pub watch_format_version: u32,
    /// When it happened.
    #[serde(flatten, with = "time")]
    pub at: Wall,
    /// What happened.
    pub event: Event,
    /// To which account; `None` when to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// When the new access token expires, unless the provider didn't say, or when the sign-in ends.
    #[serde(flatten, with = "expires")]
    pub expires: Option<Wall>,
    /// Which program has asked for a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// How many refreshes have failed in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_failures: Option<u32>,
    /// When the next is due.
    #[serde(flatten, with = "refresh_at")]
    pub refresh_at: Option<Wall>,
    /// Why.
    #[serde(flatten, with = "error")]
    pub reason: Option<Refusal>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// What a watcher hears first.
    #[default]
    Watching,
    /// A sign-in brought tokens.
    TokenNew,
    /// A refresh brought a new access token.
    TokenRefreshed,
    /// `pizauth restore` brought newer tokens.
    TokenRestored,
    /// The provider, the user's own probe or a changed registration ended the tokens.
    TokenInvalidated,
    /// `pizauth revoke`.
    TokenRevoked,
    /// An authorization request waits for the user.
    AuthorisationPending,
    /// The user is back, and the code is being exchanged.
    AuthorisationCompleting,
    /// The sign-in of the tokens held will end soon.
    SignInExpiring,
    /// A sign-in ended without tokens.
    AuthorisationFailed,
    /// A sign-in was given up because of what the user did here.
    AuthorisationCancelled,
    /// The provider has refused the refresh token: a new sign-in is needed.
    AuthorisationNeeded,
    /// A refresh has failed in a way that may pass.
    RefreshFailing,
    /// A refresh has succeeded after some that had failed.
    RefreshRecovered,
    /// The configuration keeps the token from being refreshed.
    RefreshStopped,
    /// The configuration was read again.
    Reloaded,
}

impl Happening {
    /// Its name, for `watch -j`, the log and PIZAUTH_EVENT.
    pub fn name(self) -> String {
        // A plain enum always serialises, to its name in quotes.
        let name = serde_json::to_string(&self).unwrap_or_default();
        name.trim_matches('"').to_owned()
    }

    /// This, with the end of what it is about.
    pub fn until(self, expires: Option<Wall>) -> News {
        News {
            expires,
            ..self.into()
        }
    }

    /// This, for that reason.
    pub fn because(self, reason: &Refusal) -> News {
        News {
            reason: Some(reason.clone()),
            ..self.into()
        }
    }
}

/// When, and to which account, is for the one to say who knows.
impl From<Happening> for News {
    fn from(event: Happening) -> Self {
        News {
            watch_format_version: WATCH_FORMAT_VERSION,
            event,
            ..News::default()
        }
    }
}

/// A moment in UTC, to the second (RFC 3339, 5.6).
pub fn rfc3339(at: Wall) -> String {
    Timestamp::from_second(at.secs())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// What is two members of the object around it, the first of which is a text.
trait Members: Sized {
    type Second;

    fn apart(self) -> (String, Option<Self::Second>);

    fn together(first: String, second: Option<Self::Second>) -> Option<Self>;
}

impl Members for Wall {
    type Second = i64;

    fn apart(self) -> (String, Option<i64>) {
        (rfc3339(self), Some(self.secs()))
    }

    fn together(_: String, unix: Option<i64>) -> Option<Self> {
        Some(Wall::from_millis(unix?.saturating_mul(1000)))
    }
}

impl Members for Refusal {
    type Second = String;

    fn apart(self) -> (String, Option<String>) {
        (self.text, self.hint)
    }

    fn together(text: String, hint: Option<String>) -> Option<Self> {
        Some(Refusal { text, hint })
    }
}

/// For a field that is two members of the object around it; neither where there is nothing to say.
macro_rules! members {
    ($($module:ident: $type:ident, $first:literal, $second:literal;)*) => {$(
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            use crate::view::{Members, $type};

            #[derive(Default, Serialize, Deserialize)]
            struct Both {
                #[serde(rename = $first, skip_serializing_if = "Option::is_none")]
                first: Option<String>,
                #[serde(rename = $second, skip_serializing_if = "Option::is_none")]
                second: Option<<$type as Members>::Second>,
            }

            pub fn serialize<T, S>(value: &T, to: S) -> Result<S::Ok, S::Error>
            where
                T: Clone + Into<Option<$type>>,
                S: Serializer,
            {
                let value: Option<$type> = value.clone().into();
                let both = value.map(|value| {
                    let (first, second) = value.apart();
                    Both { first: Some(first), second }
                });
                both.unwrap_or_default().serialize(to)
            }

            pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
            where
                T: From<$type> + Default,
                D: Deserializer<'de>,
            {
                let Both { first, second } = Both::deserialize(from)?;
                let value = first.and_then(|first| <$type>::together(first, second));
                Ok(value.map(T::from).unwrap_or_default())
            }
        }
    )*};
}

members! {
    obtained: Wall, "obtained", "obtained_unix";
    expires: Wall, "expires", "expires_unix";
    refresh_at: Wall, "refresh_at", "refresh_at_unix";
    refresh_since: Wall, "refresh_since", "refresh_since_unix";
    refresh_error: Refusal, "refresh_error", "refresh_hint";
    sign_in_since: Wall, "sign_in_since", "sign_in_since_unix";
    sign_in_reminded: Wall, "sign_in_reminded", "sign_in_reminded_unix";
    sign_in_ends: Wall, "sign_in_ends", "sign_in_ends_unix";
    sign_in_error: Refusal, "sign_in_error", "sign_in_hint";
    since: Wall, "since", "since_unix";
    next: Wall, "next", "next_unix";
    error: Refusal, "error", "hint";
    time: Wall, "time", "time_unix";
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Wall = Wall::from_millis(1_700_000_000_999);

    fn reason() -> Refusal {
        Refusal {
            text: "it said no".into(),
            hint: Some("ask again".into()),
        }
    }

    #[test]
    fn an_account_is_reported_as_the_manual_says() {
        let view = AccountView {
            account: "work".into(),
            valid: true,
            needs: Needs::None,
            plain_http: false,
            obtained: Some(AT),
            expires: Some(AT),
            renewal: RenewalView::Failing {
                since: AT,
                failures: 2,
                at: AT,
                reason: reason(),
            },
            sign_in: SignInView::Pending {
                since: AT,
                requester: Some("msmtp".into()),
                reminded: None,
                device: None,
                paste: true,
                failed: Some(reason()),
            },
            sign_in_end: Some(SignInEnd {
                at: AT,
                by: EndsBy::Experience,
            }),
            user: Some("me".into()),
            other_user: None,
            discovery: None,
        };
        let status = Status {
            status_format_version: STATUS_FORMAT_VERSION,
            accounts: vec![view],
            proxies: Vec::new(),
            state_error: None,
        };
        let text = serde_json::to_string(&status).unwrap();
        let at = "\"2023-11-14T22:13:20Z\"";
        assert_eq!(
            text,
            format!(
                "{{\"status_format_version\":1,\"accounts\":[{{\"account\":\"work\",\"valid\":true,\
                 \"needs\":\"none\",\"obtained\":{at},\"obtained_unix\":1700000000,\
                 \"expires\":{at},\"expires_unix\":1700000000,\"refresh\":\"failing\",\
                 \"refresh_at\":{at},\"refresh_at_unix\":1700000000,\
                 \"refresh_since\":{at},\
                 \"refresh_since_unix\":1700000000,\"refresh_failures\":2,\
                 \"refresh_error\":\"it said no\",\"refresh_hint\":\"ask again\",\
                 \"sign_in\":\"pending\",\"sign_in_since\":{at},\
                 \"sign_in_since_unix\":1700000000,\"sign_in_requester\":\"msmtp\",\
                 \"sign_in_paste\":true,\"sign_in_error\":\"it said no\",\
                 \"sign_in_hint\":\"ask again\",\"sign_in_ends\":{at},\
                 \"sign_in_ends_unix\":1700000000,\"sign_in_ends_by\":\"experience\"}}]}}"
            )
        );
        let back: Status = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn tokens_that_are_lost_and_codes_that_are_stuck_come_with_the_reason() {
        let json = serde_json::json!({
            "refresh": "none", "refresh_error": "it said no", "refresh_hint": "ask again",
            "sign_in": "completing", "sign_in_since": "2023-11-14T22:13:20Z",
            "sign_in_since_unix": 1_700_000_000, "sign_in_error": "it said no",
            "sign_in_hint": "ask again",
        });
        let renewal = RenewalView::NoTokens {
            lost: Some(reason()),
        };
        let sign_in = SignInView::Exchanging {
            since: Wall::from_millis(1_700_000_000_000),
            trouble: Some(reason()),
        };
        let mut found = serde_json::to_value(&renewal).unwrap();
        let more = serde_json::to_value(&sign_in).unwrap();
        let members = more.as_object().unwrap().clone();
        found.as_object_mut().unwrap().extend(members);
        assert_eq!(found, json);
        assert_eq!(
            serde_json::from_value::<RenewalView>(json.clone()).unwrap(),
            renewal
        );
        assert_eq!(serde_json::from_value::<SignInView>(json).unwrap(), sign_in);
    }

    #[test]
    fn words_and_members_of_a_newer_server_are_passed_over() {
        let json = serde_json::json!({
            "account": "work", "valid": true, "needs": "none", "colour": "green",
            "refresh": "postponed", "refresh_at": 1, "sign_in": "mislaid", "sign_in_since": true,
            "discovery": { "issuer": "https://i.example", "state": "in_doubt", "since": [] },
        });
        let view: AccountView = serde_json::from_value(json).unwrap();
        assert_eq!(view.renewal, RenewalView::Other);
        assert_eq!(view.sign_in, SignInView::Other);
        assert_eq!(view.discovery.unwrap().state, DiscoveryState::Other);
    }

    #[test]
    fn what_an_issuer_says_is_reported_and_read_back() {
        for (state, text) in [
            (DiscoveryState::NotYet, "\"state\":\"not_yet\""),
            (DiscoveryState::UnderWay, "\"state\":\"under_way\""),
            (
                DiscoveryState::Done {
                    auth_uri: Some("https://a.example/auth".into()),
                    token_uri: "https://a.example/token".into(),
                    device_auth_uri: None,
                    revocation_uri: None,
                },
                "\"state\":\"done\",\"auth_uri\":\"https://a.example/auth\",\
                 \"token_uri\":\"https://a.example/token\"",
            ),
            (
                DiscoveryState::Failed {
                    since: AT,
                    failures: 3,
                    at: None,
                    reason: reason(),
                },
                "\"state\":\"failed\",\"since\":\"2023-11-14T22:13:20Z\",\
                 \"since_unix\":1700000000,\"failures\":3,\"error\":\"it said no\",\
                 \"hint\":\"ask again\"",
            ),
        ] {
            let view = DiscoveryView {
                issuer: "https://a.example".into(),
                state,
            };
            let wanted = format!("{{\"issuer\":\"https://a.example\",{text}}}");
            assert_eq!(serde_json::to_string(&view).unwrap(), wanted);
            let back: DiscoveryView = serde_json::from_str(&wanted).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), wanted);
        }
    }

    #[test]
    fn news_is_one_flat_object() {
        let news = News {
            at: AT,
            account: Some("work".into()),
            ..Happening::AuthorisationFailed.because(&reason())
        };
        let text = serde_json::to_string(&news).unwrap();
        assert_eq!(
            text,
            "{\"watch_format_version\":1,\"time\":\"2023-11-14T22:13:20Z\",\
             \"time_unix\":1700000000,\"event\":\"authorisation_failed\",\"account\":\"work\",\
             \"error\":\"it said no\",\"hint\":\"ask again\"}"
        );
        let back: News<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(back.event, "authorisation_failed");
    }
}
