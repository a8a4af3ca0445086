//! What a mail domain says about its servers: Thunderbird's `config-v1.1.xml`, as far as it means
//! something here (draft-ietf-mailmaint-autoconfig). It comes from a foreign web server, so
//! nothing in it is believed that isn't checked.

use std::collections::HashMap;

use url::Url;

use super::{Protocol, Server, Tls};
use crate::text::sanitize;

/// How long such a file may be, in bytes: ten times the longest that is known.
const MAX_BYTES: usize = 128 << 10;

/// How deep its elements may be nested: twice as deep as they are.
const MAX_DEPTH: usize = 16;

/// The first server of each kind, and who signs in there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Autoconfig {
    /// For reading by IMAP.
    pub imap: Option<Server>,
    /// For reading by POP3.
    pub pop3: Option<Server>,
    /// For sending.
    pub smtp: Option<Server>,
    /// The issuer of tokens, as written: a URL or, in older files, a host.
    pub issuer: Option<String>,
    /// The scopes to ask for.
    pub scopes: Vec<String>,
    /// The authorization endpoint.
    pub auth_uri: Option<Url>,
    /// The token endpoint.
    pub token_uri: Option<Url>,
}

/// Reads such a file; `None` when it is something else.
pub fn parse(text: &str) -> Option<Autoconfig> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut found = Autoconfig::default();
    let mut path: Vec<&str> = Vec::new();
    let mut parts = Parts::new();
    let mut seen = false;
    for (tag, content) in tags(text) {
        match tag {
            Tag::Open(name, attributes) => {
                path.push(name);
                if path.len() > MAX_DEPTH {
                    return None;
                }
                seen |= path == ["clientConfig"];
                if matches!(name, "incomingServer" | "outgoingServer") {
                    let kind = kind(attributes).unwrap_or_default();
                    parts = Parts::from([("@type", kind.to_owned())]);
                }
                match path[..] {
                    [
                        "clientConfig",
                        "emailProvider",
                        "incomingServer" | "outgoingServer",
                        name,
                    ] => {
                        parts.insert(name, unescape(content));
                    }
                    ["clientConfig", "oAuth2", name] => oauth(&mut found, name, &unescape(content)),
                    _ => {}
                }
            }
            Tag::Close(name) => {
                if path.pop() != Some(name) {
                    return None;
                }
                if matches!(name, "incomingServer" | "outgoingServer") {
                    keep(&mut found, &std::mem::take(&mut parts));
                }
            }
        }
    }
    (seen && path.is_empty()).then_some(found)
}

fn oauth(found: &mut Autoconfig, name: &str, value: &str) {
    let value = sanitize(value);
    let uri = || {
        Url::parse(&value)
            .ok()
            .filter(|uri| uri.scheme() == "https")
    };
    match name {
        "issuer" if !value.is_empty() => found.issuer = Some(value),
        "scope" => found.scopes = value.split_whitespace().map(str::to_owned).collect(),
        "authURL" => found.auth_uri = uri(),
        "tokenURL" => found.token_uri = uri(),
        _ => {}
    }
}

/// What a server's element says, by the names of the elements in it, and under `@type` its own type.
type Parts<'a> = HashMap<&'a str, String>;

/// The type of a server, which its element has as an attribute.
fn kind(attributes: &str) -> Option<&str> {
    let (_, rest) = attributes.split_once("type=")?;
    rest.get(1..)?.split(['"', '\'']).next()
}

/// As a server that may be given a token.
fn server(parts: &Parts) -> Option<Server> {
    let part = |name: &str| parts.get(name).map(|part| part.trim());
    let tls = match part("socketType")? {
        "SSL" => Tls::AtOnce,
        "STARTTLS" => Tls::OnDemand,
        _ => return None,
    };
    let protocol = match part("@type")? {
        "imap" => Protocol::Imap,
        "pop3" => Protocol::Pop3,
        "smtp" => Protocol::Smtp,
        _ => return None,
    };
    let port = part("port").and_then(|port| port.parse().ok());
    Server::new(protocol, tls, part("hostname")?, port)
}

/// The first of each kind is the one that the domain prefers.
fn keep(found: &mut Autoconfig, parts: &Parts) {
    let Some(server) = server(parts) else {
        return;
    };
    let place = match server.protocol {
        Protocol::Imap => &mut found.imap,
        Protocol::Pop3 => &mut found.pop3,
        Protocol::Smtp => &mut found.smtp,
        Protocol::Irc => return,
    };
    place.get_or_insert(server);
}

enum Tag<'a> {
    /// Its name and attributes.
    Open(&'a str, &'a str),
    Close(&'a str),
}

/// The tags of `text`, each with the characters behind it. Comments and declarations are skipped.
fn tags(text: &str) -> Vec<(Tag<'_>, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('<') {
        if let Some(comment) = behind.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, rest)| rest);
            continue;
        }
        let Some((inside, after)) = behind.split_once('>') else {
            break;
        };
        rest = after;
        if inside.starts_with(['?', '!']) {
            continue;
        }
        let content = after.split('<').next().unwrap_or_default();
        if let Some(name) = inside.strip_prefix('/') {
            found.push((Tag::Close(name.trim()), content));
            continue;
        }
        let bare = inside.strip_suffix('/');
        let both = bare.unwrap_or(inside);
        let (name, attributes) = both
            .split_once(|c: char| c.is_ascii_whitespace())
            .unwrap_or((both, ""));
        found.push((Tag::Open(name, attributes), content));
        if bare.is_some() {
            found.push((Tag::Close(name), content));
        }
    }
    found
}

/// Undoes the escapes that XML has of its own.
fn unescape(text: &str) -> String {
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text.trim().to_owned(), |text, (escape, char)| {
        text.replace(escape, char)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"<?xml version="1.0"?>
        <!DOCTYPE clientConfig>
        <clientConfig version="1.1">
          <emailProvider id="example.org">
            <domain>example.org</domain><displayName/>
            <!-- <incomingServer type="imap"><hostname>no</hostname></incomingServer> -->
            <incomingServer type="imap">
              <hostname>plain.example.org</hostname><port>143</port>
              <socketType>plain</socketType>
            </incomingServer>
            <incomingServer type='imap'>
              <hostname> imap.example.org </hostname><port>993</port>
              <socketType>SSL</socketType><authentication>OAuth2</authentication>
            </incomingServer>
            <incomingServer type="imap">
              <hostname>second.example.org</hostname><port>993</port>
              <socketType>SSL</socketType>
            </incomingServer>
            <outgoingServer type="smtp">
              <hostname>smtp.example.org</hostname><socketType>STARTTLS</socketType>
            </outgoingServer>
          </emailProvider>
          <oAuth2>
            <issuer>https://login.example.org/a&amp;b</issuer>
            <scope>mail offline_access</scope>
            <authURL>https://login.example.org/auth</authURL>
            <tokenURL>http://login.example.org/token</tokenURL>
          </oAuth2>
        </clientConfig>"#;

    #[test]
    fn the_first_servers_with_tls_and_the_issuer_are_found() {
        let server = |url| Server::parse(url).ok();
        assert_eq!(
            parse(FILE),
            Some(Autoconfig {
                imap: server("imaps://imap.example.org"),
                pop3: None,
                smtp: server("smtp://smtp.example.org"),
                issuer: Some("https://login.example.org/a&b".into()),
                scopes: vec!["mail".into(), "offline_access".into()],
                auth_uri: Url::parse("https://login.example.org/auth").ok(),
                // Not where a token could be intercepted.
                token_uri: None,
            })
        );
    }

    #[test]
    fn what_is_no_such_file_is_nothing() {
        let deep = "<clientConfig>".to_owned() + &"<a>".repeat(20);
        let long = format!("<clientConfig>{}</clientConfig>", " ".repeat(MAX_BYTES));
        for text in [
            "",
            "not xml",
            "<html><body>404</body></html>",
            "<clientConfig>",
            "<clientConfig></a>",
            "<clientConfig><a></clientConfig></a>",
            "<clientConfig",
            &deep,
            &long,
        ] {
            assert_eq!(parse(text), None, "{:.60}", text);
        }
        assert_eq!(parse("<clientConfig/>"), Some(Autoconfig::default()));
        let odd = "<clientConfig><emailProvider><incomingServer type=\"imap\"><hostname>a b</hostname>\
                   <socketType>SSL</socketType></incomingServer></emailProvider></clientConfig>";
        assert_eq!(parse(odd), Some(Autoconfig::default()));
    }
}
