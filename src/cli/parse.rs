//! From words to a [`Verb`].

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::{
    Arg::{Long, Short, Value},
    ValueExt,
};

use super::{
    AuthOptions, CheckOptions, DumpOptions, GitCredentialOptions, RegisterOptions, ServerOptions,
    SetupOptions, TestOptions, TunnelOptions, Verb,
    help::{help, overview, synopsis, version},
    table::{Spec, VERBS},
};
use crate::{
    error::{Exit, Failure},
    form::{Form, Format},
    text::{nearest, sanitize},
    time::parse_span,
    wire::ShowArgs,
};

/// Understands the words behind the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Verb, Failure> {
    let mut parser = lexopt::Parser::from_args(args);
    let first = parser.next().map_err(|error| usage(None, &words(&error)))?;
    match first {
        None => Err(usage(None, "no command given")),
        Some(Short('h') | Long("help")) => Ok(Verb::Help(overview())),
        Some(Short('V') | Long("version")) => Ok(Verb::Help(version())),
        Some(Value(word)) => {
            let word = word.to_string_lossy();
            if word == "version" {
                return Ok(Verb::Help(version()));
            }
            if word == "help" {
                let named = parser.value().ok();
                let mut specs = VERBS.iter();
                let spec = specs.find(|spec| named.as_ref().is_some_and(|word| word == spec.name));
                return Ok(Verb::Help(spec.map_or_else(overview, help)));
            }
            if word == TAKE_OVER {
                return take_over(parser);
            }
            let heir = word == SUCCEED;
            let name = if heir { "server" } else { &*word };
            match VERBS.iter().find(|spec| spec.name == name) {
                Some(spec) => parse_verb(spec, parser).map(|verb| match verb {
                    Verb::Server(options) if heir => Verb::Succeed(options),
                    verb => verb,
                }),
                None => Err(unknown(&word)),
            }
        }
        Some(other) => Err(usage(None, &words(&other.unexpected()))),
    }
}

fn unknown(word: &str) -> Failure {
    let failure = usage(None, &format!("unknown command `{}`", sanitize(word)));
    match nearest(word, VERBS.iter().map(|spec| spec.name)) {
        Some(near) => failure.hint(format!("did you mean `pizauth {near}`?")),
        None => failure,
    }
}

/// The command that a restarting server becomes; in no table, since it is no use to anybody else.
pub const TAKE_OVER: &str = "take-over";

/// The server's command with an older server's tokens on standard input; in no table, either.
pub const SUCCEED: &str = "succeed";

fn take_over(mut parser: lexopt::Parser) -> Result<Verb, Failure> {
    let wrong = |_| usage(None, "this command is the server's own");
    let config = PathBuf::from(parser.value().map_err(wrong)?);
    let handed = match parser.next().map_err(wrong)? {
        None => None,
        Some(Value(handed)) => Some(handed.parse().map_err(wrong)?),
        Some(other) => return Err(wrong(other.unexpected())),
    };
    Ok(Verb::TakeOver { config, handed })
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
        self.values(long).last()
    }

    /// All the values given.
    fn values(&self, long: &str) -> impl Iterator<Item = &OsString> {
        let same = self.options.iter().filter(move |(name, _)| *name == long);
        same.filter_map(|(_, value)| value.as_ref())
    }

    /// The same, if it is of this kind.
    fn read<T>(&self, long: &str, kind: &Kind<T>) -> Result<Option<T>, String> {
        let value = self.value(long);
        value.map(|value| kind.read(long, value)).transpose()
    }
}

/// What the value of an option can be.
struct Kind<T> {
    /// In words.
    noun: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Kind<T> {
    fn read(&self, long: &str, value: &OsString) -> Result<T, String> {
        value.to_str().and_then(self.parse).ok_or_else(|| {
            let value = sanitize(&value.to_string_lossy());
            format!(
                "`{value}` is no good value of `--{long}`: it takes {}",
                self.noun
            )
        })
    }
}

const SPAN_SECS: Kind<u64> = Kind {
    noun: "one whole number and a unit, such as `90s`, `5m`, `2h`, `1d`",
    parse: |text| parse_span(text).map(|span| span.as_secs()),
};

const FORMAT: Kind<Format> = Kind {
    noun: "raw, bearer, headers, json, kubernetes, xoauth2 or oauthbearer",
    parse: Format::named,
};

const PORT: Kind<u16> = Kind {
    noun: "a number up to 65535",
    parse: |port| port.parse().ok(),
};

const TEXT: Kind<String> = Kind {
    noun: "a text on one line",
    parse: text,
};

/// A name that a line can hold, and the configuration with it.
const NAME: Kind<String> = Kind {
    noun: "a name without odd spaces",
    parse: |name| text(name).filter(|name| sanitize(name) == *name),
};

/// A scope (RFC 6749, 3.3).
const SCOPE: Kind<String> = Kind {
    noun: "one scope, without spaces and quotes",
    parse: |scope| {
        let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let is_scope = !scope.is_empty() && scope.bytes().all(fits);
        is_scope.then(|| scope.to_owned())
    },
};

/// Something that can be seen.
fn text(text: &str) -> Option<String> {
    let fits = !text.is_empty() && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
}

/// What is wrong with a word, in the words of this program.
fn words(error: &lexopt::Error) -> String {
    use lexopt::Error;
    let shown = |word: &OsStr| sanitize(&word.to_string_lossy());
    match error {
        Error::MissingValue {
            option: Some(option),
        } => format!("`{option}` needs a value"),
        Error::UnexpectedOption(option) => {
            format!("unknown option `{}`", sanitize(option))
        }
        Error::UnexpectedArgument(word) => format!("unexpected argument `{}`", shown(word)),
        Error::UnexpectedValue { option, value } => {
            format!("`{option}` takes no value, but there is `{}`", shown(value))
        }
        other => sanitize(&other.to_string()),
    }
}

fn parse_verb(spec: &Spec, mut parser: lexopt::Parser) -> Result<Verb, Failure> {
    let wrong = |why: &str| usage(Some(spec), why);
    let mut given = Given::default();
    while let Some(arg) = parser.next().map_err(|error| wrong(&words(&error)))? {
        let option = match &arg {
            Short('h') | Long("help") => return Ok(Verb::Help(help(spec))),
            Short('V') | Long("version") => return Ok(Verb::Help(version())),
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
                    Some(_) => Some(parser.value().map_err(|error| wrong(&words(&error)))?),
                    None => None,
                };
                given.options.push((opt.long, value));
            }
            (None, Value(word)) if spec.takes_operand(given.operands.len()) => {
                let word = word.string().map_err(|_| wrong("arguments are UTF-8"))?;
                given.operands.push(word);
            }
            // The original's commands all take it; what these do is in the server's log.
            (None, Short('v') | Long("verbose")) => {}
            (None, other) => return Err(wrong(&words(&other.unexpected()))),
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
    Ok(match name {
        "check" => Verb::Check(CheckOptions {
            config,
            show: given.has("show"),
        }),
        "dump" => Verb::Dump(DumpOptions {
            force: given.has("force"),
            file: given.value("output").map(PathBuf::from),
        }),
        "info" => Verb::Info { json, config },
        "redirect" => Verb::Redirect {
            address: given.operand(0),
            account: given.read("account", &TEXT)?,
        },
        "register" => Verb::Register(register(&given)?),
        "reload" => Verb::Reload,
        "restart" => Verb::Restart,
        "restore" => Verb::Restore,
        "server" => Verb::Server(ServerOptions {
            foreground: given.has("debug"),
            verbose: u8::try_from(given.count("verbose")).unwrap_or(u8::MAX),
            config,
        }),
        "setup" => Verb::Setup(setup(&given)?),
        "shutdown" => Verb::Shutdown(given.has("force")),
        "status" => Verb::Status { json },
        "watch" => Verb::Watch { json },
        _ => return about_account(name, given),
    })
}

/// A verb whose first operand is an account.
fn about_account(name: &str, given: Given) -> Result<Verb, String> {
    let token = ShowArgs {
        account: given.operand(0).unwrap_or_default(),
        no_url: given.has("no-url"),
        wait_secs: given.read("wait", &SPAN_SECS)?,
        min_valid_secs: given.read("min-valid", &SPAN_SECS)?,
        form: Form {
            user: given.read("user", &TEXT)?,
            ..Form::default()
        },
    };
    Ok(match name {
        "auth" => Verb::Auth(AuthOptions {
            account: token.account,
            open: given.has("open"),
            qr: given.has("qr"),
            no_wait: given.has("no-wait"),
        }),
        "git-credential" => Verb::GitCredential(GitCredentialOptions {
            token,
            operation: given.operand(1).unwrap_or_default(),
            bearer: given.has("bearer"),
        }),
        "import" => Verb::Import(token.account),
        "refresh" => Verb::Refresh(token),
        "revoke" => Verb::Revoke {
            account: token.account,
            local: given.has("local"),
        },
        "show" => Verb::Show(show(&given, token)?),
        "test" => Verb::Test(TestOptions {
            token,
            verbose: given.has("verbose"),
            urls: given.operands.into_iter().skip(1).collect(),
        }),
        "tunnel" => Verb::Tunnel(TunnelOptions {
            token,
            url: given.operand(1).unwrap_or_default(),
        }),
        // A row of the table without a line above; tests.rs looks for one.
        _ => return Err(super::ELSEWHERE.into()),
    })
}

fn register(given: &Given) -> Result<RegisterOptions, String> {
    let scopes = given.values("scope");
    let scopes = scopes.map(|value| SCOPE.read("scope", value));
    Ok(RegisterOptions {
        issuer: given.operand(0).unwrap_or_default(),
        scopes: scopes.collect::<Result<_, _>>()?,
        name: given.read("name", &NAME)?,
        token_cmd: given.read("token-cmd", &TEXT)?,
    })
}

fn setup(given: &Given) -> Result<SetupOptions, String> {
    let clients = given.values("client");
    Ok(SetupOptions {
        target: given.operand(0).unwrap_or_default(),
        user: given.operand(1),
        name: given.read("name", &NAME)?,
        print: given.read("print", &TEXT)?,
        clients: clients
            .map(|name| name.to_string_lossy().into_owned())
            .collect(),
    })
}

fn show(given: &Given, mut token: ShowArgs) -> Result<ShowArgs, String> {
    let form = &mut token.form;
    form.format = given.read("format", &FORMAT)?.unwrap_or_default();
    form.id_token = given.has("id-token");
    form.host = given.read("host", &TEXT)?;
    form.port = given.read("port", &PORT)?;
    let sasl = matches!(form.format, Format::Xoauth2 | Format::Oauthbearer);
    if form.user.is_some() && !sasl {
        return Err("`--user` is for the formats xoauth2 and oauthbearer".into());
    }
    if form.id_token && sasl {
        return Err("mail servers take no ID token: leave out `--id-token`".into());
    }
    let server = form.host.is_some() || form.port.is_some();
    if server && form.format != Format::Oauthbearer {
        return Err("`--host` and `--port` are for the format oauthbearer".into());
    }
    Ok(token)
}

fn usage(spec: Option<&Spec>, why: &str) -> Failure {
    let hint = match spec {
        Some(spec) => format!("usage: {}", synopsis(spec)),
        None => "`pizauth --help` lists the commands".into(),
    };
    Failure::new(Exit::Usage, why).hint(hint)
}
