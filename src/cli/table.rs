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

const NO_URL: Opt = Opt {
    short: Some('u'),
    long: "no-url",
    value: None,
    summary: "leave the authorisation URL out of errors",
};

const JSON: Opt = Opt {
    short: Some('j'),
    long: "json",
    value: None,
    summary: "as JSON",
};

const MIN_VALID: Opt = Opt {
    short: Some('m'),
    long: "min-valid",
    value: Some("time"),
    summary: "only a token that is valid so long",
};

const WAIT: Opt = Opt {
    short: Some('w'),
    long: "wait",
    value: Some("time"),
    summary: "wait at most so long for a token",
};

const CONFIG: Opt = Opt {
    short: Some('c'),
    long: "config",
    value: Some("file"),
    summary: "read this configuration",
};

/// Every verb, in the order of the alphabet.
pub const VERBS: &[Spec] = &[
    Spec {
        name: "auth",
        options: &[
            Opt {
                short: Some('o'),
                long: "open",
                value: None,
                summary: "open the address in the desktop's browser",
            },
            Opt {
                short: Some('q'),
                long: "qr",
                value: None,
                summary: "draw a QR code for a phone",
            },
            Opt {
                short: Some('n'),
                long: "no-wait",
                value: None,
                summary: "don't wait for the end",
            },
        ],
        operand: Some("account"),
        summary: "sign in: show every way to, and wait for the end",
    },
    Spec {
        name: "check",
        options: &[CONFIG],
        operand: None,
        summary: "say whether the configuration is good",
    },
    Spec {
        name: "dump",
        options: &[
            Opt {
                short: Some('f'),
                long: "force",
                value: None,
                summary: "write to a terminal, too",
            },
            Opt {
                short: Some('o'),
                long: "output",
                value: Some("file"),
                summary: "write this file, all of it or nothing, for your eyes only",
            },
        ],
        operand: None,
        summary: "write the state, tokens included, to stdout or a file",
    },
    Spec {
        name: "git-credential",
        options: &[
            NO_URL,
            Opt {
                short: Some('b'),
                long: "bearer",
                value: None,
                summary: "over https, a header `Authorization: Bearer`",
            },
            MIN_VALID,
            WAIT,
            Opt {
                short: None,
                long: "user",
                value: Some("name"),
                summary: "the user's name, whatever git says",
            },
        ],
        operand: Some("account operation"),
        summary: "be a credential helper of git",
    },
    Spec {
        name: "info",
        options: &[
            JSON,
            Opt {
                summary: "name this configuration",
                ..CONFIG
            },
        ],
        operand: None,
        summary: "show paths, version and ports",
    },
    Spec {
        name: "redirect",
        options: &[],
        operand: Some("[address]"),
        summary: "complete a sign-in with the address that the browser ended at",
    },
    Spec {
        name: "refresh",
        options: &[NO_URL],
        operand: Some("account"),
        summary: "obtain a new access token now",
    },
    Spec {
        name: "register",
        options: &[
            Opt {
                short: Some('n'),
                long: "name",
                value: Some("account"),
                summary: "call the account so; else after the provider's host",
            },
            Opt {
                short: Some('s'),
                long: "scope",
                value: Some("scope"),
                summary: "what the tokens shall be good for; once for each",
            },
            Opt {
                short: Some('t'),
                long: "token-cmd",
                value: Some("command"),
                summary: "prints the token that the provider wants first",
            },
        ],
        operand: Some("issuer"),
        summary: "have a provider register a client, and print its account",
    },
    Spec {
        name: "reload",
        options: &[],
        operand: None,
        summary: "read the configuration again",
    },
    Spec {
        name: "restart",
        options: &[],
        operand: None,
        summary: "let a new version of the program go on with everything",
    },
    Spec {
        name: "restore",
        options: &[],
        operand: None,
        summary: "read state from stdin, as dump wrote it",
    },
    Spec {
        name: "revoke",
        options: &[Opt {
            short: Some('l'),
            long: "local",
            value: None,
            summary: "don't tell the provider",
        }],
        operand: Some("account"),
        summary: "forget the tokens of an account, cancel its authorisation",
    },
    Spec {
        name: "server",
        options: &[
            CONFIG,
            Opt {
                short: Some('d'),
                long: "debug",
                value: None,
                summary: "stay in the foreground, log to stderr",
            },
            Opt {
                short: Some('v'),
                long: "verbose",
                value: None,
                summary: "log more; up to four times",
            },
        ],
        operand: None,
        summary: "start the server",
    },
    Spec {
        name: "setup",
        options: &[Opt {
            short: Some('c'),
            long: "client",
            value: Some("program"),
            summary: "for this mail program; or all, or none",
        }],
        operand: Some("address [user]"),
        summary: "print a configuration for an address, a provider or an issuer",
    },
    Spec {
        name: "show",
        options: &[
            NO_URL,
            Opt {
                short: Some('f'),
                long: "format",
                value: Some("format"),
                summary: "raw, bearer, json, xoauth2 or oauthbearer",
            },
            MIN_VALID,
            WAIT,
            Opt {
                short: None,
                long: "user",
                value: Some("name"),
                summary: "the mailbox, for xoauth2 and oauthbearer",
            },
            Opt {
                short: None,
                long: "host",
                value: Some("name"),
                summary: "the mail server, for oauthbearer",
            },
            Opt {
                short: None,
                long: "port",
                value: Some("number"),
                summary: "the mail server's port, for oauthbearer",
            },
        ],
        operand: Some("account"),
        summary: "print the access token of an account",
    },
    Spec {
        name: "shutdown",
        options: &[],
        operand: None,
        summary: "stop the server",
    },
    Spec {
        name: "status",
        options: &[JSON],
        operand: None,
        summary: "show the state of every account",
    },
    Spec {
        name: "test",
        options: &[
            NO_URL,
            Opt {
                short: Some('v'),
                long: "verbose",
                value: None,
                summary: "show the dialogue, without the token",
            },
            Opt {
                short: None,
                long: "user",
                value: Some("name"),
                summary: "the mailbox",
            },
        ],
        operand: Some("account [url...]"),
        summary: "sign in at mail servers, and say what is wrong",
    },
    Spec {
        name: "watch",
        options: &[JSON],
        operand: None,
        summary: "show what happens, as it happens",
    },
];
