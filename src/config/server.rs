//! Which server, and how to talk to it: a URL.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The language of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 9051.
    Imap,
    /// RFC 1939.
    Pop3,
    /// Submission, RFC 6409.
    Smtp,
    /// RFC 2812, with IRCv3's capability negotiation and SASL.
    Irc,
}

/// When TLS begins. Without it no token is sent, except over the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// With the connection.
    AtOnce,
    /// When the server has offered it (STARTTLS, STLS).
    OnDemand,
}

/// The server that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its language.
    pub protocol: Protocol,
    /// When TLS begins.
    pub tls: Tls,
    /// Its name or address, an IPv6 one without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// The user to sign in as, if the URL has one.
    pub user: Option<String>,
}

/// Schemes, what they mean, and the port that goes without saying (RFC 8314, 3; RFC 6409, 3.1; RFC
/// 7194). Nothing has TLS on demand in IRC, so that `irc` leads to loopback addresses only.
const SCHEMES: [(&str, Protocol, Tls, u16); 10] = [
    ("imaps", Protocol::Imap, Tls::AtOnce, 993),
    ("imap", Protocol::Imap, Tls::OnDemand, 143),
    ("pop3s", Protocol::Pop3, Tls::AtOnce, 995),
    ("pop3", Protocol::Pop3, Tls::OnDemand, 110),
    ("smtps", Protocol::Smtp, Tls::AtOnce, 465),
    ("smtp", Protocol::Smtp, Tls::OnDemand, 587),
    ("submissions", Protocol::Smtp, Tls::AtOnce, 465),
    ("submission", Protocol::Smtp, Tls::OnDemand, 587),
    ("ircs", Protocol::Irc, Tls::AtOnce, 6697),
    ("irc", Protocol::Irc, Tls::OnDemand, 6667),
];

impl Server {
    /// Reads a URL such as `imaps://mail.example.com` or `smtp://me%40example.com@mail.example.com:587`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it: it may have a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let scheme = SCHEMES.iter().find(|(name, ..)| *name == url.scheme());
        let Some(&(_, protocol, tls, port)) = scheme else {
            let names: Vec<&str> = SCHEMES.iter().map(|(name, ..)| *name).collect();
            return Err(format!("its scheme is none of {}", names.join(", ")));
        };
        let host = match url.host() {
            // Of schemes that aren't the web's, the host is taken as it is written.
            Some(Host::Domain(name)) if is_name(name) => name.to_ascii_lowercase(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err("it names no host".into()),
        };
        if url.password().is_some() {
            return Err("it has a password".into());
        }
        let user = percent_decode_str(url.username()).decode_utf8().ok();
        let user = user.filter(|user| !user.contains(char::is_control));
        let user = user.ok_or("its user has characters that no user has")?;
        Ok(Server {
            protocol,
            tls,
            host,
            port: url.port().unwrap_or(port),
            user: Some(user.into_owned()).filter(|user| !user.is_empty()),
        })
    }
}

/// Whether a server can have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !name.is_empty() && name.chars().all(fits)
}

impl Server {
    /// Who signs in here: whom the command or the configuration names, or the URL, or else the account.
    /// That one's name is an address, which is no name in IRC, where the token alone says who it is.
    pub fn user<'a>(&'a self, named: Option<&'a str>, hint: Option<&'a str>) -> Option<&'a str> {
        let hint = hint.filter(|_| self.protocol != Protocol::Irc);
        named.or(self.user.as_deref()).or(hint)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = SCHEMES
            .iter()
            .find(|(_, protocol, tls, _)| *protocol == self.protocol && *tls == self.tls)
            .map_or("", |(name, ..)| name);
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_all_that_is_needed() {
        for (url, shown, user) in [
            ("imaps://mail.example", "imaps://mail.example:993", None),
            ("imap://Mail.example/", "imap://mail.example:143", None),
            ("pop3s://m", "pop3s://m:995", None),
            ("pop3://m:1100", "pop3://m:1100", None),
            ("smtps://me@m", "smtps://m:465", Some("me")),
            ("smtp://m", "smtp://m:587", None),
            ("submission://m", "smtp://m:587", None),
            ("submissions://m", "smtps://m:465", None),
            ("ircs://me@m", "ircs://m:6697", Some("me")),
            ("irc://localhost", "irc://localhost:6667", None),
            ("imaps://[::1]:10", "imaps://[::1]:10", None),
            (
                "imaps://a%40b.example%2F%C3%BC%zz@127.0.0.1",
                "imaps://127.0.0.1:993",
                Some("a@b.example/ü%zz"),
            ),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!(server.to_string(), shown, "{url}");
            assert_eq!(server.user.as_deref(), user, "{url}");
        }
    }

    #[test]
    fn what_names_no_server_is_refused() {
        let schemes = "its scheme is none of imaps, imap, pop3s, pop3, smtps, smtp, submissions, \
                       submission, ircs, irc";
        for (url, why) in [
            ("mail.example", "relative URL without a base"),
            ("mail.example:993", schemes),
            ("https://mail.example", schemes),
            ("imaps:mail.example", "it names no host"),
            ("imaps://", "it names no host"),
            ("imaps://me:secret@m", "it has a password"),
            (
                "imaps://a%0ab@m",
                "its user has characters that no user has",
            ),
            ("imaps://%ff@m", "its user has characters that no user has"),
            ("imaps://m%0d", "it names no host"),
        ] {
            assert_eq!(Server::parse(url), Err(why.into()), "{url}");
        }
    }
}
