//! The table of verbs and options: what a command line can be, and what it is read into.

use std::path::PathBuf;

use super::parse::Given;
use crate::wire::ShowArgs;

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
    /// Reads what was given.
    pub(super) read: fn(&Given) -> Result<Verb, String>,
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

/// The verbs: of each the variant, the options, the name, the operands, what it does; in parentheses the
/// operands' fields, in brackets the rows of options and their fields. Behind `=` stands who reads it.
macro_rules! verbs {
    ($(
        $verb:ident($options:ident) $name:literal $($operand:literal)?: $summary:literal
        ($($of:ident: $kind:ty = $by:ident $($at:literal)?),*)
        $([$row:tt $(=> $field:ident: $type:ty = $read:ident)?])*;
    )*) => {
        /// A parsed command line.
        #[derive(Debug, PartialEq, Eq)]
        pub enum Verb {
            $(#[doc = $summary] $verb($options),)*
            /// Print this, on stdout, with exit 0.
            Help(String),
            /// Start the daemon with what an older one has left; no command for people.
            Succeed(ServerOptions),
            /// Go on where another program was; no command for people.
            TakeOver {
                /// The config.
                config: PathBuf,
                /// The numbers of what it is given; without, the state on stdin is only looked at.
                handed: Option<String>,
            },
        }

        $(
            #[doc = concat!("What `", $name, "` takes.")]
            #[derive(Debug, Default, PartialEq, Eq)]
            pub struct $options {
                $(#[doc = concat!("The operand `", stringify!($of), "`.")] pub $of: $kind,)*
                $($(#[doc = concat!("The option `", stringify!($row), "`.")] pub $field: $type,)?)*
            }
        )*

        /// Every verb, in the order of the alphabet.
        // Some take nothing.
        #[allow(unused_variables)]
        pub const VERBS: &[Spec] = &[$(Spec {
            name: $name,
            options: &[$(opt! $row),*],
            operand: maybe!($($operand)?),
            summary: $summary,
            read: |given| {
                Ok(Verb::$verb($options {
                    $($of: given.$by($($at)?)?,)*
                    $($($field: given.$read(opt! $row.long)?,)?)*
                }))
            },
        }),*];
    };
}

const NO_URL: Opt = opt!("no-url" 'u': "leave the authorisation URL out of errors");
const JSON: Opt = opt!("json" 'j': "as JSON");
const MIN_VALID: Opt = opt!("min-valid" 'm' <"time">: "only a token that is valid this long");
const WAIT: Opt = opt!("wait" 'w' <"time">: "wait at most this long for a token");
const CONFIG: Opt = opt!("config" 'c' <"file">: "read this configuration");

verbs! {
    Auth(AuthOptions) "auth" "account": "sign in, and wait for the result"
        (account: String = operand 0)
        [("open" 'o': "open the address in the desktop's browser") => open: bool = flag]
        [("qr" 'q': "draw a QR code for a phone") => qr: bool = flag]
        [("no-wait" 'n': "don't wait for the result") => no_wait: bool = flag];
    Check(CheckOptions) "check": "check the configuration" ()
        [(CONFIG) => config: Option<PathBuf> = path]
        [("show" 's': "print each account as it is understood, without its secrets") => show: bool = flag];
    Dump(DumpOptions) "dump": "write the state, tokens included, to stdout or a file" ()
        [("force" 'f': "write to a terminal, too") => force: bool = flag]
        [("output" 'o' <"file">: "write this file, which only you can read")
            => file: Option<PathBuf> = path];
    // The operation is `get`, `store`, `erase`, or a word of a later git.
    GitCredential(GitCredentialOptions) "git-credential" "account operation":
        "be a credential helper of git"
        (token: ShowArgs = token, operation: String = operand 1)
        [(NO_URL)]
        [("bearer" 'b': "send the token in a header, over https") => bearer: bool = flag]
        [(MIN_VALID)]
        [(WAIT)]
        [("user" <"name">: "the user's name, in place of git's")];
    Import(ImportOptions) "import" "account": "take over a refresh token from another program, on stdin"
        (account: String = operand 0);
    Info(InfoOptions) "info": "show paths, version and ports" ()
        [(JSON) => json: bool = flag]
        [("config" 'c' <"file">: "show this configuration file") => config: Option<PathBuf> = path];
    // Without the address, it is read from stdin.
    Redirect(RedirectOptions) "redirect" "[address]":
        "complete a sign-in with the address that the browser ended at"
        (address: Option<String> = maybe 0)
        [("account" 'a' <"account">: "the account of a code without an address")
            => account: Option<String> = text];
    Refresh(RefreshOptions) "refresh" "account": "obtain a new access token now"
        (token: ShowArgs = token)
        [(NO_URL)];
    Register(RegisterOptions) "register" "issuer": "register a client at a provider, and print its account"
        (issuer: String = operand 0)
        [("name" 'n' <"account">: "account name (default: the provider's host)")
            => name: Option<String> = name]
        [("scope" 's' <"scope">: "a scope to ask for; may be repeated") => scopes: Vec<String> = scopes]
        [("token-cmd" 't' <"command">: "prints the initial access token")
            => token_cmd: Option<String> = text];
    Reload(ReloadOptions) "reload": "read the configuration again" ();
    Restart(RestartOptions) "restart": "hand everything over to a new version of the program" ();
    Restore(RestoreOptions) "restore": "read state from stdin, as dump wrote it" ();
    Revoke(RevokeOptions) "revoke" "account": "forget the tokens of an account, cancel its authorisation"
        (account: String = operand 0)
        [("local" 'l': "don't ask the provider to revoke them") => local: bool = flag];
    Server(ServerOptions) "server": "start the server" ()
        [(CONFIG) => config: Option<PathBuf> = path]
        [("debug" 'd': "stay in the foreground, log to stderr") => foreground: bool = flag]
        [("verbose" 'v': "log more; up to four times") => verbose: u8 = count];
    // The target is an address, a domain, a provider's name or an issuer; with a provider or an issuer, the
    // user is whose mailbox.
    Setup(SetupOptions) "setup" "[address] [user]":
        "guide from an address to a mailbox; or print a configuration"
        (target: String = operand 0, user: Option<String> = maybe 1)
        [("name" 'n' <"account">: "account name (default: the provider's)") => name: Option<String> = name]
        [("print" 'p' <"what">: "print the configuration (config), or what a program needs, and nothing else")
            => print: Option<String> = text]
        [("client" 'c' <"program">: "for this mail program; or all, or none")
            => clients: Vec<String> = words];
    Show(ShowOptions) "show" "account": "print the access token of an account"
        (token: ShowArgs = shown)
        [(NO_URL)]
        [("format" 'f' <"format">: "raw, bearer, headers, json, kubernetes, xoauth2 or oauthbearer")]
        [("id-token": "the ID token, in place of the access token")]
        [(MIN_VALID)]
        [(WAIT)]
        [("user" <"name">: "the mailbox, for xoauth2 and oauthbearer")]
        [("host" <"name">: "the mail server, for oauthbearer")]
        [("port" <"number">: "the mail server's port, for oauthbearer")];
    Shutdown(ShutdownOptions) "shutdown": "stop the server" ()
        [("force" 'f': "even if the tokens can't be saved") => force: bool = flag];
    Status(StatusOptions) "status": "show the state of every account" () [(JSON) => json: bool = flag];
    // Without a URL, the servers are the provider's own.
    Test(TestOptions) "test" "account [url...]": "sign in at mail servers, and say what is wrong"
        (token: ShowArgs = token, urls: Vec<String> = operands 1)
        [(NO_URL)]
        [("verbose" 'v': "show the dialogue, without the token") => verbose: bool = flag]
        [("user" <"name">: "the mailbox")];
    Tunnel(TunnelOptions) "tunnel" "account url":
        "sign in at a server for a program that can't, and connect the two"
        (token: ShowArgs = token, url: String = operand 1)
        [(WAIT)]
        [("user" <"name">: "the mailbox")];
    Watch(WatchOptions) "watch": "show what happens, as it happens" () [(JSON) => json: bool = flag];
}
