//! From words to a [`Verb`].

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::{
    Arg::{Long, Short, Value},
    ValueExt,
};

use super::{
    Verb,
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

/// What the options and operands of one verb came to. Each of the table's readers has a function here.
#[derive(Default)]
pub struct Given {
    /// By the long name, in the order given.
    options: Vec<(&'static str, Option<OsString>)>,
    operands: Vec<String>,
}

impl Given {
    /// An operand.
    pub(super) fn operand(&self, at: usize) -> Result<String, String> {
        Ok(self.maybe(at)?.unwrap_or_default())
    }

    /// One that may be left out.
    pub(super) fn maybe(&self, at: usize) -> Result<Option<String>, String> {
        Ok(self.operands.get(at).cloned())
    }

    /// All from there.
    pub(super) fn operands(&self, from: usize) -> Result<Vec<String>, String> {
        Ok(self.operands.iter().skip(from).cloned().collect())
    }

    /// Whether an option was given.
    pub(super) fn flag(&self, long: &str) -> Result<bool, String> {
        Ok(self.count(long)? > 0)
    }

    /// How often it was.
    pub(super) fn count(&self, long: &str) -> Result<u8, String> {
        let same = self.options.iter().filter(|(name, _)| *name == long);
        Ok(u8::try_from(same.count()).unwrap_or(u8::MAX))
    }

    /// A file.
    pub(super) fn path(&self, long: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.values(long).last().map(PathBuf::from))
    }

    /// A text on one line.
    pub(super) fn text(&self, long: &str) -> Result<Option<String>, String> {
        self.read(long, &TEXT)
    }

    /// A name that a line can hold, and the configuration with it.
    pub(super) fn name(&self, long: &str) -> Result<Option<String>, String> {
        self.read(long, &NAME)
    }

    /// Whatever was given, each time.
    pub(super) fn words(&self, long: &str) -> Result<Vec<String>, String> {
        let words = self
            .values(long)
            .map(|it| it.to_string_lossy().into_owned());
        Ok(words.collect())
    }

    /// Scopes (RFC 6749, 3.3).
    pub(super) fn scopes(&self, long: &str) -> Result<Vec<String>, String> {
        self.values(long).map(|it| SCOPE.read(long, it)).collect()
    }

    /// Whose token is wanted, and how.
    pub(super) fn token(&self) -> Result<ShowArgs, String> {
        Ok(ShowArgs {
            account: self.operand(0)?,
            no_url: self.flag("no-url")?,
            wait_secs: self.read("wait", &SPAN_SECS)?,
            min_valid_secs: self.read("min-valid", &SPAN_SECS)?,
            form: Form {
                user: self.text("user")?,
                ..Form::default()
            },
        })
    }

    /// The same, and in which form.
    pub(super) fn shown(&self) -> Result<ShowArgs, String> {
        let mut token = self.token()?;
        let form = &mut token.form;
        form.format = self.read("format", &FORMAT)?.unwrap_or_default();
        form.id_token = self.flag("id-token")?;
        form.host = self.text("host")?;
        form.port = self.read("port", &PORT)?;
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

    /// All the values given of an option.
    fn values(&self, long: &str) -> impl Iterator<Item = &OsString> {
        let same = self.options.iter().filter(move |(name, _)| *name == long);
        same.filter_map(|(_, value)| value.as_ref())
    }

    /// The last of them, which overrides the others, if it is of this kind.
    fn read<T>(&self, long: &str, kind: &Kind<T>) -> Result<Option<T>, String> {
        let value = self.values(long).last();
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
    (spec.read)(&given).map_err(|why| wrong(&why))
}

fn usage(spec: Option<&Spec>, why: &str) -> Failure {
    let hint = match spec {
        Some(spec) => format!("usage: {}", synopsis(spec)),
        None => "`pizauth --help` lists the commands".into(),
    };
    Failure::new(Exit::Usage, why).hint(hint)
}
