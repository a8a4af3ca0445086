//! What users and their scripts rely on, as one table. Everything in it is visible from outside,
//! so it holds for any binary of this command line: `PIZAUTH_UNDER_TEST=/path/to/pizauth
//! cargo test --test blackbox compat`. Where ours is meant to differ from the program whose
//! documentation it follows, the row says why, and another binary is not held to it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use url::Url;

use crate::support::browser;
use crate::support::daemon::Daemon;
use crate::support::provider::{Provider, Scripted, TOKEN};

/// How many rows run at once; most of their time is waiting.
const AT_ONCE: usize = 4;

/// One row.
struct Case {
    name: &'static str,
    /// The first configuration; see [`World::fill`] for what is replaced in it.
    config: &'static str,
    steps: &'static [Step],
    /// Why ours differs here on purpose, if it does.
    differs: Option<&'static str>,
}

enum Step {
    /// `pizauth` with these arguments.
    Run(&'static [&'static str], Status, Text, Text),
    /// Starts the server the usual way: exit 0, in silence, and it answers.
    Start,
    /// Shuts it down; the socket goes with it.
    Stop,
    /// Replaces the configuration.
    Config(&'static str),
    /// `show` asks for a sign-in whose URL has exactly these parameters, in this order.
    Asks(&'static str, &'static [(&'static str, Value)]),
    /// Signs in by the URL that `show` gives. Our page waits for the token; another binary's may
    /// be faster than its token.
    SignIn(&'static str),
    /// The user refuses, at the URL that `show` gives.
    Refuse(&'static str),
    /// What `dump` prints is kept, and
    Dump,
    /// given to `restore`.
    Restore,
    /// `restore` takes this, which the original wrote.
    RestoreOld(&'static [u8]),
    /// This shell command, in the directory where all is, succeeds.
    Shell(&'static str),
    /// `restore` gets this instead, and refuses it.
    RestoreText(&'static str),
    /// The token endpoint's next answer.
    Answer(u16, &'static str),
    /// `show` prints this in the end.
    Becomes(&'static str, &'static str),
    /// The file that hooks write to has these lines, sooner or later, and no others. Hooks of
    /// different kinds run side by side, so their order says nothing.
    Lines(&'static [&'static str]),
    /// So many requests have reached the token endpoint.
    Asked(usize),
    /// The last of them had these parameters.
    Sent(&'static [(&'static str, &'static str)]),
}

enum Status {
    Success,
    /// Failure. Ours exits with this code; of another binary, any failure will do.
    Fails(i32),
}

enum Text {
    Nothing,
    Any,
    /// Exactly this.
    Is(&'static str),
    /// One line of these words and a URL.
    LineWithUrl(&'static str),
    /// Something, and no URL in it.
    NoUrl,
    /// One line for each of these accounts, which names it.
    LineEach(&'static [&'static str]),
    /// A line each, which starts so.
    LinesStart(&'static [&'static str]),
    /// One line each that has this before its first colon.
    KeysOnce(&'static [&'static str]),
    /// A JSON object with these fields, and perhaps more.
    Json(&'static [(&'static str, Json)]),
    /// All of these words.
    Words(&'static [&'static str]),
}

enum Json {
    Text,
    Is(u64),
    Port,
    /// Bytes in hexadecimal, with colons.
    Bytes,
    True,
    False,
    Object,
}

enum Value {
    Any,
    Is(&'static str),
    /// A SHA-256 in base64url.
    Sha256,
    /// At least 128 bits as letters and digits.
    Random,
    /// This, with the http listener's port behind the host.
    Redirect(&'static str, &'static str),
}

use Status::{Fails, Success};
use Step::{
    Answer, Asked, Asks, Becomes, Config, Dump, Lines, Refuse, Restore, RestoreOld, RestoreText,
    Run, Sent, Shell, SignIn, Start, Stop,
};
use Text::{LineEach, LineWithUrl, NoUrl, Nothing, Words};

/// One account, and nothing else.
const WORK: &str = r#"account "work" {
    auth_uri = "@AUTH@";
    token_uri = "@TOKEN@";
    client_id = "id-of-work";
    client_secret = "a secret & more";
    scopes = ["mail read", "offline"];
}
"#;

/// The same and another one.
const TWO: &str = r#"account "work" {
    auth_uri = "@AUTH@";
    token_uri = "@TOKEN@";
    client_id = "id-of-work";
    client_secret = "a secret & more";
    scopes = ["mail read", "offline"];
}
account "play" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id-of-play"; }
"#;

/// The two, but `work` is registered differently.
const TWO_CHANGED: &str = r#"account "work" {
    auth_uri = "@AUTH@";
    token_uri = "@TOKEN@";
    client_id = "another-id-of-work";
    client_secret = "a secret & more";
    scopes = ["mail read", "offline"];
}
account "play" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id-of-play"; }
"#;

/// `work` with another secret.
const OTHER_SECRET: &str = r#"account "work" {
    auth_uri = "@AUTH@";
    token_uri = "@TOKEN@";
    client_id = "id-of-work";
    client_secret = "another";
    scopes = ["mail read", "offline"];
}
"#;

/// Hooks that write what they are given.
const HOOKS: &str = r#"
auth_notify_cmd = "echo auth \"$PIZAUTH_ACCOUNT\" \"${PIZAUTH_URL%%\\?*}\" >>'@HOME@/lines'";
error_notify_cmd = "echo error \"$PIZAUTH_ACCOUNT\" \"${PIZAUTH_MSG:+has a message}\" >>'@HOME@/lines'";
token_event_cmd = "echo event \"$PIZAUTH_ACCOUNT\" \"$PIZAUTH_EVENT\" >>'@HOME@/lines'";
account "work" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id"; }
"#;

const AVAILABLE: &str = "ERROR - Access token unavailable until authorised";

const CASES: &[Case] = &[
    // First, since it takes longest: ours leaves ten seconds between two requests of an account.
    Case {
        name: "refresh right after a sign-in brings a new token too",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Run(&["refresh", "work"], Success, Nothing, Nothing),
            Becomes("work", "at-2\n"),
            Asked(2),
        ],
        differs: None,
    },
    // ---- the command line ----------------------------------------------------------------------
    Case {
        name: "every command explains itself on stdout",
        config: WORK,
        steps: &[
            Run(
                &["-h"],
                Success,
                Words(&["dump", "info", "refresh", "reload", "restore"]),
                Nothing,
            ),
            Run(
                &["--help"],
                Success,
                Words(&["revoke", "server", "show", "shutdown", "status"]),
                Nothing,
            ),
            Run(&["dump", "-h"], Success, Words(&["pizauth dump"]), Nothing),
            Run(
                &["info", "-h"],
                Success,
                Words(&["pizauth info [-j]"]),
                Nothing,
            ),
            Run(
                &["refresh", "-h"],
                Success,
                Words(&["pizauth refresh [-u] <account>"]),
                Nothing,
            ),
            Run(
                &["reload", "-h"],
                Success,
                Words(&["pizauth reload"]),
                Nothing,
            ),
            Run(
                &["restore", "-h"],
                Success,
                Words(&["pizauth restore"]),
                Nothing,
            ),
            Run(
                &["revoke", "-h"],
                Success,
                Words(&["pizauth revoke [-l] <account>"]),
                Nothing,
            ),
            Run(
                &["server", "--help"],
                Success,
                Words(&["pizauth server", "-c", "-d", "-v"]),
                Nothing,
            ),
            Run(
                &["show", "--help"],
                Success,
                Words(&["pizauth show [-u] ", "<account>"]),
                Nothing,
            ),
            Run(
                &["shutdown", "--help"],
                Success,
                Words(&["pizauth shutdown"]),
                Nothing,
            ),
            Run(
                &["status", "--help"],
                Success,
                Words(&["pizauth status"]),
                Nothing,
            ),
        ],
        differs: Some("help is an answer, not a failure: it is on stdout with exit 0 everywhere"),
    },
    Case {
        name: "a wrong command line is refused on stderr",
        config: WORK,
        steps: &[
            Run(&[], Fails(64), Nothing, Text::Any),
            Run(&["frob"], Fails(64), Nothing, Text::Any),
            Run(&["show"], Fails(64), Nothing, Text::Any),
            Run(&["show", "a", "b"], Fails(64), Nothing, Text::Any),
            Run(&["refresh"], Fails(64), Nothing, Text::Any),
            Run(&["revoke"], Fails(64), Nothing, Text::Any),
            Run(&["server", "-x"], Fails(64), Nothing, Text::Any),
            Run(&["status", "x"], Fails(64), Nothing, Text::Any),
        ],
        differs: None,
    },
    Case {
        name: "without a server every command fails, and info doesn't",
        config: WORK,
        steps: &[
            Run(&["dump"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(&["refresh", "work"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(&["reload"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(&["revoke", "work"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(&["show", "work"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(&["shutdown"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(&["status"], Fails(69), Nothing, Words(&["ERROR"])),
            Run(
                &["info", "-j"],
                Success,
                Text::Json(&[("server_running", Json::False)]),
                Nothing,
            ),
            Run(&["info"], Success, Words(&["pizauth"]), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "info -j has the fields that scripts read",
        config: WORK,
        steps: &[
            Start,
            Run(
                &["info", "-j"],
                Success,
                Text::Json(&[
                    ("cache_directory", Json::Text),
                    ("config_file", Json::Text),
                    ("executed_as", Json::Text),
                    ("info_format_version", Json::Is(2)),
                    ("pizauth_version", Json::Text),
                    ("server_running", Json::True),
                    ("server_info", Json::Object),
                    ("server_info/http_port", Json::Port),
                    ("server_info/https_port", Json::Port),
                    ("server_info/https_pub_key", Json::Bytes),
                ]),
                Nothing,
            ),
        ],
        differs: None,
    },
    Case {
        name: "a listener that there isn't has the port none",
        config: r#"https_listen = none;
account "work" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id"; }"#,
        steps: &[
            Start,
            Shell(r#""$PIZAUTH" info -j | grep -q '"https_port": *"none"'"#),
        ],
        differs: None,
    },
    Case {
        name: "info has a line for each thing that scripts look for",
        config: WORK,
        steps: &[
            Run(
                &["info"],
                Success,
                Text::KeysOnce(&["cache directory", "config file"]),
                Nothing,
            ),
            Run(
                &["info", "-c", "other.conf"],
                Success,
                Words(&["  config file: other.conf\n"]),
                Nothing,
            ),
            Start,
            Run(
                &["info"],
                Success,
                Text::KeysOnce(&["cache directory", "config file", "http port", "https port"]),
                Nothing,
            ),
            Shell(r#""$PIZAUTH" info | head -n 1 | grep -q '^pizauth version .*:$'"#),
        ],
        differs: None,
    },
    Case {
        name: "every command takes -v",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Run(
                &["show", "-v", "work"],
                Success,
                Text::Is("at-1\n"),
                Nothing,
            ),
            Run(
                &["status", "--verbose"],
                Success,
                LineEach(&["work"]),
                Nothing,
            ),
            Run(&["info", "-vj"], Success, Text::Any, Nothing),
            Run(&["reload", "-v"], Success, Nothing, Nothing),
            Run(&["revoke", "-vv", "work"], Success, Nothing, Nothing),
            Run(&["refresh", "-v", "-u", "work"], Fails(77), Nothing, NoUrl),
            Run(&["shutdown", "-v"], Success, Nothing, Nothing),
        ],
        differs: None,
    },
    Case {
        name: "an account that isn't configured",
        config: WORK,
        steps: &[
            Start,
            Run(
                &["show", "nobody"],
                Fails(67),
                Nothing,
                Words(&["ERROR - No account 'nobody'"]),
            ),
            Run(
                &["refresh", "nobody"],
                Fails(67),
                Nothing,
                Words(&["ERROR - No account 'nobody'"]),
            ),
        ],
        differs: None,
    },
    Case {
        name: "a second server",
        config: WORK,
        steps: &[
            Start,
            Run(&["server"], Fails(1), Nothing, Words(&["ERROR", "running"])),
            Run(&["status"], Success, LineEach(&["work"]), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "status has a line for each account",
        config: TWO,
        steps: &[
            Start,
            SignIn("work"),
            Run(&["status"], Success, LineEach(&["play", "work"]), Nothing),
            Run(
                &["status"],
                Success,
                Text::LinesStart(&["play: No access token", "work: Active access token ("]),
                Nothing,
            ),
            Run(&["show", "-u", "play"], Fails(77), Nothing, NoUrl),
            Run(
                &["status"],
                Success,
                Text::LinesStart(&[
                    "play: Access token pending authentication",
                    "work: Active access token (",
                ]),
                Nothing,
            ),
        ],
        differs: None,
    },
    Case {
        name: "shutdown leaves nothing to connect to, and a new server may come",
        config: WORK,
        steps: &[
            Start,
            Stop,
            Run(&["status"], Fails(69), Nothing, Text::Any),
            Start,
            Stop,
        ],
        differs: None,
    },
    // ---- signing in ----------------------------------------------------------------------------
    Case {
        name: "show asks for a sign-in in one line that scripts take apart",
        config: WORK,
        steps: &[
            Start,
            Run(
                &["show", "work"],
                Fails(77),
                Nothing,
                LineWithUrl("ERROR - Access token unavailable until authorised with URL "),
            ),
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Run(
                &["refresh", "work"],
                Fails(77),
                Nothing,
                LineWithUrl("ERROR - Access token unavailable until authorised with URL "),
            ),
            Run(&["refresh", "-u", "work"], Fails(77), Nothing, NoUrl),
            Asked(0),
        ],
        differs: None,
    },
    Case {
        name: "refresh without a token says what show says",
        config: WORK,
        steps: &[
            Start,
            Run(
                &["show", "-u", "work"],
                Fails(77),
                Nothing,
                Text::Is("ERROR - Access token unavailable until authorised\n"),
            ),
            Run(
                &["refresh", "-u", "work"],
                Fails(77),
                Nothing,
                Text::Is("ERROR - Access token unavailable until authorised\n"),
            ),
        ],
        differs: Some("one wording for one situation, with or without its URL"),
    },
    Case {
        name: "show prints the token and nothing else",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Run(
                &["show", "-u", "work"],
                Success,
                Text::Is("at-1\n"),
                Nothing,
            ),
            Asked(1),
        ],
        differs: None,
    },
    Case {
        name: "the authorisation URL",
        config: WORK,
        steps: &[
            Start,
            Asks(
                "work",
                &[
                    ("access_type", Value::Is("offline")),
                    ("code_challenge", Value::Sha256),
                    ("code_challenge_method", Value::Is("S256")),
                    ("scope", Value::Is("mail read offline")),
                    ("client_id", Value::Is("id-of-work")),
                    ("redirect_uri", Value::Redirect("http://localhost", "/")),
                    ("response_type", Value::Is("code")),
                    ("state", Value::Random),
                ],
            ),
        ],
        differs: None,
    },
    Case {
        name: "the authorisation URL with fields of its own",
        config: r#"account "work" {
            auth_uri = "@AUTH@?tenant=a%20b";
            token_uri = "@TOKEN@";
            client_id = "id &=? ü";
            redirect_uri = "http://127.0.0.1/some/path";
            auth_uri_fields = { "prompt": "consent", "x": "1", "prompt": "two", "y": "a&b=c" };
            login_hint = "me@example.com";
        }"#,
        steps: &[
            Start,
            Asks(
                "work",
                &[
                    ("tenant", Value::Is("a b")),
                    ("access_type", Value::Is("offline")),
                    ("code_challenge", Value::Any),
                    ("code_challenge_method", Value::Is("S256")),
                    ("client_id", Value::Is("id &=? ü")),
                    (
                        "redirect_uri",
                        Value::Redirect("http://127.0.0.1", "/some/path"),
                    ),
                    ("response_type", Value::Is("code")),
                    ("state", Value::Any),
                    ("prompt", Value::Is("consent")),
                    ("x", Value::Is("1")),
                    ("prompt", Value::Is("two")),
                    ("y", Value::Is("a&b=c")),
                    ("login_hint", Value::Is("me@example.com")),
                ],
            ),
        ],
        differs: None,
    },
    Case {
        name: "the code is exchanged with what the token endpoint needs",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Sent(&[
                ("client_id", "id-of-work"),
                ("client_secret", "a secret & more"),
                ("code", "code-1"),
                ("grant_type", "authorization_code"),
            ]),
        ],
        differs: None,
    },
    Case {
        name: "a user who refuses is asked again by the next show",
        config: WORK,
        steps: &[
            Start,
            Refuse("work"),
            Run(
                &["show", "work"],
                Fails(77),
                Nothing,
                Words(&["ERROR - Access token unavailable until authorised with URL http"]),
            ),
            SignIn("work"),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
        ],
        differs: None,
    },
    // ---- refreshing ----------------------------------------------------------------------------
    Case {
        name: "refresh brings a new token without anybody's help",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Dump,
            Stop,
            Start,
            Restore,
            Run(&["refresh", "work"], Success, Nothing, Nothing),
            Becomes("work", "at-2\n"),
            Sent(&[
                ("client_id", "id-of-work"),
                ("client_secret", "a secret & more"),
                ("grant_type", "refresh_token"),
                ("refresh_token", "rt-1"),
            ]),
        ],
        differs: None,
    },
    Case {
        name: "a refresh that fails in passing loses nothing",
        config: HOOKS,
        steps: &[
            Start,
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Lines(&["auth work @AUTH@"]),
            SignIn("work"),
            // A server that ends takes its hooks along.
            Lines(&["auth work @AUTH@", "event work token_new"]),
            Dump,
            Stop,
            Start,
            Restore,
            Answer(503, "<html>busy</html>"),
            Run(&["refresh", "work"], Success, Nothing, Nothing),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Lines(&["auth work @AUTH@", "event work token_new"]),
        ],
        differs: Some(
            "a token that is still valid is shown whatever a proxy or a server in trouble says",
        ),
    },
    Case {
        name: "a refused refresh keeps the access token for the rest of its life",
        config: HOOKS,
        steps: &[
            Start,
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Lines(&["auth work @AUTH@"]),
            SignIn("work"),
            // A server that ends takes its hooks along.
            Lines(&["auth work @AUTH@", "event work token_new"]),
            Dump,
            Stop,
            Start,
            Restore,
            Answer(
                400,
                r#"{"error": "invalid_grant", "error_description": "the grant has ended"}"#,
            ),
            Run(&["refresh", "work"], Success, Nothing, Nothing),
            Lines(&[
                "auth work @AUTH@",
                "event work token_new",
                "error work has a message",
                "event work token_invalidated",
            ]),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Run(
                &["refresh", "work"],
                Fails(77),
                Nothing,
                Words(&[AVAILABLE, "the grant has ended"]),
            ),
        ],
        differs: Some(
            "only the refresh token was refused: mail goes on while the user gets round to it",
        ),
    },
    Case {
        name: "revoke forgets the token",
        config: WORK,
        steps: &[
            Start,
            Run(&["revoke", "work"], Success, Nothing, Nothing),
            SignIn("work"),
            Run(&["revoke", "work"], Success, Nothing, Nothing),
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            SignIn("work"),
            Run(&["show", "work"], Success, Text::Is("at-2\n"), Nothing),
        ],
        differs: None,
    },
    // ---- hooks ---------------------------------------------------------------------------------
    Case {
        name: "the hooks' environment",
        config: HOOKS,
        steps: &[
            Start,
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Lines(&["auth work @AUTH@"]),
            SignIn("work"),
            Lines(&["auth work @AUTH@", "event work token_new"]),
            Run(&["revoke", "work"], Success, Nothing, Nothing),
            Lines(&[
                "auth work @AUTH@",
                "event work token_new",
                "event work token_revoked",
            ]),
        ],
        differs: None,
    },
    Case {
        name: "error_notify_cmd hears of a refusal",
        config: HOOKS,
        steps: &[
            Start,
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Lines(&["auth work @AUTH@"]),
            Refuse("work"),
            Lines(&["auth work @AUTH@", "error work has a message"]),
        ],
        differs: None,
    },
    Case {
        name: "startup_cmd runs when the server answers",
        config: r#"
startup_cmd = "echo started >>'@HOME@/lines'";
account "work" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id"; }
"#,
        steps: &[
            Start,
            Lines(&["started"]),
            Run(&["reload"], Success, Nothing, Nothing),
            Stop,
            Start,
            Lines(&["started", "started"]),
        ],
        differs: None,
    },
    // ---- reload, dump, restore -----------------------------------------------------------------
    Case {
        name: "reload keeps one account's token and drops that of a changed one",
        config: TWO,
        steps: &[
            Start,
            SignIn("work"),
            SignIn("play"),
            Run(&["reload"], Success, Nothing, Nothing),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Config(TWO_CHANGED),
            Run(&["reload"], Success, Nothing, Nothing),
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Run(&["show", "play"], Success, Text::Is("at-2\n"), Nothing),
            Asked(2),
        ],
        differs: None,
    },
    Case {
        name: "reload takes new accounts in and lets old ones go",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Config(TWO),
            Run(&["reload"], Success, Nothing, Nothing),
            Run(&["status"], Success, LineEach(&["play", "work"]), Nothing),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Config(
                r#"account "play" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id-of-play"; }"#,
            ),
            Run(&["reload"], Success, Nothing, Nothing),
            Run(
                &["show", "work"],
                Fails(67),
                Nothing,
                Words(&["ERROR", "work"]),
            ),
        ],
        differs: None,
    },
    Case {
        name: "reload of a bad config changes nothing",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Config("frob = 1;\n"),
            Run(&["reload"], Fails(1), Nothing, Words(&["ERROR", "frob"])),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Run(&["status"], Success, LineEach(&["work"]), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "a changed client_secret keeps the token",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Config(OTHER_SECRET),
            Run(&["reload"], Success, Nothing, Nothing),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
        ],
        differs: Some("a secret that is rotated says nothing about whose the tokens are"),
    },
    Case {
        name: "dump and restore carry tokens into a fresh server",
        config: TWO,
        steps: &[
            Start,
            SignIn("work"),
            Dump,
            Stop,
            Start,
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Restore,
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
            Run(&["show", "-u", "play"], Fails(77), Nothing, NoUrl),
        ],
        differs: None,
    },
    Case {
        name: "restore ignores the tokens of another registration",
        config: TWO,
        steps: &[
            Start,
            SignIn("work"),
            SignIn("play"),
            Dump,
            Stop,
            Config(TWO_CHANGED),
            Start,
            Restore,
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
            Run(&["show", "play"], Success, Text::Is("at-2\n"), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "restore never replaces a live token by an older one",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            Dump,
            Run(&["revoke", "work"], Success, Nothing, Nothing),
            SignIn("work"),
            Restore,
            Run(&["show", "work"], Success, Text::Is("at-2\n"), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "a dump of the original is restored",
        config: r#"account "work" {
            auth_uri = "https://login.example.com/authorize";
            token_uri = "https://login.example.com/token";
            client_id = "1234";
            client_secret = "not so secret";
            scopes = ["mail", "offline_access"];
            auth_uri_fields = { "login_hint": "you@example.com", "prompt": "consent" };
        }
        account "no refresh" {
            auth_uri = "https://login.example.org/authorize";
            token_uri = "https://login.example.org/token";
            client_id = "public";
            redirect_uri = "https://localhost:8443/cb";
        }
        account "empty" {
            auth_uri = "https://a.example/a";
            token_uri = "https://a.example/t";
            client_id = "another client than that of the dump";
            scopes = ["s"];
        }"#,
        steps: &[
            Start,
            RestoreOld(include_bytes!("data/original.dump")),
            Run(
                &["show", "work"],
                Success,
                Text::Is("an-access-token\n"),
                Nothing,
            ),
            Run(
                &["show", "no refresh"],
                Success,
                Text::Is("another-token\n"),
                Nothing,
            ),
            Run(&["show", "-u", "empty"], Fails(77), Nothing, NoUrl),
        ],
        differs: None,
    },
    Case {
        name: "a dump of the original is ignored where the registration is another",
        config: r#"account "work" {
            auth_uri = "https://login.example.com/authorize";
            token_uri = "https://login.example.com/token";
            client_id = "12345";
            client_secret = "not so secret";
            scopes = ["mail", "offline_access"];
            auth_uri_fields = { "login_hint": "you@example.com", "prompt": "consent" };
        }"#,
        steps: &[
            Start,
            RestoreOld(include_bytes!("data/original.dump")),
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
        ],
        differs: None,
    },
    Case {
        name: "restore refuses what is no dump",
        config: WORK,
        steps: &[
            Start,
            SignIn("work"),
            RestoreText(""),
            RestoreText("hello\n"),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
        ],
        differs: None,
    },
    // ---- configuration -------------------------------------------------------------------------
    Case {
        name: "the whole language at once",
        config: r#"
// A comment, with "quotes" and { braces }.
auth_notify_cmd = "true \"$PIZAUTH_URL\" \\ x"; // another
auth_notify_interval = 15m;
error_notify_cmd = "true";
http_listen = "127.0.0.1:0";
https_listen = none;
refresh_at_least = 1d;
refresh_before_expiry = 90s;
refresh_retry = 2h;
startup_cmd = "true";
token_event_cmd = "true";
transient_error_if_cmd = "true";
account "work" {
    auth_uri = "@AUTH@";
    token_uri = "@TOKEN@";
    client_id = "id";
    client_secret = "secret";
    scopes = ["a", "b",];
    redirect_uri = "http://localhost/";
    auth_uri_fields = { "k": "v", "k": "w", };
    login_hint = "me";
    refresh_at_least = 90m;
    refresh_before_expiry = 5m;
    refresh_retry = 40s;
}"#,
        steps: &[
            Start,
            SignIn("work"),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "values that mean little, and what nobody needs to write",
        config: r#"
auth_notify_interval = 0s;
refresh_retry = 0s;
refresh_before_expiry = 0s;
account "work" {
    auth_uri = "@AUTH@";
    token_uri = "@TOKEN@";
    client_id = "id";
    redirect_uri = "http://user@localhost/";
    scopes = [, "a"];
}"#,
        steps: &[
            Start,
            SignIn("work"),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "the runtime directory is made, and ours in it for its user alone",
        config: WORK,
        steps: &[
            Shell("mkdir run/pizauth && chmod 755 run/pizauth"),
            Start,
            Shell("test -n \"$(find run/pizauth -maxdepth 0 -perm 700)\""),
            Stop,
            Shell("rm -r run"),
            Start,
            Shell("test -n \"$(find run -maxdepth 0 -perm 700)\""),
            Run(&["show", "-u", "work"], Fails(77), Nothing, NoUrl),
        ],
        differs: None,
    },
    Case {
        name: "a bad config stops the server before it detaches",
        config: "account \"work\" { }\n",
        steps: &[
            Run(
                &["server"],
                Fails(1),
                Nothing,
                Words(&["ERROR", "pizauth.conf"]),
            ),
            Run(&["status"], Fails(69), Nothing, Text::Any),
            Config("acount \"work\" { }\n"),
            Run(
                &["server"],
                Fails(1),
                Nothing,
                Words(&["ERROR", "pizauth.conf:1:1"]),
            ),
            Config(WORK),
            Start,
        ],
        differs: None,
    },
    Case {
        name: "an option or an account twice",
        config: "refresh_retry = 40s;\nrefresh_retry = 50s;\n",
        steps: &[
            Run(
                &["server"],
                Fails(1),
                Nothing,
                Words(&["ERROR", "pizauth.conf:2:", "refresh_retry"]),
            ),
            Config(
                r#"account "work" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id"; }
account "work" { auth_uri = "@AUTH@"; token_uri = "@TOKEN@"; client_id = "id"; }"#,
            ),
            Run(
                &["server"],
                Fails(1),
                Nothing,
                Words(&["ERROR", "pizauth.conf:2:", "work"]),
            ),
        ],
        differs: None,
    },
    Case {
        name: "https redirects",
        config: r#"account "work" {
            auth_uri = "@AUTH@";
            token_uri = "@TOKEN@";
            client_id = "id";
            redirect_uri = "https://localhost/";
        }"#,
        steps: &[
            Start,
            SignIn("work"),
            Run(&["show", "work"], Success, Text::Is("at-1\n"), Nothing),
        ],
        differs: None,
    },
    Case {
        name: "http to a token endpoint elsewhere is refused",
        config: r#"account "work" {
            auth_uri = "https://login.example/authorize";
            token_uri = "http://login.example/token";
            client_id = "id";
        }"#,
        steps: &[Run(
            &["server"],
            Fails(1),
            Nothing,
            Words(&["ERROR", "pizauth.conf:3:", "http://login.example/token"]),
        )],
        differs: Some(
            "a refresh token in clear over a network is everybody's; without `allow_http` loopback \
             alone may do without TLS",
        ),
    },
];

#[test]
fn the_table_holds() {
    let next = AtomicUsize::new(0);
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                        failed.extend(run(case));
                    }
                    failed
                })
            })
            .collect();
        let failed = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        failed.collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "rows that don't hold: {failed:#?}");
}

/// A name for each row, so that a failure says which it is.
#[test]
fn the_rows_can_be_told_apart() {
    let names: BTreeMap<&str, usize> = CASES
        .iter()
        .zip(0..)
        .map(|(case, at)| (case.name, at))
        .collect();
    assert_eq!(names.len(), CASES.len());
}

/// Runs one row; its name and the step, if it doesn't hold.
fn run(case: &Case) -> Option<String> {
    if case.differs.is_some() && !Daemon::is_ours() {
        println!(
            "skipped: {} ({})",
            case.name,
            case.differs.unwrap_or_default()
        );
        return None;
    }
    let mut step = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(case.config);
        for (at, what) in case.steps.iter().enumerate() {
            step = at + 1;
            world.take(what);
        }
    }));
    let why = outcome.err()?;
    let why = why
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| why.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked");
    Some(format!("{}, step {step}: {why}", case.name))
}

struct World {
    provider: Provider,
    daemon: Daemon,
    dump: Vec<u8>,
}

impl World {
    fn new(config: &str) -> Self {
        let world = World {
            provider: Provider::start(),
            daemon: Daemon::new(""),
            dump: Vec::new(),
        };
        world.daemon.write_config(&world.fill(config));
        world
    }

    fn fill(&self, text: &str) -> String {
        let home = self.daemon.path("");
        text.replace("@AUTH@", &self.provider.auth_uri())
            .replace("@TOKEN@", &self.provider.token_uri())
            .replace("@HOME@", home.to_str().unwrap())
    }

    fn take(&mut self, step: &Step) {
        match step {
            Run(args, status, stdout, stderr) => self.run(args, b"", status, stdout, stderr),
            Start => self.daemon.start_forked(),
            Stop => {
                self.daemon.shutdown();
                assert!(!self.daemon.socket_path().exists());
            }
            Config(config) => self.daemon.write_config(&self.fill(config)),
            Asks(account, parameters) => self.asks(account, parameters),
            SignIn(account) => {
                let page = browser::visit(&self.url(account));
                assert_eq!(page.status(), 200, "{page:?}");
                match Daemon::is_ours() {
                    true => drop(self.daemon.token(account)),
                    false => drop(
                        self.daemon
                            .eventually(&["show", account], |output| output.status == 0),
                    ),
                }
            }
            Refuse(account) => {
                let error = Scripted::Error("access_denied", "no");
                self.provider.script("/authorize", error);
                browser::visit(&self.url(account));
            }
            Dump => self.dump = self.daemon.dump(),
            Restore => self.run(&["restore"], &self.dump, &Success, &Nothing, &Nothing),
            RestoreOld(dump) => self.run(&["restore"], dump, &Success, &Nothing, &Nothing),
            Shell(script) => {
                let pizauth = self.daemon.command(&[]);
                let mut shell = std::process::Command::new("/bin/sh");
                let vars = pizauth
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?)));
                shell
                    .args(["-c", script])
                    .envs(vars)
                    .current_dir(self.daemon.path(""));
                let status = shell.env("PIZAUTH", pizauth.get_program()).status();
                assert!(status.expect("a shell").success(), "{script}");
            }
            RestoreText(text) => {
                let error = Words(&["ERROR"]);
                self.run(&["restore"], text.as_bytes(), &Fails(1), &Nothing, &error);
            }
            Answer(status, body) => {
                let reply = Scripted::reply(*status, "application/json", body);
                self.provider.script(TOKEN, reply);
            }
            Becomes(account, stdout) => {
                let good = |output: &crate::support::command::Output| output.stdout == *stdout;
                self.daemon.eventually(&["show", account], good);
            }
            Lines(lines) => {
                let mut expected: Vec<String> = lines.iter().map(|line| self.fill(line)).collect();
                let mut found = self.daemon.record("lines").wait_lines(lines.len());
                expected.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, expected);
            }
            Asked(count) => assert_eq!(self.provider.requests(TOKEN).len(), *count),
            Sent(parameters) => self.sent(parameters),
        }
    }

    /// The URL that `show` gives, whatever else it says.
    fn url(&self, account: &str) -> String {
        let output = self.daemon.run(&["show", account]);
        assert!(output.status != 0 && output.stdout.is_empty(), "{output:?}");
        browser::url_in(&output.stderr)
    }

    fn run(&self, args: &[&str], input: &[u8], status: &Status, stdout: &Text, stderr: &Text) {
        let output = self.daemon.run_with(args, input);
        let right = match status {
            Success => output.status == 0,
            Fails(code) if Daemon::is_ours() => output.status == *code,
            Fails(_) => output.status != 0,
        };
        assert!(right, "{args:?}: {output:?}");
        check(stdout, &output.stdout);
        check(stderr, &output.stderr);
    }

    fn asks(&self, account: &str, parameters: &[(&str, Value)]) {
        let url = Url::parse(&self.url(account)).unwrap();
        let base = url.as_str().split('?').next().unwrap_or_default();
        assert_eq!(base, self.provider.auth_uri());
        let found: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let expected: Vec<&str> = parameters.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, expected, "{url}");
        for ((name, found), (_, value)) in found.iter().zip(parameters) {
            assert!(is_value(value, found), "{name} is {found:?}");
        }
    }

    fn sent(&self, parameters: &[(&str, &str)]) {
        let requests = self.provider.requests(TOKEN);
        let form = &requests.last().expect("a request").form;
        for (name, value) in parameters {
            let values: Vec<&str> = form.all(name).collect();
            assert_eq!(values, [*value], "{name}");
        }
    }
}

fn check(expected: &Text, found: &str) {
    match expected {
        Text::Any => {}
        Nothing => assert_eq!(found, ""),
        Text::Is(text) => assert_eq!(found, *text),
        LineWithUrl(words) => {
            let line = found.strip_suffix('\n').expect("a whole line");
            let url = line
                .strip_prefix(words)
                .unwrap_or_else(|| panic!("{found:?}"));
            assert!(
                Url::parse(url).is_ok() && !url.contains([' ', '\n']),
                "{found:?}"
            );
        }
        NoUrl => assert!(!found.is_empty() && !found.contains("http"), "{found:?}"),
        LineEach(_) | Text::LinesStart(_) | Text::KeysOnce(_) => check_lines(expected, found),
        Text::Json(fields) => {
            let object: serde_json::Value = serde_json::from_str(found).unwrap();
            for (name, kind) in *fields {
                let value = object.pointer(&format!("/{name}"));
                let value = value.unwrap_or(&serde_json::Value::Null);
                let right = match kind {
                    Json::Text => value.as_str().is_some_and(|text| !text.is_empty()),
                    Json::Is(number) => *value == *number,
                    Json::Port => value
                        .as_str()
                        .is_some_and(|text| text.parse::<u16>().is_ok()),
                    Json::Bytes => value.as_str().is_some_and(|text| {
                        let byte = |byte: &str| {
                            byte.len() == 2
                                && byte.bytes().all(|b| b"0123456789ABCDEF".contains(&b))
                        };
                        text.split(':').all(byte)
                    }),
                    Json::True => *value == true,
                    Json::False => *value == false,
                    Json::Object => value.is_object(),
                };
                assert!(right, "{name} is {value}");
            }
        }
        Words(words) => {
            for word in *words {
                assert!(found.contains(word), "no {word:?} in {found:?}");
            }
        }
    }
}

fn check_lines(expected: &Text, found: &str) {
    match expected {
        LineEach(accounts) => {
            let mut lines: Vec<&str> = found.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines.len(), accounts.len(), "{found:?}");
            for (line, account) in lines.iter().zip(*accounts) {
                assert!(line.contains(account), "{found:?}");
            }
        }
        Text::LinesStart(starts) => {
            let lines: Vec<&str> = found.lines().collect();
            assert_eq!(lines.len(), starts.len(), "{found:?}");
            for (line, start) in lines.iter().zip(*starts) {
                assert!(line.starts_with(start), "{start:?}: {found:?}");
            }
        }
        Text::KeysOnce(keys) => {
            for key in *keys {
                let lines = found.lines().filter(|line| {
                    let before = line.split(':').next().unwrap_or_default();
                    before.trim() == *key
                });
                assert_eq!(lines.count(), 1, "{key}: {found:?}");
            }
        }
        _ => panic!("these aren't about lines"),
    }
}

fn is_value(expected: &Value, found: &str) -> bool {
    match expected {
        Value::Any => !found.is_empty(),
        Value::Is(text) => found == *text,
        Value::Sha256 => {
            found.len() == 43
                && found
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        }
        // 22 letters and digits carry at least 128 bits.
        Value::Random => found.len() >= 22 && found.bytes().all(|b| b.is_ascii_alphanumeric()),
        Value::Redirect(before, after) => found
            .strip_prefix(before)
            .and_then(|rest| rest.strip_prefix(':'))
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)),
    }
}
