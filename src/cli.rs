//! The command line: one table is the source of the parser and of every usage text; the manual
//! and the completions are held against it by tests/tidy.rs.

use std::{ffi::OsString, path::PathBuf};

use lexopt::{
    Arg::{Long, Short, Value},
    ValueExt,
};

use crate::error::{Exit, Failure};

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Verb {
    /// Start or join a sign-in, and wait for its end.
    Auth(AuthOptions),
    /// Print the sealed tokens.
    Dump,
    /// Print this, on stdout, with exit 0.
    Help(String),
    /// Print paths, version, ports.
    Info {
        /// As JSON.
        json: bool,
    },
    /// Take an authorization response from the command line, or from stdin.
    Redirect(Option<String>),
    /// Obtain a new token now.
    Refresh(AccountOptions),
    /// Read the config again.
    Reload,
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
    /// Print the access token.
    Show(AccountOptions),
    /// End the daemon.
    Shutdown,
    /// Print the state of every account.
    Status,
}

/// What verbs about one account take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AccountOptions {
    /// The account's name.
    pub account: String,
    /// `-u`: leave the URL out of errors.
    pub no_url: bool,
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

/// A verb's row in the table.
pub struct Spec {
    /// As typed.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// Its one operand, if it takes one; in brackets when it may be left out.
    pub operand: Option<&'static str>,
    /// What it does, in a line.
    pub summary: &'static str,
}

/// An option's row.
pub struct Opt {
    /// The letter behind `-`.
    pub short: char,
    /// The word behind `--`.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// What it does.
    pub summary: &'static str,
}

const NO_URL: Opt = Opt {
    short: 'u',
    long: "no-url",
    value: None,
    summary: "leave the authorisation URL out of errors",
};

/// Every verb, in the order of the alphabet.
pub const VERBS: &[Spec] = &[
    Spec {
        name: "auth",
        options: &[
            Opt {
                short: 'o',
                long: "open",
                value: None,
                summary: "open the address in the desktop's browser",
            },
            Opt {
                short: 'q',
                long: "qr",
                value: None,
                summary: "draw a QR code for a phone",
            },
            Opt {
                short: 'n',
                long: "no-wait",
                value: None,
                summary: "don't wait for the end",
            },
        ],
        operand: Some("account"),
        summary: "sign in: show every way to, and wait for the end",
    },
    Spec {
        name: "dump",
        options: &[],
        operand: None,
        summary: "write the state, tokens included, to stdout",
    },
    Spec {
        name: "info",
        options: &[Opt {
            short: 'j',
            long: "json",
            value: None,
            summary: "as JSON",
        }],
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
        name: "reload",
        options: &[],
        operand: None,
        summary: "read the configuration again",
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
            short: 'l',
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
            Opt {
                short: 'c',
                long: "config",
                value: Some("file"),
                summary: "read this configuration",
            },
            Opt {
                short: 'd',
                long: "debug",
                value: None,
                summary: "stay in the foreground, log to stderr",
            },
            Opt {
                short: 'v',
                long: "verbose",
                value: None,
                summary: "log more; up to four times",
            },
        ],
        operand: None,
        summary: "start the server",
    },
    Spec {
        name: "show",
        options: &[NO_URL],
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
        options: &[],
        operand: None,
        summary: "show the state of every account",
    },
];

/// Understands the words behind the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Verb, Failure> {
    let mut parser = lexopt::Parser::from_args(args);
    let first = parser
        .next()
        .map_err(|error| usage(None, &error.to_string()))?;
    match first {
        None => Err(usage(None, "no command given")),
        Some(Short('h') | Long("help")) => Ok(Verb::Help(overview())),
        Some(Short('V') | Long("version")) => Ok(Verb::Help(version())),
        Some(Value(word)) => {
            let word = word.to_string_lossy();
            if word == "help" {
                return Ok(Verb::Help(overview()));
            }
            match VERBS.iter().find(|spec| spec.name == word) {
                Some(spec) => parse_verb(spec, parser),
                None => Err(usage(
                    None,
                    &format!("unknown command `{}`", crate::text::sanitize(&word)),
                )),
            }
        }
        Some(other) => Err(usage(None, &other.unexpected().to_string())),
    }
}

/// What the options of one verb came to.
#[derive(Default)]
struct Given {
    flags: Vec<char>,
    value: Option<OsString>,
    operand: Option<String>,
}

fn parse_verb(spec: &Spec, mut parser: lexopt::Parser) -> Result<Verb, Failure> {
    let wrong = |why: &str| usage(Some(spec), why);
    let mut given = Given::default();
    while let Some(arg) = parser.next().map_err(|error| wrong(&error.to_string()))? {
        let option = match &arg {
            Short('h') | Long("help") => return Ok(Verb::Help(help(spec))),
            Short(letter) => spec.options.iter().find(|opt| opt.short == *letter),
            Long(word) => spec.options.iter().find(|opt| opt.long == *word),
            Value(_) => None,
        };
        match (option, arg) {
            (Some(opt), _) => {
                given.flags.push(opt.short);
                if opt.value.is_some() {
                    given.value = Some(parser.value().map_err(|error| wrong(&error.to_string()))?);
                }
            }
            (None, Value(word)) if spec.operand.is_some() && given.operand.is_none() => {
                let word = word.string().map_err(|_| wrong("arguments are UTF-8"))?;
                given.operand = Some(word);
            }
            (None, other) => return Err(wrong(&other.unexpected().to_string())),
        }
    }
    if let (Some(operand), None) = (spec.operand, &given.operand)
        && !operand.starts_with('[')
    {
        return Err(wrong(&format!("no {operand} given")));
    }
    Ok(verb(spec.name, given))
}

fn verb(name: &str, given: Given) -> Verb {
    let has = |flag| given.flags.contains(&flag);
    let account = AccountOptions {
        account: given.operand.clone().unwrap_or_default(),
        no_url: has('u'),
    };
    match name {
        "auth" => Verb::Auth(AuthOptions {
            account: account.account,
            open: has('o'),
            qr: has('q'),
            no_wait: has('n'),
        }),
        "dump" => Verb::Dump,
        "info" => Verb::Info { json: has('j') },
        "redirect" => Verb::Redirect(given.operand),
        "refresh" => Verb::Refresh(account),
        "reload" => Verb::Reload,
        "restore" => Verb::Restore,
        "revoke" => Verb::Revoke {
            account: account.account,
            local: has('l'),
        },
        "server" => Verb::Server(ServerOptions {
            foreground: has('d'),
            verbose: u8::try_from(given.flags.iter().filter(|flag| **flag == 'v').count())
                .unwrap_or(u8::MAX),
            config: given.value.map(PathBuf::from),
        }),
        "show" => Verb::Show(account),
        "shutdown" => Verb::Shutdown,
        "status" => Verb::Status,
        // Every row of the table has its line above; the test below walks them all.
        _ => Verb::Help(overview()),
    }
}

fn usage(spec: Option<&Spec>, why: &str) -> Failure {
    let hint = match spec {
        Some(spec) => format!("usage: {}", synopsis(spec)),
        None => "`pizauth --help` lists the commands".into(),
    };
    Failure::new(Exit::Usage, why).hint(hint)
}

/// As in `pizauth show [-u] <account>`.
pub fn synopsis(spec: &Spec) -> String {
    let mut line = format!("pizauth {}", spec.name);
    for opt in spec.options {
        match opt.value {
            Some(value) => line.push_str(&format!(" [-{} <{value}>]", opt.short)),
            None => line.push_str(&format!(" [-{}]", opt.short)),
        }
    }
    if let Some(operand) = spec.operand {
        line.push_str(&match operand.strip_prefix('[') {
            Some(optional) => format!(" [<{}>]", optional.trim_end_matches(']')),
            None => format!(" <{operand}>"),
        });
    }
    line
}

fn help(spec: &Spec) -> String {
    let mut text = format!("usage: {}\n\n{}\n", synopsis(spec), spec.summary);
    if !spec.options.is_empty() {
        text.push('\n');
    }
    for opt in spec.options {
        let value = opt
            .value
            .map(|value| format!(" <{value}>"))
            .unwrap_or_default();
        let names = format!("-{}, --{}{value}", opt.short, opt.long);
        text.push_str(&format!("  {names:<22} {}\n", opt.summary));
    }
    text
}

fn overview() -> String {
    let mut text = String::from("usage: pizauth <command>\n\n");
    for spec in VERBS {
        let line = synopsis(spec);
        let line = line.strip_prefix("pizauth ").unwrap_or(&line);
        text.push_str(&format!("  {line:<36} {}\n", spec.summary));
    }
    text.push_str(
        "\n`pizauth <command> --help` tells more; so do pizauth(1) and pizauth.conf(5).\n",
    );
    text
}

fn version() -> String {
    format!("pizauth {}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Verb, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn account(no_url: bool) -> AccountOptions {
        AccountOptions {
            account: "work".into(),
            no_url,
        }
    }

    #[test]
    fn command_lines_mean_what_the_manual_says() {
        for (line, verb) in [
            (
                "auth --qr --open --no-wait work",
                Verb::Auth(AuthOptions {
                    account: "work".into(),
                    open: true,
                    qr: true,
                    no_wait: true,
                }),
            ),
            ("dump", Verb::Dump),
            ("info", Verb::Info { json: false }),
            ("info -j", Verb::Info { json: true }),
            ("redirect", Verb::Redirect(None)),
            ("redirect a:/?b", Verb::Redirect(Some("a:/?b".into()))),
            ("refresh work", Verb::Refresh(account(false))),
            ("refresh -u work", Verb::Refresh(account(true))),
            ("show work -u", Verb::Show(account(true))),
            ("show -- work", Verb::Show(account(false))),
            ("reload", Verb::Reload),
            ("restore", Verb::Restore),
            (
                "revoke --local work",
                Verb::Revoke {
                    account: "work".into(),
                    local: true,
                },
            ),
            ("shutdown", Verb::Shutdown),
            ("status", Verb::Status),
            ("server", Verb::Server(ServerOptions::default())),
            (
                "server -dvvvv -c x.conf",
                Verb::Server(ServerOptions {
                    config: Some("x.conf".into()),
                    foreground: true,
                    verbose: 4,
                }),
            ),
        ] {
            assert_eq!(parsed(line), Ok(verb), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_line_says_what_is_wrong() {
        for (line, what) in [
            ("", "no command given"),
            ("frob", "unknown command `frob`"),
            ("-x", "invalid option '-x'"),
            ("show", "no account given"),
            ("show a b", "unexpected argument \"b\""),
            ("show -x a", "invalid option '-x'"),
            ("dump x", "unexpected argument \"x\""),
            ("server -c", "missing argument for option '-c'"),
        ] {
            let failure = parsed(line).unwrap_err();
            assert_eq!(
                (failure.exit, failure.what.as_str()),
                (Exit::Usage, what),
                "{line}"
            );
        }
    }

    #[test]
    fn every_verb_of_the_table_is_understood_and_explained() {
        for spec in VERBS {
            let operand = spec.operand.map(|_| "work").unwrap_or_default();
            let verb = parsed(&format!("{} {operand}", spec.name)).unwrap();
            assert!(!matches!(verb, Verb::Help(_)), "{}", spec.name);
            let Ok(Verb::Help(text)) = parsed(&format!("{} --help", spec.name)) else {
                panic!("no help for {}", spec.name);
            };
            assert!(text.contains(spec.summary) && text.contains(&synopsis(spec)));
            assert!(overview().contains(spec.summary));
        }
    }
}
