//! The command line: one table is the source of the parser and of every usage text; the manual
//! and the completions are held against it by tests/tidy.rs.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use lexopt::{
    Arg::{Long, Short, Value},
    ValueExt,
};

use crate::{
    error::{Exit, Failure},
    form::{Form, Format},
    time::parse_span,
};

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
    /// Print paths, version, ports.
    Info {
        /// As JSON.
        json: bool,
    },
    /// Take an authorization response from the command line, or from stdin.
    Redirect(Option<String>),
    /// Obtain a new token now.
    Refresh(AccountOptions),
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
    Show(ShowOptions),
    /// End the daemon.
    Shutdown,
    /// Print the state of every account.
    Status {
        /// As JSON.
        json: bool,
    },
    /// Sign in at mail servers.
    Test(TestOptions),
    /// Print what happens.
    Watch {
        /// As JSON.
        json: bool,
    },
    /// Go on where another program was; no command for people.
    TakeOver {
        /// The config.
        config: PathBuf,
        /// The descriptor with the state; without, it is only looked at.
        number: Option<i32>,
    },
}

/// What `check` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// `-c`: the config, instead of the usual one.
    pub config: Option<PathBuf>,
}

/// What `dump` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// `-o`: the file to write, instead of stdout.
    pub file: Option<PathBuf>,
    /// `-f`: write to a terminal, too.
    pub force: bool,
}

/// What verbs about one account take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AccountOptions {
    /// The account's name.
    pub account: String,
    /// `-u`: leave the URL out of errors.
    pub no_url: bool,
}

/// What `git-credential` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GitCredentialOptions {
    /// The account's name.
    pub account: String,
    /// What git wants: `get`, `store`, `erase`, or a word of a later version.
    pub operation: String,
    /// `-b`: an `Authorization: Bearer` header, where git can send one.
    pub bearer: bool,
    /// `-u`: leave the URL out of errors.
    pub no_url: bool,
    /// `-w`: wait at most so long for a token.
    pub wait: Option<Duration>,
    /// `-m`: only a token that is valid so long.
    pub min_valid: Option<Duration>,
    /// `--user`: the user's name for git, whatever git says.
    pub user: Option<String>,
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

/// What `show` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShowOptions {
    /// The account's name.
    pub account: String,
    /// `-u`: leave the URL out of errors.
    pub no_url: bool,
    /// `-w`: wait at most so long for a token.
    pub wait: Option<Duration>,
    /// `-m`: only a token that is valid so long.
    pub min_valid: Option<Duration>,
    /// `-f`, `--user`, `--host`, `--port`: what the token is to look like.
    pub form: Form,
}

/// What `setup` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SetupOptions {
    /// An address, a domain, a provider's name or an issuer.
    pub target: String,
    /// With a provider or an issuer, whose mailbox.
    pub user: Option<String>,
    /// `-c`: the mail programs; those that are installed, when there are none.
    pub clients: Vec<String>,
}

/// What `test` takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TestOptions {
    /// The account's name.
    pub account: String,
    /// `-u`: leave the URL out of errors.
    pub no_url: bool,
    /// `-v`: show the dialogue.
    pub verbose: bool,
    /// `--user`: the mailbox.
    pub user: Option<String>,
    /// The servers; the provider's own, when there are none.
    pub urls: Vec<String>,
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
    fn operands(&self) -> impl Iterator<Item = &'static str> {
        self.operand.unwrap_or_default().split_whitespace()
    }

    /// Whether there can be another operand behind so many.
    fn takes_operand(&self, given: usize) -> bool {
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
        options: &[JSON],
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
            if word == TAKE_OVER {
                return take_over(parser);
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

/// The command that a restarting server becomes; in no table, since it is no use to anybody else.
pub const TAKE_OVER: &str = "take-over";

fn take_over(mut parser: lexopt::Parser) -> Result<Verb, Failure> {
    let wrong = |_| usage(None, "this command is the server's own");
    let config = PathBuf::from(parser.value().map_err(wrong)?);
    let number = match parser.next().map_err(wrong)? {
        None => None,
        Some(Value(number)) => Some(number.parse().map_err(wrong)?),
        Some(other) => return Err(wrong(other.unexpected())),
    };
    Ok(Verb::TakeOver { config, number })
}

/// What the options of one verb came to.
#[derive(Default)]
struct Given {
    /// By the long name, in the order given.
    options: Vec<(&'static str, Option<OsString>)>,
    operands: Vec<String>,
}

impl Given {
    fn has(&self, long: &str) -> bool {
        self.count(long) > 0
    }

    fn operand(&self, at: usize) -> Option<String> {
        self.operands.get(at).cloned()
    }

    fn count(&self, long: &str) -> usize {
        let same = self.options.iter().filter(|(name, _)| *name == long);
        same.count()
    }

    /// The last value given; an earlier one is overridden.
    fn value(&self, long: &str) -> Option<&OsString> {
        let mut last = self.options.iter().rev();
        last.find(|(name, _)| *name == long)?.1.as_ref()
    }

    /// All the values given.
    fn values(&self, long: &str) -> Vec<String> {
        let same = self.options.iter().filter(|(name, _)| *name == long);
        let values = same.filter_map(|(_, value)| value.as_ref());
        values
            .map(|value| value.to_string_lossy().into_owned())
            .collect()
    }

    /// The same, if `read` can make sense of it.
    fn read<T>(&self, long: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
        let value = self.value(long);
        value.map(|value| understood(long, value, read)).transpose()
    }

    /// All that were given, in their order.
    fn read_all<T>(&self, long: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
        let same = self.options.iter().filter(|(name, _)| *name == long);
        let values = same.filter_map(|(_, value)| value.as_ref());
        values.map(|value| understood(long, value, &read)).collect()
    }
}

/// What `read` makes of the value of an option.
fn understood<T>(
    long: &str,
    value: &OsString,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    value.to_str().and_then(read).ok_or_else(|| {
        let value = crate::text::sanitize(&value.to_string_lossy());
        format!("`{value}` is no good value of `--{long}`")
    })
}

fn parse_verb(spec: &Spec, mut parser: lexopt::Parser) -> Result<Verb, Failure> {
    let wrong = |why: &str| usage(Some(spec), why);
    let mut given = Given::default();
    while let Some(arg) = parser.next().map_err(|error| wrong(&error.to_string()))? {
        let option = match &arg {
            Short('h') | Long("help") => return Ok(Verb::Help(help(spec))),
            Short(letter) => {
                let mut options = spec.options.iter();
                options.find(|opt| opt.short == Some(*letter))
            }
            Long(word) => spec.options.iter().find(|opt| opt.long == *word),
            Value(_) => None,
        };
        match (option, arg) {
            (Some(opt), _) => {
                let value = match opt.value {
                    Some(_) => Some(parser.value().map_err(|error| wrong(&error.to_string()))?),
                    None => None,
                };
                given.options.push((opt.long, value));
            }
            (None, Value(word)) if spec.takes_operand(given.operands.len()) => {
                let word = word.string().map_err(|_| wrong("arguments are UTF-8"))?;
                given.operands.push(word);
            }
            (None, other) => return Err(wrong(&other.unexpected().to_string())),
        }
    }
    let missing = spec.operands().nth(given.operands.len());
    if let Some(operand) = missing.filter(|operand| !operand.starts_with('[')) {
        return Err(wrong(&format!("no {operand} given")));
    }
    verb(spec.name, given).map_err(|why| wrong(&why))
}

fn verb(name: &str, given: Given) -> Result<Verb, String> {
    let json = given.has("json");
    let config = given.value("config").map(PathBuf::from);
    let account = AccountOptions {
        account: given.operand(0).unwrap_or_default(),
        no_url: given.has("no-url"),
    };
    Ok(match name {
        "auth" => Verb::Auth(AuthOptions {
            account: account.account,
            open: given.has("open"),
            qr: given.has("qr"),
            no_wait: given.has("no-wait"),
        }),
        "check" => Verb::Check(CheckOptions { config }),
        "dump" => Verb::Dump(DumpOptions {
            force: given.has("force"),
            file: given.value("output").map(PathBuf::from),
        }),
        "git-credential" => Verb::GitCredential(git_credential(&given, account)?),
        "info" => Verb::Info { json },
        "redirect" => Verb::Redirect(given.operand(0)),
        "refresh" => Verb::Refresh(account),
        "register" => Verb::Register(register(&given)?),
        "reload" => Verb::Reload,
        "restart" => Verb::Restart,
        "restore" => Verb::Restore,
        "revoke" => Verb::Revoke {
            account: account.account,
            local: given.has("local"),
        },
        "server" => Verb::Server(ServerOptions {
            foreground: given.has("debug"),
            verbose: u8::try_from(given.count("verbose")).unwrap_or(u8::MAX),
            config,
        }),
        "setup" => Verb::Setup(SetupOptions {
            target: account.account,
            user: given.operand(1),
            clients: given.values("client"),
        }),
        "show" => Verb::Show(show(&given, account)?),
        "shutdown" => Verb::Shutdown,
        "status" => Verb::Status { json },
        "test" => Verb::Test(TestOptions {
            account: account.account,
            no_url: account.no_url,
            verbose: given.has("verbose"),
            user: given.read("user", text)?,
            urls: given.operands.into_iter().skip(1).collect(),
        }),
        "watch" => Verb::Watch { json },
        // Every row of the table has its line above; the test below walks them all.
        _ => Verb::Help(overview()),
    })
}

fn git_credential(given: &Given, account: AccountOptions) -> Result<GitCredentialOptions, String> {
    Ok(GitCredentialOptions {
        account: account.account,
        operation: given.operand(1).unwrap_or_default(),
        bearer: given.has("bearer"),
        no_url: account.no_url,
        wait: given.read("wait", parse_span)?,
        min_valid: given.read("min-valid", parse_span)?,
        user: given.read("user", text)?,
    })
}

fn register(given: &Given) -> Result<RegisterOptions, String> {
    Ok(RegisterOptions {
        issuer: given.operand(0).unwrap_or_default(),
        scopes: given.read_all("scope", scope)?,
        name: given.read("name", line)?,
        token_cmd: given.read("token-cmd", text)?,
    })
}

/// A name that a line can hold, and the configuration with it.
fn line(name: &str) -> Option<String> {
    text(name).filter(|name| crate::text::sanitize(name) == *name)
}

/// A scope (RFC 6749, 3.3).
fn scope(scope: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_scope = !scope.is_empty() && scope.bytes().all(fits);
    is_scope.then(|| scope.to_owned())
}

/// A name that is one.
fn text(text: &str) -> Option<String> {
    let fits = !text.is_empty() && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

fn show(given: &Given, account: AccountOptions) -> Result<ShowOptions, String> {
    let form = Form {
        format: given.read("format", Format::named)?.unwrap_or_default(),
        user: given.read("user", text)?,
        host: given.read("host", text)?,
        port: given.read("port", |port| port.parse().ok())?,
    };
    let sasl = matches!(form.format, Format::Xoauth2 | Format::Oauthbearer);
    if form.user.is_some() && !sasl {
        return Err("`--user` is for the formats xoauth2 and oauthbearer".into());
    }
    let server = form.host.is_some() || form.port.is_some();
    if server && form.format != Format::Oauthbearer {
        return Err("`--host` and `--port` are for the format oauthbearer".into());
    }
    Ok(ShowOptions {
        account: account.account,
        no_url: account.no_url,
        wait: given.read("wait", parse_span)?,
        min_valid: given.read("min-valid", parse_span)?,
        form,
    })
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
        let name = match opt.short {
            Some(letter) => format!("-{letter}"),
            None => format!("--{}", opt.long),
        };
        match opt.value {
            Some(value) => line.push_str(&format!(" [{name} <{value}>]")),
            None => line.push_str(&format!(" [{name}]")),
        }
    }
    line + &operands(spec)
}

/// As in ` <account> [<url...>]`.
fn operands(spec: &Spec) -> String {
    let shown = spec
        .operands()
        .map(|operand| match operand.strip_prefix('[') {
            Some(optional) => format!(" [<{}>]", optional.trim_end_matches(']')),
            None => format!(" <{operand}>"),
        });
    shown.collect()
}

/// A row of a table of two columns; a first one that is too long has a line of its own.
fn row(first: &str, width: usize, second: &str) -> String {
    match first.len() <= width {
        true => format!("  {first:<width$} {second}\n"),
        false => format!("  {first}\n  {:<width$} {second}\n", ""),
    }
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
        let names = match opt.short {
            Some(letter) => format!("-{letter}, --{}{value}", opt.long),
            None => format!("    --{}{value}", opt.long),
        };
        text.push_str(&row(&names, 24, opt.summary));
    }
    text
}

fn overview() -> String {
    let mut text = String::from("usage: pizauth <command>\n\n");
    for spec in VERBS {
        let options = if spec.options.is_empty() {
            ""
        } else {
            " [options]"
        };
        let line = format!("{}{options}{}", spec.name, operands(spec));
        text.push_str(&row(&line, 28, spec.summary));
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

    fn show_work(no_url: bool) -> ShowOptions {
        ShowOptions {
            account: "work".into(),
            no_url,
            ..ShowOptions::default()
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
            ("dump", Verb::Dump(DumpOptions::default())),
            (
                "dump -fo x",
                Verb::Dump(DumpOptions {
                    file: Some("x".into()),
                    force: true,
                }),
            ),
            (
                "git-credential -b -w 5s --user me work get -m1m",
                Verb::GitCredential(GitCredentialOptions {
                    account: "work".into(),
                    operation: "get".into(),
                    bearer: true,
                    no_url: false,
                    wait: Some(Duration::from_secs(5)),
                    min_valid: Some(Duration::from_secs(60)),
                    user: Some("me".into()),
                }),
            ),
            ("info", Verb::Info { json: false }),
            ("info -j", Verb::Info { json: true }),
            ("redirect", Verb::Redirect(None)),
            ("redirect a:/?b", Verb::Redirect(Some("a:/?b".into()))),
            ("refresh work", Verb::Refresh(account(false))),
            (
                "register --scope a:b -s c -n x -t y op.example",
                Verb::Register(RegisterOptions {
                    issuer: "op.example".into(),
                    scopes: vec!["a:b".into(), "c".into()],
                    name: Some("x".into()),
                    token_cmd: Some("y".into()),
                }),
            ),
            ("refresh -u work", Verb::Refresh(account(true))),
            ("show work -u", Verb::Show(show_work(true))),
            ("show -- work", Verb::Show(show_work(false))),
            (
                "show -w 30s -m10m -f oauthbearer --user me --host=h --port 993 work",
                Verb::Show(ShowOptions {
                    wait: Some(Duration::from_secs(30)),
                    min_valid: Some(Duration::from_secs(600)),
                    form: Form {
                        format: Format::Oauthbearer,
                        user: Some("me".into()),
                        host: Some("h".into()),
                        port: Some(993),
                    },
                    ..show_work(false)
                }),
            ),
            (
                "show --wait 1 --wait=45 work",
                Verb::Show(ShowOptions {
                    wait: Some(Duration::from_secs(45)),
                    ..show_work(false)
                }),
            ),
            ("check", Verb::Check(CheckOptions::default())),
            (
                "check -c x.conf",
                Verb::Check(CheckOptions {
                    config: Some("x.conf".into()),
                }),
            ),
            ("reload", Verb::Reload),
            ("restart", Verb::Restart),
            ("restore", Verb::Restore),
            (
                "revoke --local work",
                Verb::Revoke {
                    account: "work".into(),
                    local: true,
                },
            ),
            (
                "setup -c mutt --client=msmtp me@mail.example",
                Verb::Setup(SetupOptions {
                    target: "me@mail.example".into(),
                    user: None,
                    clients: vec!["mutt".into(), "msmtp".into()],
                }),
            ),
            ("shutdown", Verb::Shutdown),
            ("status", Verb::Status { json: false }),
            ("status --json", Verb::Status { json: true }),
            (
                "test work --user me -v imaps://a smtp://b",
                Verb::Test(TestOptions {
                    account: "work".into(),
                    no_url: false,
                    verbose: true,
                    user: Some("me".into()),
                    urls: vec!["imaps://a".into(), "smtp://b".into()],
                }),
            ),
            ("watch", Verb::Watch { json: false }),
            ("watch -j", Verb::Watch { json: true }),
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
            ("setup", "no address given"),
            ("test", "no account given"),
            ("git-credential a", "no operation given"),
            ("git-credential a b c", "unexpected argument \"c\""),
            ("dump x", "unexpected argument \"x\""),
            ("server -c", "missing argument for option '-c'"),
            ("show -w soon a", "`soon` is no good value of `--wait`"),
            ("show -m 1w a", "`1w` is no good value of `--min-valid`"),
            ("show -f xml a", "`xml` is no good value of `--format`"),
            (
                "show -f oauthbearer --port 65536 a",
                "`65536` is no good value of `--port`",
            ),
            (
                "show --user me a",
                "`--user` is for the formats xoauth2 and oauthbearer",
            ),
            (
                "show -f xoauth2 --host h a",
                "`--host` and `--port` are for the format oauthbearer",
            ),
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
            let operands = spec.operands().map(|_| " work");
            let line = format!("{}{}", spec.name, operands.collect::<String>());
            let verb = parsed(&line).unwrap();
            assert!(!matches!(verb, Verb::Help(_)), "{}", spec.name);
            let Ok(Verb::Help(text)) = parsed(&format!("{} --help", spec.name)) else {
                panic!("no help for {}", spec.name);
            };
            assert!(text.contains(spec.summary) && text.contains(&synopsis(spec)));
            assert!(overview().contains(spec.summary));
        }
    }
}
