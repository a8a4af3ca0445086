//! What a mail domain says about its servers: Thunderbird's `config-v1.1.xml`, as far as it means
//! something here (draft-ietf-mailmaint-autoconfig). It comes from a foreign web server, so
//! nothing in it is believed that isn't checked.

use roxmltree::{Document, Node, ParsingOptions};
use url::Url;

use super::Server;
use crate::{config::is_name, text::sanitize};

/// How long such a file may be, in bytes: ten times the longest that is known.
const MAX_BYTES: usize = 128 << 10;

/// What such a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Autoconfig {
    /// The first server of each protocol, which is the one that the domain prefers.
    pub servers: Vec<Server>,
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
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(text.trim(), options).ok()?;
    let root = document.root_element();
    if !root.has_tag_name("clientConfig") {
        return None;
    }
    let within = |name: &'static str| {
        let named = root.children().filter(move |it| it.has_tag_name(name));
        named.flat_map(|it| it.children())
    };
    let mut found = Autoconfig::default();
    for element in within("oAuth2") {
        oauth(&mut found, element.tag_name().name(), text_of(element));
    }
    for element in within("emailProvider") {
        if let "incomingServer" | "outgoingServer" = element.tag_name().name() {
            let is_first =
                |it: &Server| found.servers.iter().all(|own| own.protocol != it.protocol);
            let server = server(element).filter(is_first);
            found.servers.extend(server);
        }
    }
    found.servers.sort_by_key(|server| server.protocol);
    Some(found)
}

fn text_of<'a>(element: Node<'a, '_>) -> &'a str {
    element.text().unwrap_or_default().trim()
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

/// As a server that may be given a token.
fn server(element: Node) -> Option<Server> {
    let part = |name: &str| {
        let mut parts = element.children();
        parts.find(|it| it.has_tag_name(name)).map(text_of)
    };
    let tls = match part("socketType")? {
        "SSL" => "s",
        "STARTTLS" => "",
        _ => return None,
    };
    let protocol = element.attribute("type")?;
    if !matches!(protocol, "imap" | "pop3" | "smtp") {
        return None;
    }
    let host = part("hostname").filter(|host| is_name(host))?;
    let port = part("port").and_then(|port| port.parse::<u16>().ok());
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    Server::parse(&format!("{protocol}{tls}://{host}{port}")).ok()
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
        let server = |url| Server::parse(url).unwrap();
        assert_eq!(
            parse(FILE),
            Some(Autoconfig {
                servers: vec![
                    server("imaps://imap.example.org"),
                    server("smtp://smtp.example.org"),
                ],
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
