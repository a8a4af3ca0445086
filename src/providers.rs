//! What is known about providers: endpoints, scopes, mail servers, and where a client id comes from.
//! Facts only, in one table: `setup` prints them, `test` looks servers up, and a config that names a
//! `provider` uses its endpoints, scopes, redirect URI and fields. Changing one of those signs the
//! users of that preset out: tests/config/good-providers.ok shows that it did, and CHANGES.md has to.

use std::sync::LazyLock;

use serde::Deserialize;

/// A provider.
#[derive(Debug, Deserialize)]
pub struct Provider {
    /// One word, for the command line and as the account's name.
    pub name: &'static str,
    /// Other words for it.
    #[serde(default)]
    pub aliases: Vec<&'static str>,
    /// As people call it.
    pub title: &'static str,
    /// The authorization endpoint.
    pub auth_uri: &'static str,
    /// The token endpoint.
    pub token_uri: &'static str,
    /// Further hosts of its endpoints, in older configurations.
    #[serde(default)]
    pub hosts: Vec<&'static str>,
    /// The device authorization endpoint, if it grants these scopes.
    pub device_auth_uri: Option<&'static str>,
    /// The revocation endpoint.
    pub revocation_uri: Option<&'static str>,
    /// What to ask for.
    #[serde(default)]
    pub scopes: Vec<(&'static str, Purpose)>,
    /// Where it sends the browser back to.
    pub redirect_uri: &'static str,
    /// A fixed address to listen on, where the registration must have the port.
    pub listen: Option<&'static str>,
    /// Further parameters of the authorization request, beside `login_hint`.
    #[serde(default)]
    pub auth_fields: Vec<(&'static str, &'static str)>,
    /// Whether clients have a secret.
    pub secret: SecretUse,
    /// Its IMAP server, as a URL.
    pub imap: Option<&'static str>,
    /// Its POP3 server.
    pub pop3: Option<&'static str>,
    /// Its SMTP server.
    pub smtp: Option<&'static str>,
    /// It takes OAUTHBEARER, too; all take XOAUTH2.
    #[serde(default)]
    pub oauthbearer: bool,
    /// Its server for git, if that takes tokens.
    pub git: Option<&'static str>,
    /// Which texts its notes are, see [`Provider::notes`].
    notes: Vec<&'static str>,
    /// The page where that begins.
    pub page: Option<&'static str>,
    /// The issuer at which programs register themselves (RFC 7591), where that is open to all.
    pub registers_at: Option<&'static str>,
}

/// What a scope is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Reading by IMAP.
    Imap,
    /// Reading by POP3.
    Pop3,
    /// Sending.
    Smtp,
    /// Reading and sending, by any protocol.
    Mail,
    /// A refresh token.
    Offline,
    /// Something else than mail.
    Other,
}

/// Whether a client of this provider has a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretUse {
    /// It must not have one.
    Never,
    /// Some kinds of clients do.
    Sometimes,
    /// The provider insists on it.
    Always,
}

/// Every provider that is known; of those with a host in common, the likelier is first. They are data:
/// `providers/table.json`, where `why_…` says what is odd about a member.
pub static PROVIDERS: LazyLock<Vec<Provider>> =
    LazyLock::new(|| serde_json::from_str(TABLE).unwrap_or_default());

/// See [`PROVIDERS`]; a test reads it.
const TABLE: &str = include_str!("providers/table.json");

/// Whose which domains are, as the public lists of autoconfig data had them in March 2026.
const DOMAINS: &str = include_str!("providers/domains.txt");

/// Providers of mail that know no OAuth2 for it: their names, what they take instead, and domains.
const WITHOUT: &str = include_str!("providers/without.txt");

/// The texts that [`Provider::notes`] names, a paragraph a line.
const NOTES: &str = include_str!("providers/notes.txt");

impl Provider {
    /// The one whose endpoint has this host; the user's address tells apart those that share it.
    pub fn at(host: &str, user: Option<&str>) -> Option<&'static Provider> {
        let has_host = |provider: &&Provider| {
            let own = provider.token_uri.strip_prefix("https://");
            let rest = own.and_then(|own| own.strip_prefix(host));
            rest.is_some_and(|rest| rest.starts_with('/')) || provider.hosts.contains(&host)
        };
        let mut same = PROVIDERS.iter().filter(has_host);
        let domain = user.and_then(|user| Some(user.rsplit_once('@')?.1));
        let serves = |it: &&Provider| domain.is_some_and(|domain| it.serves(domain));
        let theirs = same.clone().find(serves);
        theirs.or_else(|| same.next())
    }

    /// How to get a client id, step by step, and what else has to be known: a paragraph a line. What
    /// could not be tried or read at the provider begins with "Not verified".
    pub fn notes(&self) -> impl Iterator<Item = &'static str> {
        let named = self.notes.iter();
        named.flat_map(|name| NOTES.lines().filter_map(move |line| noted(line, name)))
    }

    /// The option that says where its redirects are listened for.
    pub fn listener(&self) -> &'static str {
        match self.redirect_uri.starts_with("https:") {
            true => "https_listen",
            false => "http_listen",
        }
    }

    /// The one that goes by this word.
    pub fn named(word: &str) -> Option<&'static Provider> {
        let is = |name: &str| name.eq_ignore_ascii_case(word);
        PROVIDERS
            .iter()
            .find(|it| is(it.name) || it.aliases.iter().any(|alias| is(alias)))
    }

    /// The one with mail addresses in this domain, or with this host for incoming mail.
    pub fn of_domain(domain: &str) -> Option<&'static Provider> {
        PROVIDERS.iter().find(|provider| provider.serves(domain))
    }

    /// The one whose mail server has this name.
    pub fn of_server(host: &str) -> Option<&'static Provider> {
        PROVIDERS.iter().find(|provider| provider.has_server(host))
    }

    /// Whether a mail server of its own has this name.
    pub fn has_server(&self, host: &str) -> bool {
        let servers = [self.imap, self.pop3, self.smtp].into_iter().flatten();
        let mut hosts = servers.filter_map(|url| url.split("://").nth(1));
        hosts.any(|it| it == host)
    }

    /// The domains of its mail addresses, and of the servers that take its mail.
    fn domains(&self) -> impl Iterator<Item = &'static str> {
        let lines = DOMAINS.lines().filter_map(|line| line.split_once(' '));
        let own = lines.filter(|(whose, _)| *whose == self.name);
        own.flat_map(|(_, domains)| domains.split(' '))
    }

    /// Whether this domain is its own, or below one of its own.
    fn serves(&self, domain: &str) -> bool {
        self.domains().any(|own| is_within(domain, own))
    }

    /// The scope that is needed for `purpose`, or for all mail.
    pub fn scope_for(&self, purpose: Purpose) -> Option<&'static str> {
        let serves = |(_, own): &&(&str, Purpose)| *own == purpose || *own == Purpose::Mail;
        self.scopes.iter().find(serves).map(|(scope, _)| *scope)
    }

    /// The servers to which a token with `scopes` is of use, as URLs. POP3's is among them only when
    /// there is a scope for it alone: most mailboxes have it switched off.
    pub fn servers(&self, scopes: &[String]) -> Vec<&'static str> {
        let granted = |purpose: Purpose| {
            let scope = self.scope_for(purpose);
            scope.is_some_and(|scope| grants(scopes, scope))
        };
        let all = [
            (self.imap, Purpose::Imap),
            (self.pop3, Purpose::Pop3),
            (self.smtp, Purpose::Smtp),
        ];
        let useful = all.iter().filter(|(_, purpose)| {
            let own = self.scopes.iter().any(|(_, own)| own == purpose);
            granted(*purpose) && (own || *purpose != Purpose::Pop3)
        });
        let servers: Vec<&str> = useful.filter_map(|(server, _)| *server).collect();
        if servers.is_empty() {
            // Whatever the scopes are called in this configuration.
            self.imap.into_iter().chain(self.smtp).collect()
        } else {
            servers
        }
    }
}

/// The name of a provider with mail addresses in this domain, or with this host for incoming mail, that
/// knows no OAuth2 for mail programs, and what it takes instead.
pub fn without_oauth(domain: &str) -> Option<(&'static str, &'static str)> {
    WITHOUT.lines().find_map(|line| {
        let (name, rest) = line.split_once(": ")?;
        let (instead, domains) = rest.split_once(": ")?;
        let is_its = domains.split(' ').any(|own| is_within(domain, own));
        is_its.then_some((name, instead))
    })
}

/// The paragraph, if it is in the text of this name.
fn noted<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix(": ")
}

/// Whether `domain` is `own`, or below it.
fn is_within(domain: &str, own: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    let below = domain.strip_suffix(own);
    below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
}

/// Whether `scope` is among `scopes`. Of a URL the last part counts: Microsoft has more than one
/// host for the same.
pub fn grants(scopes: &[String], scope: &str) -> bool {
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    scopes
        .iter()
        .any(|own| own == scope || (!last(scope).is_empty() && last(own) == last(scope)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_provider_is_found_by_host_name_and_domain() {
        let name = |provider: Option<&Provider>| provider.map(|it| it.name);
        let microsoft = "login.microsoftonline.com";
        for (host, user, found) in [
            (microsoft, None, Some("microsoft")),
            (microsoft, Some("me@work.example"), Some("microsoft")),
            (microsoft, Some("me@Hotmail.com"), Some("outlook")),
            (
                "oauth2.googleapis.com",
                Some("me@work.example"),
                Some("google"),
            ),
            ("accounts.google.com", None, Some("google")),
            ("google.com", None, None),
            ("127.0.0.1", Some("me@gmail.com"), None),
        ] {
            assert_eq!(name(Provider::at(host, user)), found, "{host} {user:?}");
        }
        assert_eq!(name(Provider::named("Gmail")), Some("google"));
        assert_eq!(name(Provider::named("nobody")), None);
        assert_eq!(name(Provider::of_server("imap.gmail.com")), Some("google"));
        assert_eq!(
            name(Provider::of_server("smtp-mail.outlook.com")),
            Some("outlook")
        );
        assert_eq!(name(Provider::of_server("gmail.com")), None);
        for (domain, found) in [
            ("gmail.com", Some("google")),
            ("x.onmicrosoft.com", Some("microsoft")),
            ("hotmail.co.uk", Some("outlook")),
            ("live.nl", Some("outlook")),
            ("yahoo.fr", Some("yahoo")),
            ("yahoo.co.jp", None),
            ("aol.de", Some("aol")),
            ("verizon.net", Some("aol")),
            ("att.net", Some("att")),
            ("corp.mail.ru", Some("mailru")),
            (
                "work-example.mail.protection.outlook.com",
                Some("microsoft"),
            ),
            ("hotmail-com.olc.protection.outlook.com", Some("outlook")),
            ("aspmx.l.google.com", Some("google")),
            ("in1-smtp.messagingengine.com", Some("fastmail")),
            ("work-example.a-v1.mx.microsoft", Some("microsoft")),
            ("aspmx2.googlemail.com", Some("google")),
            ("SMTP.Google.com", Some("google")),
            ("mx.yandex.net", Some("yandex")),
            ("emx.mail.ru", Some("mailru")),
            ("mta5.am0.yahoodns.net", Some("yahoo")),
            ("notgmail.com", None),
            ("example.com", None),
        ] {
            assert_eq!(name(Provider::of_domain(domain)), found, "{domain}");
        }
        for (domain, found) in [
            ("icloud.com", Some("Apple iCloud")),
            ("mx01.mail.icloud.com", Some("Apple iCloud")),
            ("mx2.zoho.eu", Some("Zoho Mail")),
            ("mail.protonmail.ch", Some("Proton")),
            ("mx00.kundenserver.de", Some("1&1 and IONOS")),
            ("notposteo.de", None),
        ] {
            let known = without_oauth(domain);
            assert_eq!(known.map(|(name, _)| name), found, "{domain}");
        }
    }

    #[test]
    fn a_token_is_of_use_where_its_scopes_say() {
        let imap = "https://outlook.office.com/IMAP.AccessAsUser.All";
        let other_host = "https://outlook.office365.com/IMAP.AccessAsUser.All";
        let microsoft = Provider::named("microsoft").unwrap();
        let google = Provider::named("google").unwrap();
        let all: Vec<String> = (microsoft.scopes)
            .iter()
            .map(|(it, _)| (*it).into())
            .collect();
        let (read, fetch, send) = (
            "imaps://outlook.office365.com",
            "pop3s://outlook.office365.com",
            "smtp://smtp.office365.com",
        );
        assert_eq!(microsoft.servers(&all), [read, fetch, send]);
        assert_eq!(microsoft.servers(&scopes(&[imap])), [read]);
        assert_eq!(microsoft.servers(&scopes(&[other_host])), [read]);
        assert_eq!(microsoft.servers(&scopes(&["openid"])), [read, send]);
        let mail = scopes(&["https://mail.google.com/"]);
        assert_eq!(
            google.servers(&mail),
            ["imaps://imap.gmail.com", "smtps://smtp.gmail.com"]
        );
        assert!(!grants(
            &scopes(&["https://other.example/"]),
            "https://mail.google.com/"
        ));
    }

    #[test]
    fn the_table_contradicts_nothing() {
        let read: Result<Vec<Provider>, _> = serde_json::from_str(TABLE);
        assert!(!read.unwrap().is_empty());
        let mut words: Vec<&str> = Vec::new();
        let mut domains: Vec<&str> = Vec::new();
        for provider in PROVIDERS.iter() {
            words.push(provider.name);
            words.extend(&provider.aliases);
            domains.extend(provider.domains());
            for uri in [provider.auth_uri, provider.token_uri]
                .into_iter()
                .chain(provider.device_auth_uri)
                .chain(provider.revocation_uri)
            {
                assert!(
                    uri.starts_with("https://") && url::Url::parse(uri).is_ok(),
                    "{uri}"
                );
            }
            let https = provider.redirect_uri.starts_with("https:");
            assert!(!https || provider.listen.is_some(), "{}", provider.name);
            let named = |name: &&str| NOTES.lines().any(|line| noted(line, name).is_some());
            assert!(provider.notes.iter().all(named), "{}", provider.name);
            assert!(provider.notes().next().is_some(), "{}", provider.name);
            for server in [provider.imap, provider.pop3, provider.smtp]
                .iter()
                .flatten()
            {
                assert!(crate::mail::Server::parse(server).is_ok(), "{server}");
            }
        }
        for line in WITHOUT.lines() {
            let own: Vec<&str> = line.rsplit_once(": ").unwrap().1.split(' ').collect();
            assert!(without_oauth(own[0]).is_some(), "{line}");
            domains.extend(own);
        }
        for mut list in [words, domains] {
            let count = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), count);
        }
    }
}
