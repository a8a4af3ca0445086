//! What the text of one value means: strings, times, listeners' addresses, URIs.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::HashMap,
    fmt::Display,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use cfgrammar::Span;
use url::{SyntaxViolation, Url};

use super::{
    Listen,
    error::{ConfigError, Source, quoted},
    server::is_name,
};
use crate::time::parse_span;

/// A string's value and its place, quotes included. No Debug: it may be a secret.
#[derive(Clone)]
pub(super) struct Text<'a> {
    pub(super) value: Cow<'a, str>,
    pub(super) span: Span,
}

/// The string at `span`, its escapes undone.
pub(super) fn string<'a>(source: &Source<'a>, span: Span) -> Result<Text<'a>, ConfigError> {
    let inside = Span::new(span.start() + 1, span.end() - 1);
    let raw = source.slice(inside);
    if !raw.contains('\\') {
        let value = Cow::Borrowed(raw);
        return Ok(Text { value, span });
    }
    let mut value = String::new();
    let mut chars = raw.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('\\', Some(escaped @ ('"' | '\\'))) => {
                value.push(escaped);
                chars.next();
            }
            ('\\', other) => {
                let start = inside.start() + at;
                let end = start + 1 + other.map_or(0, char::len_utf8);
                return Err(bad_escape(source, Span::new(start, end)));
            }
            (c, _) => value.push(c),
        }
    }
    let value = Cow::Owned(value);
    Ok(Text { value, span })
}

/// The same text, if it stays on its line; `name` says whose it is.
pub(super) fn one_line<'a>(
    source: &Source,
    name: impl Display,
    text: Text<'a>,
) -> Result<Text<'a>, ConfigError> {
    if !text.value.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Ok(text);
    }
    let error = source.error(text.span, format!("{name} must stay on one line"));
    Err(error.hint("a string goes on to the next double quote"))
}

/// Notes that `text` stands there, which may be so once; `what` says what there are two of.
pub(super) fn once<'a>(
    source: &Source,
    seen: &mut HashMap<Cow<'a, str>, Span>,
    text: &Text<'a>,
    what: impl Fn() -> String,
) -> Result<(), ConfigError> {
    let Some(first) = seen.insert(text.value.clone(), text.span) else {
        return Ok(());
    };
    let line = source.line(first);
    let what = format!("{}, the first on line {line}", what());
    Err(source.error(text.span, what))
}

fn bad_escape(source: &Source, span: Span) -> ConfigError {
    let what = match source.quote(span) {
        Some(escape) => format!("unknown escape {escape}"),
        None => "unknown escape".into(),
    };
    let hint = r#"strings know `\"` and `\\`; a backslash is `\\`"#;
    source.error(span, what).hint(hint)
}

/// Checks that `text` names a file wherever the server was started: it is absolute, or below `~/`.
pub(super) fn absolute_file(source: &Source, name: &str, text: &Text) -> Result<(), ConfigError> {
    let path = &*text.value;
    let rooted = path.starts_with('/') || path.starts_with("~/");
    if rooted && !path.ends_with('/') && !path.contains('\0') {
        return Ok(());
    }
    let error = source.error(text.span, format!("{name} is no absolute path of a file"));
    Err(error.hint("it starts with `/` or `~/`"))
}

/// The time at `span`: a whole number and one of the units s, m, h, d.
pub(super) fn time(source: &Source, span: Span) -> Result<Duration, ConfigError> {
    let text = source.slice(span);
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let error = |what: String| source.error(span, what);
    match (unit, parse_span(text)) {
        ("", _) => Err(error(format!("the time {} has no unit", quoted(text)))
            .hint("a unit is one of `s`, `m`, `h`, `d`, as in `90s`")),
        (_, Some(time)) => Ok(time),
        ("s" | "m" | "h" | "d", None) => {
            Err(error(format!("the time {} is too long", quoted(text))))
        }
        (_, None) => Err(error(format!("{} isn't a time", quoted(text)))
            .hint("a time is a whole number and a unit: `90s`, `5m`, `2h`, `1d`")),
    }
}

/// A listener's address: `host:port`, or `[IPv6 address]:port`.
pub(super) fn listen(source: &Source, name: &str, text: &Text) -> Result<Listen, ConfigError> {
    let value = &*text.value;
    let refuse = |why: &str| {
        let error = source.error(text.span, format!("`{name}` {why}"));
        Err(error.hint("it is `none` or \"address:port\", as in \"127.0.0.1:0\" or \"[::1]:0\""))
    };
    if value == "none" {
        let error = source.error(text.span, format!("`{name}` has no port"));
        return Err(error.hint("`none` stands without quotes"));
    }
    let Some((host, port)) = value.rsplit_once(':') else {
        return refuse("has no port");
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => address,
        None if host.parse::<Ipv4Addr>().is_ok() || is_host_name(host) => host,
        None if value.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv6Addr>().is_ok() => {
            return refuse("needs brackets around its IPv6 address");
        }
        _ => return refuse("has no usable address"),
    };
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse("has no usable port");
    }
    match port.parse() {
        Ok(port) => Ok(Listen::On {
            host: host.into(),
            port,
        }),
        Err(_) => refuse("has a port above 65535"),
    }
}

/// Whether `host` looks like a host name (RFC 1123, 2.1, and underscores); what ends in a number
/// can only be meant as an address.
fn is_host_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = name.split('.').all(|label| !label.is_empty());
    is_name(name) && is_whole && !name.rsplit('.').next().is_some_and(is_number)
}

/// Which of the protocol's endpoints a URI is, as far as it matters to what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum UriKind {
    /// The provider's: over TLS, or on this machine.
    Provider,
    /// The provider's, and the user has said that it may do without TLS anywhere.
    PlainProvider,
    /// The redirection endpoint: http or https, under any name, since it may be a page of the
    /// provider's; a private-use scheme; or the provider shows the code.
    Redirect,
}

/// Where http will do, for an issuer and for an endpoint.
const HTTP_ONLY: &str = "http is for localhost, 127.0.0.1 and [::1] only";
const HTTP_UNLESS: &str = "http is for localhost, 127.0.0.1 and [::1]; on a network that you trust, \
                           `allow_http = true;` in the account allows it";

/// A usable URI for `endpoint`.
pub(super) fn uri(
    source: &Source,
    name: &str,
    text: &Text,
    endpoint: UriKind,
) -> Result<Url, ConfigError> {
    let refuse = |why: &str| source.error(text.span, format!("`{name}` {why}"));
    if text.value.is_empty() {
        return Err(refuse("is empty"));
    }
    let start = match endpoint {
        UriKind::Provider | UriKind::PlainProvider => "it starts with `https://`",
        UriKind::Redirect => "it starts with `http://` or `https://`",
    };
    let url = parse_uri(&text.value).map_err(|why| {
        let error = refuse(&format!("isn't a usable URI: {why}"));
        error.maybe_hint((!text.value.contains(':')).then(|| start.into()))
    })?;
    if endpoint == UriKind::Redirect && is_no_web_address(&url) {
        return private_use(url, refuse);
    }
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = quoted(url.scheme());
        let why = format!("has the scheme {scheme}, which isn't http or https");
        let private =
            "a private-use scheme is a domain name backwards, with a dot: `com.example.app`";
        let hint = match endpoint {
            _ if !text.value.contains(":/") => Some(start),
            UriKind::Redirect => Some(private),
            UriKind::Provider | UriKind::PlainProvider => None,
        };
        return Err(refuse(&why).maybe_hint(hint.map(Into::into)));
    }
    let provider = endpoint != UriKind::Redirect;
    // A browser that is sent back sends neither.
    if provider && (!url.username().is_empty() || url.password().is_some()) {
        return Err(refuse("must not hold a user name or a password"));
    }
    if url.fragment().is_some() {
        let place = fragment(source, text.span);
        let error = source.error(place, format!("`{name}` has a fragment"));
        return Err(error.hint("leave out the `#` and what follows it"));
    }
    if endpoint == UriKind::Provider && is_plain(&url) {
        let is_issuer = name == "issuer";
        let hint = if is_issuer { HTTP_ONLY } else { HTTP_UNLESS };
        return Err(refuse("must be https, since its host isn't this machine").hint(hint));
    }
    if provider && url.port() == Some(0) {
        return Err(refuse("has the port 0, which nothing can listen on"));
    }
    Ok(url)
}

/// Redirection endpoints that are none: the provider shows the code.
const OUT_OF_BAND: [&str; 2] = [
    "urn:ietf:wg:oauth:2.0:oob",
    "urn:ietf:wg:oauth:2.0:oob:auto",
];

/// Whether no web server is meant by a redirection endpoint.
fn is_no_web_address(url: &Url) -> bool {
    url.scheme().contains('.') || OUT_OF_BAND.contains(&url.as_str())
}

/// Whether a listener on `host` hears a browser that is sent to `uri`. One that other machines reach
/// may have any name; one on the loopback interface is on both of its usual addresses.
pub(super) fn hears(host: &str, uri: &Url) -> bool {
    let wanted = uri.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_usual = |host: &str| {
        ["localhost", "127.0.0.1", "::1"].contains(&host) || host.ends_with(".localhost")
    };
    host.eq_ignore_ascii_case(wanted)
        || !is_loopback_host(host)
        || (is_usual(wanted) && is_usual(&host.to_ascii_lowercase()))
}

/// A redirection endpoint with a private-use scheme: the domain name of its author, backwards
/// (RFC 8252, 7.1), so that two programs don't take the same.
fn private_use(url: Url, refuse: impl Fn(&str) -> ConfigError) -> Result<Url, ConfigError> {
    if url.fragment().is_some() {
        return Err(refuse("has a fragment").hint("leave out the `#` and what follows it"));
    }
    let scheme = url.scheme();
    if scheme.ends_with('.') || scheme.contains("..") {
        return Err(refuse("has a scheme that is no domain name backwards"));
    }
    Ok(url)
}

/// `text` as a URL; refused are also slips that parsing would silently mend into another host.
fn parse_uri(text: &str) -> Result<Url, String> {
    let mended = Cell::new(None);
    let note = |violation| {
        use SyntaxViolation::{Backslash, ExpectedDoubleSlash};
        if matches!(violation, Backslash | ExpectedDoubleSlash) {
            mended.set(Some(violation));
        }
    };
    let url = Url::options()
        .syntax_violation_callback(Some(&note))
        .parse(text);
    match (url, mended.get()) {
        (Ok(url), Some(slip)) if matches!(url.scheme(), "http" | "https") => {
            Err(slip.description().into())
        }
        (Ok(url), _) => Ok(url),
        (Err(url::ParseError::RelativeUrlWithoutBase), _) => Err("it has no scheme".into()),
        (Err(error), _) => Err(error.to_string()),
    }
}

/// Whether what is sent to `url` goes over a network in clear.
pub fn is_plain(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// Whether `url` leads to this machine whatever a name server says.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    is_loopback_host(host.trim_matches(['[', ']']))
}

/// The issuer as it is written: the comparison with what a document says is one of strings.
pub(super) fn issuer(source: &Source, name: &str, text: &Text) -> Result<String, ConfigError> {
    let url = uri(source, name, text, UriKind::Provider)?;
    if url.query().is_some() {
        let error = source.error(text.span, format!("`{name}` has a query"));
        return Err(error.hint("an issuer ends before the `?` (RFC 8414, 2)"));
    }
    if url.path().contains("/.well-known/") {
        let error = source.error(text.span, format!("`{name}` is a document's address"));
        return Err(error.hint("leave out `/.well-known/` and the name behind it"));
    }
    Ok(text.value.clone().into_owned())
}

/// Whether a listener on `host` hears this machine only.
pub(super) fn is_loopback_host(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a header can have this name (RFC 9110, 5.1 and 5.6.2).
pub(super) fn is_header_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token)
}

/// Whether a header can have this value: printable ASCII, and no white space around it
/// (RFC 9110, 5.5).
pub(super) fn is_header_value(value: &str) -> bool {
    let printable = |b: u8| b.is_ascii_graphic() || b == b' ';
    value.trim() == value && value.bytes().all(printable)
}

/// Where the fragment of the URI in the string at `span` stands.
fn fragment(source: &Source, span: Span) -> Span {
    match source.slice(span).find('#') {
        Some(at) => Span::new(span.start() + at, span.end() - 1),
        None => span,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> (Source<'_>, Span) {
        (Source { file: "f", text }, Span::new(0, text.len()))
    }

    #[test]
    fn times() {
        for (text, secs) in [
            ("0s", Some(0)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7_200)),
            ("1d", Some(86_400)),
            ("18446744073709551615s", Some(u64::MAX)),
            ("18446744073709551616s", None),
            ("213503982334602d", None),
            ("99999999999999999999999h", None),
            ("90", None),
            ("1.5h", None),
            ("5min", None),
            ("1h30m", None),
        ] {
            let (source, span) = whole(text);
            let time = time(&source, span).ok();
            assert_eq!(time, secs.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn strings() {
        for (text, value) in [
            (r#""""#, Some("")),
            (r#""a b""#, Some("a b")),
            (r#""a\"b\\c""#, Some(r#"a"b\c"#)),
            (r#""\\\\é""#, Some(r"\\é")),
            (r#""\n""#, None),
            (r#""\é""#, None),
        ] {
            let (source, span) = whole(text);
            let string = string(&source, span).ok();
            assert_eq!(string.as_ref().map(|text| &*text.value), value, "{text}");
        }
    }

    #[test]
    fn listeners() {
        for (text, wanted) in [
            ("127.0.0.1:0", Some(("127.0.0.1", 0))),
            ("localhost:65535", Some(("localhost", 65_535))),
            ("[::1]:8080", Some(("::1", 8_080))),
            ("my-host.example.org:1", Some(("my-host.example.org", 1))),
            ("::1:80", None),
            ("[127.0.0.1]:80", None),
            ("127.0.0.1", None),
            ("127.0.0.1:", None),
            ("127.0.0.1:+1", None),
            ("127.0.0.1:65536", None),
            ("127.0.0.256:1", None),
            ("127.1:1", None),
            (":80", None),
            ("a b:80", None),
            ("", None),
        ] {
            let (source, span) = whole(text);
            let value = Cow::Borrowed(text);
            let got = listen(&source, "http_listen", &Text { value, span }).ok();
            let wanted = wanted.map(|(host, port)| Listen::On {
                host: host.into(),
                port,
            });
            assert_eq!(got, wanted, "{text}");
        }
    }

    #[test]
    fn endpoints_of_the_provider() {
        for (text, good) in [
            ("https://example.com/token", true),
            ("https://example.com:8443/token?tenant=a", true),
            ("http://localhost:80/", true),
            ("http://LOCALHOST/", true),
            ("http://127.8.9.10:1/", true),
            ("http://[::1]:1/", true),
            ("http://example.com/", false),
            ("http://localhost.example.com/", false),
            ("http://[::2]/", false),
            ("https://u@example.com/", false),
            ("https://:p@example.com/", false),
            ("https://example.com/#", false),
            ("https://example.com:0/", false),
            ("https:///example.com/", false),
            ("https:\\\\example.com", false),
            ("ftp://example.com/", false),
            ("https://", false),
            ("example.com/token", false),
            ("", false),
        ] {
            let (source, span) = whole(text);
            let value = Cow::Borrowed(text);
            let got = uri(&source, "x", &Text { value, span }, UriKind::Provider);
            assert_eq!(got.is_ok(), good, "{text}");
        }
    }
}
