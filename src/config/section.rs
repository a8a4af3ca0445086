//! The settings of one level (the file's, or an account's) by name, each as the kind it must be.

use std::time::Duration;

use cfgrammar::Span;
use jiff::civil;

use super::{
    Listen, Policy,
    ast::{Kind, Setting, Value},
    error::{ConfigError, Source, quoted},
    options::{Level, RETIRED, option, options},
    value::{self, Text},
};
use crate::providers::{PROVIDERS, Provider};
use crate::text::nearest;

/// The least of a time that something is repeated by: zero would be a tight loop.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The options that are such times.
const INTERVALS: [&str; 3] = ["auth_notify_interval", "refresh_at_least", "refresh_retry"];
/// Where redirects are listened for: this machine only, at a port of the system's choice.
const LISTEN: &str = "127.0.0.1:0";

/// The settings of one level, each known there and none twice.
pub(super) struct Section<'s, 'a> {
    pub(super) source: &'s Source<'a>,
    settings: Vec<(&'static str, &'s Setting)>,
    /// What `provider` names, and where: its facts stand for options that aren't set.
    preset: Option<(&'static Provider, Span)>,
}

impl<'s, 'a> Section<'s, 'a> {
    /// The known ones of `settings`, which stand at `place`.
    pub(super) fn new(
        source: &'s Source<'a>,
        settings: impl IntoIterator<Item = &'s Setting>,
        place: Level,
    ) -> Result<Self, ConfigError> {
        let settings = settings.into_iter();
        let mut section = Section {
            source,
            settings: Vec::with_capacity(settings.size_hint().0),
            preset: None,
        };
        for setting in settings {
            section.add(setting, place)?;
        }
        if let Some(text) = section.filled("provider")? {
            let found = Provider::named(&text.value);
            let provider = found.ok_or_else(|| unknown_provider(source, &text))?;
            section.preset = Some((provider, text.span));
        }
        Ok(section)
    }

    /// The provider that the account names.
    pub(super) fn provider(&self) -> Option<&'static Provider> {
        self.preset.map(|(provider, _)| provider)
    }

    /// What the provider's entry says in the place of the option `name`. An issuer that is named beside
    /// it says where the endpoints are.
    fn preset(&self, name: &str) -> Option<Text<'a>> {
        let (provider, span) = self.preset?;
        let endpoint = |uri: Option<&'static str>| uri.filter(|_| self.value("issuer").is_none());
        let value = match name {
            "auth_uri" => endpoint(Some(provider.auth_uri)),
            "token_uri" => endpoint(Some(provider.token_uri)),
            "device_auth_uri" => endpoint(provider.device_auth_uri),
            "revocation_uri" => endpoint(provider.revocation_uri),
            "redirect_uri" => Some(provider.redirect_uri),
            _ => None,
        }?;
        let value = value.into();
        Some(Text { value, span })
    }

    /// The address that redirects must be listened for at, as clients are registered at the provider,
    /// if `listener` is the option for it.
    pub(super) fn registered_listener(&self, listener: &str) -> Option<Text<'static>> {
        let (provider, span) = self.preset?;
        let own = provider.listener() == listener && self.value("redirect_uri").is_none();
        let value = provider.listen.filter(|_| own)?.into();
        Some(Text { value, span })
    }

    fn add(&mut self, setting: &'s Setting, place: Level) -> Result<(), ConfigError> {
        let name = resolve(self.source, setting.name, place)?;
        // There are few names, so this list is short, however long the file.
        if let Some(first) = self.setting(name) {
            let line = self.source.line(first.name);
            let what = format!("`{name}` is set twice, first on line {line}");
            return Err(self.source.error(setting.name, what));
        }
        self.settings.push((name, setting));
        Ok(())
    }

    fn setting(&self, name: &str) -> Option<&'s Setting> {
        let found = self.settings.iter().find(|(known, _)| *known == name);
        found.map(|(_, setting)| *setting)
    }

    /// What `name` is set to.
    pub(super) fn value(&self, name: &str) -> Option<&'s Value> {
        self.setting(name).map(|setting| &setting.value)
    }

    /// Where `name` is set, or else `other`.
    pub(super) fn place(&self, name: &str, other: Span) -> Span {
        self.setting(name).map_or(other, |setting| setting.name)
    }

    fn mismatch(&self, name: &str, value: &Value, wanted: &str) -> ConfigError {
        let what = format!("`{name}` takes {wanted}, not {}", value.kind.noun());
        self.source.error(value.span, what)
    }

    /// A string that stays on its line. Only what has a use for line ends may hold them: elsewhere
    /// a closing quote was forgotten, and they would reach logs and file names.
    pub(super) fn string(&self, name: &str) -> Result<Option<Text<'a>>, ConfigError> {
        let text = self.lines(name)?;
        let one_line = |text| value::one_line(self.source, format_args!("`{name}`"), text);
        text.map(one_line).transpose()
    }

    /// A string that may go over lines.
    pub(super) fn lines(&self, name: &str) -> Result<Option<Text<'a>>, ConfigError> {
        match self.value(name) {
            None => Ok(self.preset(name)),
            Some(value) => match value.kind {
                Kind::String => value::string(self.source, value.span).map(Some),
                Kind::Word if self.is_none(name, value) => Ok(None),
                _ => Err(self.mismatch(name, value, "a string in double quotes")),
            },
        }
    }

    /// Whether it is an endpoint of a preset that this account does without.
    fn is_none(&self, name: &str, value: &Value) -> bool {
        let may_be = matches!(name, "device_auth_uri" | "revocation_uri");
        may_be && self.source.slice(value.span) == "none"
    }

    /// A string that stays on its line and must say something.
    pub(super) fn filled(&self, name: &str) -> Result<Option<Text<'a>>, ConfigError> {
        let text = self.string(name)?;
        text.map(|text| self.not_empty(name, text)).transpose()
    }

    fn not_empty(&self, name: &str, text: Text<'a>) -> Result<Text<'a>, ConfigError> {
        if text.value.is_empty() {
            Err(self.source.error(text.span, format!("`{name}` is empty")))
        } else {
            Ok(text)
        }
    }

    /// The path of a file: absolute, or below `~/`.
    pub(super) fn file(&self, name: &str) -> Result<Option<Text<'a>>, ConfigError> {
        let path = self.filled(name)?;
        if let Some(path) = &path {
            value::absolute_file(self.source, &format!("`{name}`"), path)?;
        }
        Ok(path)
    }

    /// A command line for the shell. An empty one is a command too: it does nothing, well.
    pub(super) fn command(&self, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.lines(name)?.map(|text| text.value.into_owned()))
    }

    /// A command line that must do something: what it prints is needed.
    pub(super) fn filled_command(&self, name: &str) -> Result<Option<Text<'a>>, ConfigError> {
        let text = self.lines(name)?;
        text.map(|text| self.not_empty(name, text)).transpose()
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => match value.kind {
                Kind::Number => value::time(self.source, value.span).map(Some),
                _ => Err(self.mismatch(name, value, "a time such as `90s`")),
            },
        }
    }

    /// A time of day.
    pub(super) fn time_of_day(&self, name: &str) -> Result<Option<civil::Time>, ConfigError> {
        let read = |text: Text| {
            let what = format!("`{name}` takes a time of day such as \"09:00\"");
            let time = text.value.parse();
            time.map_err(|_| self.source.error(text.span, what))
        };
        self.string(name)?.map(read).transpose()
    }

    /// A time by which something is repeated: zero is as little as there may be.
    pub(super) fn interval(&self, name: &str) -> Result<Option<Duration>, ConfigError> {
        Ok(self.time(name)?.map(|time| time.max(MIN_INTERVAL)))
    }

    /// The times that are less than they may be, and where they stand.
    pub(super) fn warnings(&self) -> impl Iterator<Item = (Span, String)> {
        INTERVALS.into_iter().filter_map(|name| {
            let value = self.value(name)?;
            let time = self.time(name).ok()??;
            let what = format!("`{name}` is taken as {}s", MIN_INTERVAL.as_secs());
            (time < MIN_INTERVAL).then_some((value.span, what))
        })
    }

    /// When tokens are refreshed, where it differs from `defaults`.
    pub(super) fn policy(&self, defaults: Policy) -> Result<Policy, ConfigError> {
        let time = |name, or| self.time(name).map(|time| time.unwrap_or(or));
        let interval = |name, or| self.interval(name).map(|time| time.unwrap_or(or));
        Ok(Policy {
            notice_before: time("notice_before", defaults.notice_before)?,
            refresh_at_least: interval("refresh_at_least", defaults.refresh_at_least)?,
            refresh_before_expiry: time("refresh_before_expiry", defaults.refresh_before_expiry)?,
            refresh_retry: interval("refresh_retry", defaults.refresh_retry)?,
        })
    }

    /// The scopes to ask for; those of the preset when unset, or none.
    pub(super) fn scopes(&self) -> Result<Vec<String>, ConfigError> {
        match (self.value("scopes"), self.preset) {
            (None, Some((provider, _))) => {
                let scopes = provider.scopes.iter();
                Ok(scopes.map(|(scope, _)| (*scope).to_owned()).collect())
            }
            _ => {
                let texts = self.texts("scopes")?.into_iter();
                Ok(texts.map(|text| text.value.into_owned()).collect())
            }
        }
    }

    /// A list of strings; none when unset. Each stays on its line.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<Text<'a>>, ConfigError> {
        let Some(value) = self.value(name) else {
            return Ok(Vec::new());
        };
        let Kind::List(strings) = &value.kind else {
            return Err(self.mismatch(name, value, "a list such as [\"a\", \"b\"]"));
        };
        let text = |span: &Span| {
            let text = value::string(self.source, *span)?;
            value::one_line(self.source, format_args!("a string of `{name}`"), text)
        };
        strings.iter().map(text).collect()
    }

    /// Pairs of strings, in their order; none when unset.
    pub(super) fn fields(&self, name: &str) -> Result<Vec<(Text<'a>, Text<'a>)>, ConfigError> {
        let Some(value) = self.value(name) else {
            return Ok(Vec::new());
        };
        let Kind::Fields(fields) = &value.kind else {
            return Err(self.mismatch(name, value, "fields such as { \"key\": \"value\" }"));
        };
        let text = |span| value::string(self.source, span);
        let fields = fields.iter();
        fields
            .map(|(key, value)| Ok((text(*key)?, text(*value)?)))
            .collect()
    }

    /// What one of `words` means, which stands there without quotes, and where.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<(T, Span)>, ConfigError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let is_word = matches!(value.kind, Kind::Word);
        let is_it = |(word, _): &&(&str, T)| is_word && *word == self.source.slice(value.span);
        if let Some((_, meaning)) = words.iter().find(is_it) {
            return Ok(Some((*meaning, value.span)));
        }
        let words: Vec<String> = words.iter().map(|(it, _)| format!("`{it}`")).collect();
        let wanted = format!("one of {} without quotes", words.join(", "));
        Err(match is_word {
            true => (self.source).error(value.span, format!("`{name}` takes {wanted}")),
            false => self.mismatch(name, value, &wanted),
        })
    }

    /// Whether the word `true` stands there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        let word = self.word(name, &[("true", true), ("false", false)])?;
        Ok(word.is_some_and(|(is_true, _)| is_true))
    }

    /// A listener's address; when unset, the one that a preset's clients are `registered` with.
    pub(super) fn listen(
        &self,
        name: &str,
        registered: impl FnOnce(&str) -> Option<Text<'static>>,
    ) -> Result<Listen, ConfigError> {
        let Some(value) = self.value(name) else {
            let default = registered(name).unwrap_or(Text {
                value: LISTEN.into(),
                span: Span::new(0, 0),
            });
            return value::listen(self.source, name, &default);
        };
        match value.kind {
            Kind::String => {
                let text = value::string(self.source, value.span)?;
                value::listen(self.source, name, &text)
            }
            Kind::Word if self.source.slice(value.span) == "none" => Ok(Listen::None),
            _ => Err(self.mismatch(name, value, "`none` or a string such as \"127.0.0.1:0\"")),
        }
    }
}

/// The option whose name stands at `span`, if it may stand at `place`.
fn resolve(source: &Source, span: Span, place: Level) -> Result<&'static str, ConfigError> {
    let name = source.slice(span);
    match option(name) {
        Some((known, level)) if level.allows(place) => Ok(known),
        Some((known, level)) => {
            let here = options().filter(|(_, level)| level.allows(place));
            let near = nearest(known, here.map(|(name, _)| name));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let what = format!("`{known}` belongs {}", level.place());
            Err(source.error(span, what).maybe_hint(hint))
        }
        None => Err(unknown(source, span, place)),
    }
}

fn unknown_provider(source: &Source, text: &Text) -> ConfigError {
    let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
    let near = nearest(&text.value, names.iter().copied());
    let all = || {
        format!(
            "known are {}; for another, write `issuer` or its endpoints",
            names.join(", ")
        )
    };
    let hint = near.map_or_else(all, |near| format!("did you mean `{near}`?"));
    let what = format!("unknown provider {}", quoted(&text.value));
    source.error(text.span, what).hint(hint)
}

fn unknown(source: &Source, span: Span, place: Level) -> ConfigError {
    let name = source.slice(span);
    if let Some((_, instead)) = RETIRED.iter().find(|(old, _)| *old == name) {
        return source
            .error(span, format!("`{name}` is retired"))
            .hint(*instead);
    }
    // Names that are right here come first, so that they win a tie.
    let (here, elsewhere): (Vec<_>, Vec<_>) = options().partition(|(_, level)| level.allows(place));
    let names = here.iter().chain(&elsewhere).map(|(known, _)| *known);
    let hint = nearest(name, names).map(|near| {
        let elsewhere = option(near).filter(|(_, level)| !level.allows(place));
        let aside = elsewhere.map(|(_, level)| format!(" ({})", level.place()));
        let aside = aside.unwrap_or_default();
        format!("did you mean `{near}`{aside}?")
    });
    source
        .error(span, format!("unknown option {}", quoted(name)))
        .maybe_hint(hint)
}
