//! What a failed command says, and the only place that knows exit codes.

use serde::{Deserialize, Serialize};

/// Why a command failed, as its exit code tells it (sysexits.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Anything that has no code of its own.
    Other = 1,
    /// EX_USAGE: the command line is wrong.
    Usage = 64,
    /// EX_NOUSER: no such account.
    NoAccount = 67,
    /// EX_UNAVAILABLE: no server answers.
    NoServer = 69,
    /// EX_PROTOCOL: a mail server to which one can't sign in with a token.
    Protocol = 76,
    /// EX_TEMPFAIL: try again later (network trouble, a refresh under way, a wait that ran out).
    TryLater = 75,
    /// EX_NOPERM: somebody has to sign in.
    AuthorisationNeeded = 77,
    /// EX_CONFIG: the configuration is wrong.
    Config = 78,
}

impl Exit {
    /// All there are.
    const ALL: [Exit; 8] = [
        Exit::Other,
        Exit::Usage,
        Exit::NoAccount,
        Exit::NoServer,
        Exit::Protocol,
        Exit::TryLater,
        Exit::AuthorisationNeeded,
        Exit::Config,
    ];

    /// The process's exit status.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The inverse of [`Exit::code`]; a code that nobody knows is [`Exit::Other`].
    pub fn from_code(code: u8) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|exit| exit.code() == code).unwrap_or(Exit::Other)
    }
}

/// A command that didn't do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}{}", below(.hint))]
pub struct Failure {
    /// The thing and the cause, on one line (a config error has its source lines below).
    pub what: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The process's exit status.
    pub exit: Exit,
}

impl Failure {
    /// A failure with no hint.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Failure {
            what: what.into(),
            hint: None,
            exit,
        }
    }

    /// A failure without an exit status of its own.
    pub fn other(what: impl Into<String>) -> Self {
        Failure::new(Exit::Other, what)
    }

    /// The inverse of [`Exit::code`] and of the failure's text.
    pub fn parse(code: &str, text: &str) -> Self {
        let exit = code.parse().map_or(Exit::Other, Exit::from_code);
        match text.split_once("\nhint: ") {
            Some((what, hint)) => Failure::new(exit, what).hint(hint),
            None => Failure::new(exit, text),
        }
    }

    /// The thing, the cause and the hint on one line, for a log: source lines are left out.
    pub fn one_line(&self) -> String {
        let what = self.what.lines().next().unwrap_or_default();
        match &self.hint {
            Some(hint) => format!("{what} ({hint})"),
            None => what.to_owned(),
        }
    }

    /// The same failure with a hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.with_hint(Some(hint.into()))
    }

    /// The same, if there is a hint.
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Failure { hint, ..self }
    }
}

/// A hint on the line below what has failed.
pub fn below(hint: &Option<String>) -> String {
    let line = hint.as_ref().map(|hint| format!("\nhint: {hint}"));
    line.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_reasons_are_one_to_one() {
        for (exit, code) in [
            (Exit::Other, 1),
            (Exit::Usage, 64),
            (Exit::NoAccount, 67),
            (Exit::NoServer, 69),
            (Exit::TryLater, 75),
            (Exit::Protocol, 76),
            (Exit::AuthorisationNeeded, 77),
            (Exit::Config, 78),
        ] {
            assert_eq!(exit.code(), code);
            assert_eq!(Exit::from_code(code), exit);
        }
        assert_eq!(Exit::from_code(3), Exit::Other);
    }
}
