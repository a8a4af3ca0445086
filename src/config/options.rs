//! The names that the language knows: options, where each may stand, and what became of old ones.

use std::{collections::HashMap, sync::LazyLock};

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Outside every account.
    Global,
    /// Inside an account.
    Account,
    /// Inside a restricted socket.
    Socket,
    /// Inside a proxy.
    Proxy,
    /// Outside, as the default, and inside an account, as that account's own.
    Both,
}

impl Level {
    /// Whether an option of this level may stand at `place` (which is never [`Level::Both`]).
    pub(super) fn allows(self, place: Level) -> bool {
        self == place || self == Level::Both && matches!(place, Level::Global | Level::Account)
    }

    /// Where such an option belongs that stands where it can't.
    pub(super) fn place(self) -> &'static str {
        match self {
            Level::Global | Level::Both => "outside the block",
            Level::Account => "inside an account",
            Level::Socket => "inside a socket",
            Level::Proxy => "inside a proxy",
        }
    }
}

/// Every option, by where it may stand and in the order of the manual.
const OPTIONS: [(Level, &str); 5] = [
    (
        Level::Global,
        "auth_notify_cmd auth_notify_interval error_notify_cmd http_listen https_listen notice_at \
         startup_cmd state state_load_cmd state_save_cmd token_event_cmd transient_error_if_cmd",
    ),
    (
        Level::Both,
        "notice_before refresh_at_least refresh_before_expiry refresh_retry",
    ),
    (
        Level::Account,
        "provider address grant issuer auth_uri token_uri device_auth_uri revocation_uri allow_http \
         client_id client_secret client_secret_cmd client_key client_certificate client_auth key_file \
         subject scopes resource redirect_uri auth_uri_fields token_cmd token_file token_file_format \
         token_uri_fields token_uri_headers login_hint",
    ),
    (Level::Socket, "accounts allow"),
    (
        Level::Proxy,
        "account server password_cmd user certificate key tls allow_network",
    ),
];

/// Every option. Manual, tests and suggestions all go by this.
pub fn options() -> impl Iterator<Item = (&'static str, Level)> {
    OPTIONS
        .into_iter()
        .flat_map(|(level, names)| names.split(' ').map(move |name| (name, level)))
}

/// The same by name: each setting of a file is looked up.
static BY_NAME: LazyLock<HashMap<&str, Level>> = LazyLock::new(|| options().collect());

/// Names that were options once, and what to write instead.
pub(super) const RETIRED: [(&str, &str); 3] = [
    ("auth_error_cmd", "use `error_notify_cmd` instead"),
    ("refresh_retry_interval", "use `refresh_retry` instead"),
    (
        "not_transient_error_if",
        "use `transient_error_if_cmd` instead, with the meaning negated: \
         its exit status 0 says that the error is transient",
    ),
];

/// Parameters of the authorization request that are pizauth's own (RFC 6749, 4.1.1; RFC 7636, 4.3).
pub(super) const RESERVED_FIELDS: &str = "\
    client_id code_challenge code_challenge_method redirect_uri response_type scope state";

/// Parameters of token requests that are pizauth's own (RFC 6749, 4.1.3 and 6; RFC 7521, 4.2;
/// RFC 7636, 4.5; RFC 8628, 3.4).
pub(super) const RESERVED_TOKEN_FIELDS: &str = "\
    client_assertion client_assertion_type client_id client_secret code code_verifier device_code \
    grant_type redirect_uri refresh_token";

/// Headers of token requests that say how the request is to be read, or who sends it.
pub(super) const RESERVED_HEADERS: &str = "\
    accept accept-encoding authorization connection content-encoding content-length \
    content-type expect host keep-alive proxy-authorization te trailer transfer-encoding \
    upgrade";

/// The option of this name, wherever it may stand.
pub(super) fn option(name: &str) -> Option<(&'static str, Level)> {
    let (known, level) = BY_NAME.get_key_value(name)?;
    Some((known, *level))
}
