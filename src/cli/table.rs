//! The table of verbs and options.

/// A verb's row in the table.
pub struct Spec {
    /// As typed.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// Its operands, if it takes any, with a space between them; in brackets one that may be left
    /// out, and only as the last; with `...` when it may be repeated.
    pub operand: Option<&'static str>,
    /// What it does, in a line.
    pub summary: &'static str,
}

impl Spec {
    /// Its operands, one at a time.
    pub(super) fn operands(&self) -> impl Iterator<Item = &'static str> {
        self.operand.unwrap_or_default().split_whitespace()
    }

    /// Whether there can be another operand behind so many.
    pub(super) fn takes_operand(&self, given: usize) -> bool {
        let repeats = self.operands().last().is_some_and(|it| it.contains("..."));
        repeats || given < self.operands().count()
    }
}

/// An option's row.
pub struct Opt {
    /// The letter behind `-`, if it has one.
    pub short: Option<char>,
    /// The word behind `--`.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// What it does.
    pub summary: &'static str,
}

impl Opt {
    /// As in ` <time>`.
    pub(super) fn shown_value(&self) -> String {
        let shown = self.value.map(|value| format!(" <{value}>"));
        shown.unwrap_or_default()
    }
}

/// The expression of what may be left out in a row.
macro_rules! maybe {
    () => {
        None
    };
    ($there:literal) => {
        Some($there)
    };
}

/// An option's row: the word, the letter, the value, what it does. Or the name of a row that
/// several verbs have.
macro_rules! opt {
    ($shared:ident) => {
        $shared
    };
    ($long:literal $($short:literal)? $(<$value:literal>)?: $summary:literal) => {
        Opt {
            short: maybe!($($short)?),
            long: $long,
            value: maybe!($($value)?),
            summary: $summary,
        }
    };
}

/// The rows of verbs: the name, the operands, what it does, the options.
macro_rules! verbs {
    ($($name:literal $($operand:literal)?: $summary:literal $([$($row:tt)+])*;)*) => {
        &[$(Spec {
            name: $name,
            options: &[$(opt!($($row)+)),*],
            operand: maybe!($($operand)?),
            summary: $summary,
        }),*]
    };
}

const NO_URL: Opt = opt!("no-url" 'u': "leave the authorisation URL out of errors");
const JSON: Opt = opt!("json" 'j': "as JSON");
const MIN_VALID: Opt = opt!("min-valid" 'm' <"time">: "only a token that is valid this long");
const WAIT: Opt = opt!("wait" 'w' <"time">: "wait at most this long for a token");
const CONFIG: Opt = opt!("config" 'c' <"file">: "read this configuration");

/// Every verb, in the order of the alphabet.
pub const VERBS: &[Spec] = verbs! {
    "auth" "account": "sign in, and wait for the result"
        ["open" 'o': "open the address in the desktop's browser"]
        ["qr" 'q': "draw a QR code for a phone"]
        ["no-wait" 'n': "don't wait for the result"];
    "check": "check the configuration"
        [CONFIG]
        ["show" 's': "print each account as it is understood, without its secrets"];
    "dump": "write the state, tokens included, to stdout or a file"
        ["force" 'f': "write to a terminal, too"]
        ["output" 'o' <"file">: "write this file, which only you can read"];
    "git-credential" "account operation": "be a credential helper of git"
        [NO_URL]
        ["bearer" 'b': "send the token in a header, over https"]
        [MIN_VALID]
        [WAIT]
        ["user" <"name">: "the user's name, in place of git's"];
    "import" "account": "take over a refresh token from another program, on stdin";
    "info": "show paths, version and ports"
        [JSON]
        ["config" 'c' <"file">: "show this configuration file"];
    "redirect" "[address]": "complete a sign-in with the address that the browser ended at"
        ["account" 'a' <"account">: "the account of a code without an address"];
    "refresh" "account": "obtain a new access token now" [NO_URL];
    "register" "issuer": "register a client at a provider, and print its account"
        ["name" 'n' <"account">: "account name (default: the provider's host)"]
        ["scope" 's' <"scope">: "a scope to ask for; may be repeated"]
        ["token-cmd" 't' <"command">: "prints the initial access token"];
    "reload": "read the configuration again";
    "restart": "hand everything over to a new version of the program";
    "restore": "read state from stdin, as dump wrote it";
    "revoke" "account": "forget the tokens of an account, cancel its authorisation"
        ["local" 'l': "don't ask the provider to revoke them"];
    "server": "start the server"
        [CONFIG]
        ["debug" 'd': "stay in the foreground, log to stderr"]
        ["verbose" 'v': "log more; up to four times"];
    "setup" "[address] [user]": "guide from an address to a mailbox; or print a configuration"
        ["name" 'n' <"account">: "account name (default: the provider's)"]
        ["print" 'p' <"what">: "print the configuration (config), or what a program needs, and nothing else"]
        ["client" 'c' <"program">: "for this mail program; or all, or none"];
    "show" "account": "print the access token of an account"
        [NO_URL]
        ["format" 'f' <"format">: "raw, bearer, headers, json, kubernetes, xoauth2 or oauthbearer"]
        ["id-token": "the ID token, in place of the access token"]
        [MIN_VALID]
        [WAIT]
        ["user" <"name">: "the mailbox, for xoauth2 and oauthbearer"]
        ["host" <"name">: "the mail server, for oauthbearer"]
        ["port" <"number">: "the mail server's port, for oauthbearer"];
    "shutdown": "stop the server"
        ["force" 'f': "even if the tokens can't be saved"];
    "status": "show the state of every account" [JSON];
    "test" "account [url...]": "sign in at mail servers, and say what is wrong"
        [NO_URL]
        ["verbose" 'v': "show the dialogue, without the token"]
        ["user" <"name">: "the mailbox"];
    "tunnel" "account url": "sign in at a server for a program that can't, and connect the two"
        [WAIT]
        ["user" <"name">: "the mailbox"];
    "watch": "show what happens, as it happens" [JSON];
};
