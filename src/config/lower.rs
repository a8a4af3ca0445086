//! From what the grammar saw to what it means: [`Item`]s to [`Config`].

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use cfgrammar::Span;
use jiff::tz::TimeZone;
use url::Url;

use super::{
    Account, Client, ClientAuth, ClientSecret, Config, Header, Listen, Policy, Registration,
    TokenFile, TokenFormat,
    ast::{Block, Item, Setting},
    error::{ConfigError, Source, quoted},
    key,
    options::{Level, RESERVED_FIELDS, RESERVED_HEADERS, RESERVED_TOKEN_FIELDS},
    pitfalls, proxy,
    section::Section,
    socket,
    source::TokenSource,
    state,
    value::{self, Text, UriKind},
};
use crate::secret::Secret;
use crate::text::nearest;

/// How often a pending request is brought back to mind: often enough not to be forgotten, seldom
/// enough not to be a nuisance.
const AUTH_NOTIFY_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// When tokens are refreshed and the end of a sign-in is announced, unless the file says otherwise.
const POLICY: Policy = Policy {
    // Time to find a quiet minute for another sign-in.
    notice_before: Duration::from_secs(24 * 60 * 60),
    // Some providers take a session back that is quiet for longer.
    refresh_at_least: Duration::from_secs(90 * 60),
    // Time for one retry, and for a slow client.
    refresh_before_expiry: Duration::from_secs(90),
    // A network that comes back is noticed soon.
    refresh_retry: Duration::from_secs(40),
};
/// Where the browser is sent back to: any port of this machine (RFC 8252, 7.3).
const REDIRECT_URI: &str = "http://localhost/";

/// What spares the endpoints.
const ISSUER_INSTEAD: &str = "`provider` stands for the endpoints of a provider that is known, as in \
                              `provider = \"google\";`; for another, `issuer` may, if it has one";

/// The configuration that `items` mean, or the first thing that is wrong with them.
pub(super) fn lower(source: &Source, items: &[Item]) -> Result<Config, ConfigError> {
    let (settings, blocks) = split(items);
    let globals = Section::new(source, settings, Level::Global)?;
    let listeners = Listeners::new(&globals, &blocks)?;
    let Listeners([(_, http, _), (_, https, _)]) = &listeners;
    let mut warnings = listeners.warnings();
    warnings.extend(globals.warnings());
    let mut config = Config {
        auth_notify_cmd: globals.command("auth_notify_cmd")?,
        auth_notify_interval: globals
            .interval("auth_notify_interval")?
            .unwrap_or(AUTH_NOTIFY_INTERVAL),
        error_notify_cmd: globals.command("error_notify_cmd")?,
        notice_at: globals
            .time_of_day("notice_at")?
            .map(|time| (time, TimeZone::UTC)),
        startup_cmd: globals.command("startup_cmd")?,
        state_load_cmd: globals.command("state_load_cmd")?,
        state_save_cmd: globals.command("state_save_cmd")?,
        token_event_cmd: globals.command("token_event_cmd")?,
        transient_error_if_cmd: globals.command("transient_error_if_cmd")?,
        state_trial: None,
        http_listen: http.clone(),
        https_listen: https.clone(),
        accounts: Vec::new(),
        sockets: Vec::new(),
        proxies: Vec::new(),
        warnings: Vec::new(),
    };
    if let Some((line, [save, load, trial])) = kept(&globals)? {
        config.state_trial = Some((line, trial));
        config.state_load_cmd = Some(load);
        config.state_save_cmd = Some(save);
    }
    let mut lowering = Accounts {
        source,
        policy: globals.policy(POLICY)?,
        listeners: &listeners,
        names: HashMap::new(),
        mailboxes: HashMap::new(),
        token_files: HashMap::new(),
        uris: HashMap::new(),
        warnings: Vec::new(),
    };
    let is = |kind| move |block: &&Block| source.slice(block.kind) == kind;
    let (sockets, others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(is("socket"));
    let (proxies, accounts): (Vec<_>, Vec<_>) = others.into_iter().partition(is("proxy"));
    for block in accounts {
        config.accounts.push(lowering.account(block)?);
    }
    if config.accounts.is_empty() {
        let error = ConfigError::of_file(source.file, "no account is configured");
        return Err(error.hint("add one: account \"name\" { … }"));
    }
    config.sockets = socket::sockets(source, &sockets, &config.accounts)?;
    config.proxies = proxy::proxies(source, &proxies, &config, &mut warnings)?;
    warnings.append(&mut lowering.warnings);
    config.warnings = in_file_order(source, warnings);
    Ok(config)
}

/// What `state` stands for, instead of the two commands.
fn kept(globals: &Section) -> Result<Option<(usize, [String; 3])>, ConfigError> {
    let Some(text) = globals.filled("state")? else {
        return Ok(None);
    };
    let both = ["state_load_cmd", "state_save_cmd"];
    if let Some(other) = both.into_iter().find(|it| globals.value(it).is_some()) {
        let what = format!("`state` and `{other}` can't both be set");
        return Err(globals.source.error(text.span, what));
    }
    let commands = state::commands(&text.value).ok_or_else(|| {
        let what = format!("`state` takes one of {}", state::keepers().join(", "));
        let error = globals.source.error(text.span, what);
        error
            .hint("a place may follow a colon, as in \"age:~/tokens.age\" or \"pass:mail/pizauth\"")
    })?;
    Ok(Some((globals.source.line(text.span), commands)))
}

fn split(items: &[Item]) -> (Vec<&Setting>, Vec<&Block>) {
    let (mut settings, mut blocks) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Item::Setting(setting) => settings.push(setting),
            Item::Block(block) => blocks.push(block),
        }
    }
    (settings, blocks)
}

/// Something that works but should be changed, and where.
pub(super) type Warning = (Span, String);

/// The warnings as lines. One walk through the file finds all their line numbers.
fn in_file_order(source: &Source, mut warnings: Vec<Warning>) -> Vec<String> {
    warnings.sort_by_key(|(span, _)| span.start());
    let file = source.shown_file();
    let (mut line, mut seen) = (1, 0);
    let mut lines = Vec::with_capacity(warnings.len());
    for (span, text) in warnings {
        let passed = source.slice(Span::new(seen, span.start().max(seen)));
        line += passed.matches('\n').count();
        seen = span.start();
        lines.push(format!("{file}:{line}: {text}"));
    }
    lines
}

/// Both listeners: the option for http and the one for https, what they say, and where the file does.
struct Listeners([(&'static str, Listen, Option<Span>); 2]);

impl Listeners {
    fn new(globals: &Section, blocks: &[&Block]) -> Result<Self, ConfigError> {
        let registered = |option: &str| {
            blocks.iter().find_map(|block| {
                let named = |it: &Setting| globals.source.slice(it.name) == "provider";
                block.settings.iter().any(named).then_some(())?;
                let section = Section::new(globals.source, &block.settings, Level::Account).ok()?;
                section.registered_listener(option)
            })
        };
        let listener = |name| {
            let span = globals.value(name).map(|value| value.span);
            Ok((name, globals.listen(name, registered)?, span))
        };
        let both = [listener("http_listen")?, listener("https_listen")?];
        let [(_, http, http_span), (_, https, https_span)] = &both;
        let spans = [http_span, https_span].into_iter().flatten();
        let later = spans.max_by_key(|span| span.start());
        match (http, https, later) {
            (Listen::None, Listen::None, Some(later)) => {
                let what = "`http_listen` and `https_listen` can't both be `none`";
                Err(globals.source.error(*later, what))
            }
            (http @ Listen::On { port, .. }, https, Some(later)) if http == https && *port > 0 => {
                let what = "`http_listen` and `https_listen` can't share one port";
                Err(globals.source.error(*later, what))
            }
            _ => Ok(Listeners(both)),
        }
    }

    /// The listener for redirects to `uri`, and the option that it is set by.
    fn of(&self, uri: &Url) -> (&'static str, &Listen) {
        let [http, https] = &self.0;
        let (option, listen, _) = if uri.scheme() == "https" { https } else { http };
        (option, listen)
    }

    fn warnings(&self) -> Vec<Warning> {
        let warning = |(name, listen, span): &(&str, Listen, Option<Span>)| match (listen, span) {
            (Listen::On { host, .. }, Some(span)) if !value::is_loopback_host(host) => Some((
                *span,
                format!("`{name}` can be reached from other machines"),
            )),
            _ => None,
        };
        self.0.iter().filter_map(warning).collect()
    }
}

/// An account's registration, device authorization endpoint and pasted redirect.
type Endpoints = (Registration, Option<Arc<Url>>, Option<Arc<str>>);

/// Turns blocks into accounts, one after the other.
struct Accounts<'s, 'a> {
    source: &'s Source<'a>,
    /// What accounts that set no times of their own go by.
    policy: Policy,
    listeners: &'s Listeners,
    /// The accounts so far, and where their names stand.
    names: HashMap<Cow<'a, str>, Span>,
    /// Provider, user and scopes of the accounts so far, and their names.
    mailboxes: HashMap<(Option<String>, String, Vec<String>), Arc<str>>,
    /// The token files so far, and where they stand.
    token_files: HashMap<Cow<'a, str>, Span>,
    /// The addresses so far: many accounts are of few providers.
    uris: HashMap<(Cow<'a, str>, UriKind), Arc<Url>>,
    warnings: Vec<Warning>,
}

impl<'a> Accounts<'_, 'a> {
    fn account(&mut self, block: &Block) -> Result<Account, ConfigError> {
        let name = self.name(block)?;
        let section = Section::new(self.source, &block.settings, Level::Account)?;
        let all = self;
        Lowering { all, section, name }.account()
    }

    /// Warns of a second account for one mailbox: one serves all programs.
    fn one_mailbox(&mut self, account: &Account, place: Span) {
        let registration = &account.registration;
        let fields = &registration.auth_uri_fields;
        let Some((_, user)) = fields.iter().find(|(key, _)| key == "login_hint") else {
            return;
        };
        let host = registration.provider_host();
        let key = (host, user.to_ascii_lowercase(), registration.scopes.clone());
        match self.mailboxes.get(&key) {
            None => drop(self.mailboxes.insert(key, account.name.clone())),
            Some(first) => {
                let what = format!(
                    "the account {} is for this mailbox, too: write another address, or leave one out",
                    quoted(first)
                );
                self.warnings.push((place, what));
            }
        }
    }

    /// The name of an account, which no account before it has.
    fn name(&mut self, block: &Block) -> Result<Text<'a>, ConfigError> {
        let kind = self.source.slice(block.kind);
        if kind != "account" {
            let what = format!("unknown block {}", quoted(kind));
            let near = nearest(kind, ["account", "proxy", "socket"]);
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            return Err(self.source.error(block.kind, what).maybe_hint(hint));
        }
        let name = value::string(self.source, block.name)?;
        if name.value.is_empty() {
            return Err(self
                .source
                .error(name.span, "an account's name can't be empty"));
        }
        // Line separators too: every account has one line in `status`.
        if name
            .value
            .contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
        {
            let what = "an account's name can't hold control characters";
            return Err(self.source.error(name.span, what));
        }
        let what = || format!("there are two accounts {}", quoted(&name.value));
        value::once(self.source, &mut self.names, &name, what)?;
        Ok(name)
    }

    /// A usable URI for `option`, which is another account's if that has the same.
    fn uri(
        &mut self,
        option: &str,
        text: &Text<'a>,
        kind: UriKind,
    ) -> Result<Arc<Url>, ConfigError> {
        let key = (text.value.clone(), kind);
        if let Some(known) = self.uris.get(&key) {
            return Ok(known.clone());
        }
        let uri = Arc::new(value::uri(self.source, option, text, kind)?);
        self.uris.insert(key, uri.clone());
        Ok(uri)
    }
}

/// Turns one block into an account.
struct Lowering<'l, 's, 'a> {
    all: &'l mut Accounts<'s, 'a>,
    section: Section<'l, 'a>,
    name: Text<'a>,
}

impl<'a> Lowering<'_, '_, 'a> {
    fn account(&mut self) -> Result<Account, ConfigError> {
        let (registration, device_auth_uri, pasted_redirect) = self.registration()?;
        let token_file = self.token_file(&registration)?;
        self.all.warnings.extend(self.section.warnings());
        let account = Account {
            name: Arc::from(&*self.name.value),
            client: Arc::new(self.client(&registration.source)?),
            registration: Arc::new(registration),
            device_auth_uri,
            revocation_uri: self.endpoint("revocation_uri")?,
            pasted_redirect,
            policy: self.section.policy(self.all.policy)?,
            token_file: token_file.map(Arc::new),
        };
        let found = pitfalls::of(&self.section, self.name.span, &account);
        self.all.warnings.extend(found);
        self.all.one_mailbox(&account, self.name.span);
        Ok(account)
    }

    fn error(&self, span: Span, what: impl Into<String>) -> ConfigError {
        self.section.source.error(span, what)
    }

    /// To whom the account's tokens belong, and what isn't part of it. The endpoints that an issuer
    /// doesn't make superfluous must be there.
    fn registration(&mut self) -> Result<Endpoints, ConfigError> {
        let issuer = self.section.filled("issuer")?;
        let issuer = issuer.map(|text| value::issuer(self.section.source, "issuer", &text));
        let issuer = issuer.transpose()?;
        let source = TokenSource::of(&self.section)?;
        let device_auth_uri = self.endpoint("device_auth_uri")?;
        if issuer.is_none() && source.is_provider() {
            if device_auth_uri.is_none() && source.is_person() {
                self.required("auth_uri")
                    .map_err(|error| error.hint(ISSUER_INSTEAD))?;
            }
            self.required("token_uri")
                .map_err(|error| error.hint(ISSUER_INSTEAD))?;
        }
        let client_id = match source.has_client_id() {
            true => self.required("client_id")?.value,
            false => Cow::Borrowed(""),
        };
        let auth_uri = self.endpoint("auth_uri")?;
        let by_browser = source.is_person() && (auth_uri.is_some() || issuer.is_some());
        let (redirect_uri, pasted_redirect) = self.redirect_uri(by_browser)?;
        let mut auth_uri_fields = self.auth_uri_fields()?;
        let mut token_uri_fields = self.fields("token_uri_fields", RESERVED_TOKEN_FIELDS)?;
        if let Some(resource) = self.resource()? {
            for fields in [&mut auth_uri_fields, &mut token_uri_fields] {
                fields.push(("resource".into(), resource.clone()));
            }
        }
        let registration = Registration {
            source,
            issuer: issuer.map(Arc::from),
            redirect_uri,
            auth_uri,
            token_uri: self.endpoint("token_uri")?,
            client_id: client_id.into_owned(),
            scopes: self.section.scopes()?,
            auth_uri_fields,
            token_uri_fields,
        };
        Ok((registration, device_auth_uri, pasted_redirect))
    }

    /// What the tokens are for, which every request for them says (RFC 8707, 2).
    fn resource(&self) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.section.filled("resource")? else {
            return Ok(None);
        };
        match Url::parse(&text.value) {
            Ok(url) if url.fragment().is_none() => Ok(Some(text.value.into_owned())),
            Ok(_) => Err(self.error(text.span, "`resource` has a fragment")),
            Err(_) => Err(self.error(text.span, "`resource` is no absolute URI")),
        }
    }

    /// Where the access token is written to: no two accounts may share a file.
    fn token_file(
        &mut self,
        registration: &Registration,
    ) -> Result<Option<TokenFile>, ConfigError> {
        let formats = ["raw", "json", "xoauth2"].map(|it| (it, it));
        let format = self.section.word("token_file_format", &formats)?;
        let Some(path) = self.section.file("token_file")? else {
            return match format {
                None => Ok(None),
                Some((_, span)) => {
                    let what = "`token_file_format` without `token_file`";
                    Err(self.error(span, what))
                }
            };
        };
        let (source, files) = (self.section.source, &mut self.all.token_files);
        let twice = || "two accounts have this `token_file`".into();
        value::once(source, files, &path, twice)?;
        let user = registration.auth_uri_fields.iter().rev();
        let user = user.clone().find(|(key, _)| key == "login_hint");
        let format = match (format, user) {
            (None | Some(("raw", _)), _) => TokenFormat::Raw,
            (Some(("xoauth2", _)), Some((_, user))) => TokenFormat::Xoauth2 { user: user.clone() },
            (Some(("xoauth2", span)), None) => {
                let what = "`token_file_format = xoauth2` needs to know the user";
                let error = self.error(span, what);
                return Err(error.hint("add `auth_uri_fields = { \"login_hint\": \"…\" };`"));
            }
            (Some(_), _) => TokenFormat::Json,
        };
        let path = Arc::from(&*path.value);
        Ok(Some(TokenFile { path, format }))
    }

    fn required(&self, option: &str) -> Result<Text<'a>, ConfigError> {
        self.section.filled(option)?.ok_or_else(|| {
            let what = format!("account {} has no `{option}`", quoted(&self.name.value));
            self.error(self.name.span, what)
        })
    }

    /// An endpoint of the provider that need not be there.
    fn endpoint(&mut self, option: &str) -> Result<Option<Arc<Url>>, ConfigError> {
        let kind = match self.section.flag("allow_http")? {
            true => UriKind::PlainProvider,
            false => UriKind::Provider,
        };
        let Some(text) = self.section.filled(option)? else {
            return Ok(None);
        };
        let uri = self.all.uri(option, &text, kind)?;
        if value::is_plain(&uri) {
            let what = format!("`{option}` has no TLS: on the way, others can read the tokens");
            self.all.warnings.push((text.span, what));
        }
        Ok(Some(uri))
    }

    /// The redirection endpoint, and its text where nothing can listen for it. There must be a
    /// listener for one on this machine, if it is used.
    fn redirect_uri(&mut self, used: bool) -> Result<(Arc<Url>, Option<Arc<str>>), ConfigError> {
        let written = self.section.string("redirect_uri")?;
        let text = written.clone().unwrap_or(Text {
            value: REDIRECT_URI.into(),
            span: self.name.span,
        });
        let uri = self.all.uri("redirect_uri", &text, UriKind::Redirect)?;
        let is_web = matches!(uri.scheme(), "http" | "https");
        // The browser hands a private-use one to a program: no listener is asked.
        if !used || (!is_web && uri.scheme() != "urn") {
            return Ok((uri, None));
        }
        let (option, listen) = self.all.listeners.of(&uri);
        let is_heard = matches!(listen, Listen::On { host, .. } if value::hears(host, &uri));
        if !(is_web && is_heard || value::is_loopback(&uri)) {
            if uri.scheme() == "http" {
                let what = "`redirect_uri` isn't on this machine: the address that the browser ends \
                            at is for `pizauth redirect`";
                self.all.warnings.push((text.span, what.into()));
            }
            return Ok((uri, Some(Arc::from(&*text.value))));
        }
        let subject = || match written {
            Some(_) => "`redirect_uri`".into(),
            None => format!(
                "account {} with its default `redirect_uri`",
                quoted(&self.name.value)
            ),
        };
        let Listen::On { port, .. } = listen else {
            let what = format!("{} needs `{option}`, which is `none`", subject());
            return Err(self.error(text.span, what));
        };
        if !is_heard {
            let what = format!(
                "{} is on an address where `{option}` doesn't listen",
                subject()
            );
            let hint = "another program could listen there: the two must have the same address";
            return Err(self.error(text.span, what).hint(hint));
        }
        if let Some(named) = uri.port().filter(|named| named != port) {
            let what = format!(
                "the port {named} of `redirect_uri` gives way to the port of `{option}`; \
                 to listen on {named}, put it there"
            );
            self.all.warnings.push((text.span, what));
        }
        Ok((uri, None))
    }

    /// How the client proves who it is: a method and a secret that go together.
    fn client(&self, source: &TokenSource) -> Result<Client, ConfigError> {
        if let Some(command) = key::command(&self.section, source)? {
            return Ok(Client {
                auth: Some(ClientAuth::PrivateKeyJwt),
                secret: ClientSecret::Command(command),
                headers: self.headers()?,
            });
        }
        let secret = match (
            self.section.lines("client_secret")?,
            self.section.filled_command("client_secret_cmd")?,
        ) {
            (None, None) => ClientSecret::None,
            (Some(text), None) => {
                ClientSecret::Given(Arc::new(Secret::new(text.value.into_owned())))
            }
            (None, Some(command)) => ClientSecret::Command(command.value.into_owned()),
            (Some(_), Some(command)) => {
                let place = self.section.place("client_secret_cmd", command.span);
                let what = "`client_secret` and `client_secret_cmd` can't both be set";
                return Err(self.error(place, what));
            }
        };
        let auth = self.section.word("client_auth", &ClientAuth::ALL)?;
        let none = secret == ClientSecret::None;
        let unfit = auth.filter(|(auth, _)| none != (*auth == ClientAuth::None));
        if let Some((_, span)) = unfit {
            let what = if none {
                "`client_auth` needs a `client_secret` or a `client_secret_cmd`"
            } else {
                "`client_auth` says that there is no secret, but one is set"
            };
            return Err(self.error(span, what));
        }
        if none && auth.is_none() {
            source.check_secret(&self.section)?;
        }
        Ok(Client {
            auth: auth.map(|(auth, _)| auth),
            secret,
            headers: self.headers()?,
        })
    }

    /// Further headers of token requests.
    fn headers(&self) -> Result<Vec<Header>, ConfigError> {
        let mut headers: Vec<Header> = Vec::new();
        for (name, value) in self.section.fields("token_uri_headers")? {
            let is = |other: &str| other.eq_ignore_ascii_case(&name.value);
            let fault = if !value::is_header_name(&name.value) {
                "isn't a name that a header can have"
            } else if RESERVED_HEADERS.split(' ').any(is) {
                "is pizauth's own to set"
            } else if headers.iter().any(|header| is(&header.name)) {
                "is there twice"
            } else if !value::is_header_value(&value.value) {
                "has a value that no header can have"
            } else {
                headers.push(Header {
                    name: name.value.into_owned(),
                    value: Arc::new(Secret::new(value.value.into_owned())),
                });
                continue;
            };
            let what = format!("the header {} {fault}", quoted(&name.value));
            return Err(self.error(name.span, what));
        }
        Ok(headers)
    }

    /// Further parameters of a request, none of them in `reserved`.
    fn fields(&self, option: &str, reserved: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let mut fields = Vec::new();
        for (key, value) in self.section.fields(option)? {
            if key.value.is_empty() {
                return Err(self.error(key.span, "a field's key can't be empty"));
            }
            if reserved.split(' ').any(|it| it == key.value) {
                let what = format!("{} is pizauth's own to set", quoted(&key.value));
                let hint = format!("leave it out of `{option}`");
                return Err(self.error(key.span, what).hint(hint));
            }
            fields.push((key.value.into_owned(), value.value.into_owned()));
        }
        Ok(fields)
    }

    /// Further parameters of the authorization request, with `login_hint` as the last.
    fn auth_uri_fields(&mut self) -> Result<Vec<(String, String)>, ConfigError> {
        let mut fields = self.fields("auth_uri_fields", RESERVED_FIELDS)?;
        let preset = self.section.provider().into_iter();
        let preset = preset.flat_map(|it| &it.auth_fields);
        let preset = preset.map(|(key, value)| (key.to_string(), value.to_string()));
        let address = self.section.filled("address")?;
        let hint = address
            .filter(|_| self.section.value("login_hint").is_none())
            .map(|text| ("login_hint".to_owned(), text.value.into_owned()));
        // What is written counts more.
        let mut all: Vec<_> = hint.into_iter().chain(preset).collect();
        all.retain(|(key, _)| fields.iter().all(|(own, _)| own != key));
        all.append(&mut fields);
        let mut fields = all;
        let Some(login) = self.section.string("login_hint")? else {
            return Ok(fields);
        };
        let place = self.section.place("login_hint", login.span);
        if fields.iter().any(|(key, _)| key == "login_hint") {
            let what = "`login_hint` is also in `auth_uri_fields`";
            let hint = "this option is deprecated: leave it out";
            return Err(self.error(place, what).hint(hint));
        }
        let what =
            "`login_hint` is deprecated: write `auth_uri_fields = { \"login_hint\": \"…\" };`";
        self.all.warnings.push((place, what.into()));
        fields.push(("login_hint".into(), login.value.into_owned()));
        Ok(fields)
    }
}
