//! The command line: one table is the source of the parser and of every usage text; the manual
//! and the completions are held against it by tests/tidy.rs.

mod help;
mod parse;
mod table;

use std::path::PathBuf;

use crate::wire::ShowArgs;

pub use self::{
    help::synopsis,
    parse::{SUCCEED, TAKE_OVER, parse},
    table::{Opt, Spec, VERBS},
};

/// What whoever is given another's verb says: a mistake of this program's.
pub const ELSEWHERE: &str = "a bug: this command is carried out elsewhere";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start or join a sign-in, and wait for its end.
    Auth(AuthOptions),
    /// Say whether a config is good.
    Check(CheckOptions),
    /// Print the sealed tokens, or save them in a file.
    Dump(DumpOptions),
    /// Print this, on stdout, with exit 0.
    Help(String),
    /// Speak with git as one of its credential helpers.
    GitCredential(GitCredentialOptions),
    /// Take over a refresh token of another program, from stdin, for this account.
    Import(String),
    /// Print paths, version, ports.
    Info {
        /// As JSON.
        json: bool,
        /// `-c`: the config to name, instead of the usual one.
        config: Option<PathBuf>,
    },
    /// Take an authorization response from the command line, or from stdin.
    Redirect {
        /// What the browser ended with; without, it is read from stdin.
        address: Option<String>,
        /// Whose sign-in it is, if it is a bare code.
        account: Option<String>,
    },
    /// Obtain a new token now.
    Refresh(ShowArgs),
    /// Have a provider register a client.
    Register(RegisterOptions),
    /// Read the config again.
    Reload,
    /// Become the program that is there now.
    Restart,
    /// Take a dump from stdin.
    Restore,
    /// Forget an account's tokens.
    Revoke {
        /// The account's name.
        account: String,
        /// `-l`: don't tell the provider.
        local: bool,
    },
    /// Start the daemon.
    Server(ServerOptions),
    /// Print a configuration.
    Setup(SetupOptions),
    /// Print the access token.
    Show(ShowArgs),
    /// End the daemon; if true, even when its tokens can't be saved.
    Shutdown(bool),
    /// Print the state of every account.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Sign in at mail servers.
    Test(TestOptions),
    /// Sign in at a server for another program.
    Tunnel(TunnelOptions),
    /// Print what happens.
    Watch {
        /// As JSON.
        json: bool,
    },
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

/// What `check` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// `-c`: the config, instead of the usual one.
    pub config: Option<PathBuf>,
    /// `-s`: print the accounts, as they are understood.
    pub show: bool,
}

/// What `dump` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// `-o`: the file to write, instead of stdout.
    pub file: Option<PathBuf>,
    /// `-f`: write to a terminal, too.
    pub force: bool,
}

/// What `git-credential` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GitCredentialOptions {
    /// Whose token, and how.
    pub token: ShowArgs,
    /// What git wants: `get`, `store`, `erase`, or a word of a later version.
    pub operation: String,
    /// `-b`: an `Authorization: Bearer` header, where git can send one.
    pub bearer: bool,
}

/// What `auth` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AuthOptions {
    /// The account's name.
    pub account: String,
    /// `-o`: have the desktop open the address.
    pub open: bool,
    /// `-q`: draw a QR code.
    pub qr: bool,
    /// `-n`: don't wait for the end.
    pub no_wait: bool,
}

/// What `setup` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SetupOptions {
    /// An address, a domain, a provider's name or an issuer.
    pub target: String,
    /// With a provider or an issuer, whose mailbox.
    pub user: Option<String>,
    /// `-n`: the account's name.
    pub name: Option<String>,
    /// `-p`: print this one thing, the configuration or what a program needs.
    pub print: Option<String>,
    /// `-c`: the mail programs; those that are installed, when there are none.
    pub clients: Vec<String>,
}

/// What `test` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TestOptions {
    /// Whose token, and how.
    pub token: ShowArgs,
    /// `-v`: show the dialogue.
    pub verbose: bool,
    /// The servers; the provider's own, when there are none.
    pub urls: Vec<String>,
}

/// What `tunnel` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TunnelOptions {
    /// Whose token, and how.
    pub token: ShowArgs,
    /// The server.
    pub url: String,
}

/// What `register` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RegisterOptions {
    /// The provider, as an address or as a host.
    pub issuer: String,
    /// `-s`, once for each: what the tokens shall be good for.
    pub scopes: Vec<String>,
    /// `-n`: the account's name.
    pub name: Option<String>,
    /// `-t`: a command that prints the initial access token.
    pub token_cmd: Option<String>,
}

/// What `server` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServerOptions {
    /// `-c`: the config, instead of the usual one.
    pub config: Option<PathBuf>,
    /// `-d`: stay in the foreground and log to stderr.
    pub foreground: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

#[cfg(test)]
mod tests;
