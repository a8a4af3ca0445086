//! The names that the language knows: options, where each may stand, and what became of old ones.

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Outside every account.
    Global,
    /// Inside an account.
    Account,
    /// Inside a restricted socket.
    Socket,
    /// Outside, as the default, and inside an account, as that account's own.
    Both,
}

impl Level {
    /// Whether an option of this level may stand at `place` (which is never [`Level::Both`]).
    pub(super) fn allows(self, place: Level) -> bool {
        self == place || self == Level::Both && place != Level::Socket
    }
}

/// Every option, in the order of the manual. Manual, tests and suggestions all go by this table.
pub const OPTIONS: [(&str, Level); 40] = [
    ("auth_notify_cmd", Level::Global),
    ("auth_notify_interval", Level::Global),
    ("error_notify_cmd", Level::Global),
    ("http_listen", Level::Global),
    ("https_listen", Level::Global),
    ("notice_at", Level::Global),
    ("startup_cmd", Level::Global),
    ("state", Level::Global),
    ("state_load_cmd", Level::Global),
    ("state_save_cmd", Level::Global),
    ("token_event_cmd", Level::Global),
    ("transient_error_if_cmd", Level::Global),
    ("notice_before", Level::Both),
    ("refresh_at_least", Level::Both),
    ("refresh_before_expiry", Level::Both),
    ("refresh_retry", Level::Both),
    ("provider", Level::Account),
    ("address", Level::Account),
    ("grant", Level::Account),
    ("issuer", Level::Account),
    ("auth_uri", Level::Account),
    ("token_uri", Level::Account),
    ("device_auth_uri", Level::Account),
    ("revocation_uri", Level::Account),
    ("allow_http", Level::Account),
    ("client_id", Level::Account),
    ("client_secret", Level::Account),
    ("client_secret_cmd", Level::Account),
    ("client_auth", Level::Account),
    ("scopes", Level::Account),
    ("redirect_uri", Level::Account),
    ("auth_uri_fields", Level::Account),
    ("token_cmd", Level::Account),
    ("token_file", Level::Account),
    ("token_file_format", Level::Account),
    ("token_uri_fields", Level::Account),
    ("token_uri_headers", Level::Account),
    ("login_hint", Level::Account),
    ("accounts", Level::Socket),
    ("allow", Level::Socket),
];

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

/// Whether `name` is an option somewhere.
pub(super) fn is_option(name: &str) -> bool {
    OPTIONS.iter().any(|(known, _)| *known == name)
}
