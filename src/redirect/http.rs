//! As much of HTTP/1.1 (RFC 9112) as a redirection endpoint needs: one request from bytes that
//! arrive in any pieces, and one reply. Pure.

pub use ::http::{Method, StatusCode};

/// The longest request line that is read, in bytes: authorization codes of 2 KiB exist, and
/// browsers send more only by mistake.
pub const MAX_REQUEST_LINE: usize = 8 * 1024;

/// The longest head that is read, in bytes: cookies that other programs have set for `localhost`
/// come along, and more than browsers send of them must not cost a code.
pub const MAX_HEAD: usize = 128 * 1024;

/// The longest form that is read, in bytes: an authorization response sent as a form may carry
/// more than one in a query, but not by much.
pub const MAX_BODY: usize = 16 * 1024;

/// The first byte of a TLS record that begins a handshake (RFC 8446 5.1); no HTTP method's.
pub const TLS_HANDSHAKE: u8 = 0x16;

/// A whole request. It has no `Debug`, since its query or body may hold an authorization code.
pub struct HttpRequest<'a> {
    /// What to do.
    pub method: Method,
    /// The target's path, as it was sent; `*` for OPTIONS.
    pub path: &'a str,
    /// The target's query, without its question mark; may be empty.
    pub query: &'a str,
    /// The authority that is asked: the absolute target's, else the Host field's.
    pub host: &'a str,
    /// The Origin field (RFC 6454): of which site's page the request is.
    pub origin: Option<&'a str>,
    /// The Sec-Fetch-Site field (Fetch Metadata): how that site is related to this one.
    pub site: Option<&'a str>,
    /// A POST's form; empty for every other method.
    pub body: &'a str,
}

impl HttpRequest<'_> {
    /// Whether a page of ours can have sent it, as far as the browser says. Our pages name no
    /// referrer, and so their forms no origin either (Fetch, 3.2).
    pub fn is_same_origin(&self, scheme: &str) -> bool {
        let ours = format!("{scheme}://{}", self.host);
        let is_ours = |origin: &str| origin == "null" || origin.eq_ignore_ascii_case(&ours);
        self.site.is_none_or(|site| site == "same-origin") && self.origin.is_none_or(is_ours)
    }
}

/// Reads one request, and remembers how far it has looked so that a request that dribbles in costs
/// no more than one that comes at once.
#[derive(Default)]
pub struct Parser {
    scanned: usize,
    /// Where the request ends, once its head is known.
    end: Option<usize>,
}

impl Parser {
    /// The request at the start of `input`, which holds everything that has arrived so far.
    ///
    /// # Errors
    /// The status to refuse it with.
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Result<Option<HttpRequest<'a>>, StatusCode> {
        if self.end.is_some_and(|end| input.len() < end) {
            return Ok(None);
        }
        // Some senders put an empty line before a request (RFC 9112 2.2).
        let blank = if input.starts_with(b"\r\n") { 2 } else { 0 };
        let message = input.get(blank..).unwrap_or_default();
        if message.first() == Some(&b'\n') || (blank > 0 && message.first() == Some(&b'\r')) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let line = request_line(message);
        if line.len() > MAX_REQUEST_LINE {
            return Err(StatusCode::URI_TOO_LONG);
        }
        let head_end = match head_end(message, self.scanned.saturating_sub(blank)) {
            Some(end) if end <= MAX_HEAD => end,
            None if message.len() <= MAX_HEAD => {
                // A line end that was cut in two must be seen again.
                self.scanned = input.len().saturating_sub(3);
                return Ok(None);
            }
            Some(_) | None => return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        };
        let head = message.get(..head_end).unwrap_or_default();
        let (mut request, length) = parse_head(line, head)?;
        let start = blank + head_end;
        let end = start + length;
        self.end = Some(end);
        let Some(body) = input.get(start..end) else {
            return Ok(None);
        };
        request.body = std::str::from_utf8(body).map_err(|_| StatusCode::BAD_REQUEST)?;
        Ok(Some(request))
    }
}

/// Where the body begins: after the first empty line at or after `from`.
fn head_end(message: &[u8], from: usize) -> Option<usize> {
    let line_ends = message
        .iter()
        .enumerate()
        .skip(from)
        .filter(|(_, byte)| **byte == b'\n');
    line_ends
        .map(|(at, _)| at + 1)
        .find_map(|next| match message.get(next..) {
            Some([b'\n', ..]) => Some(next + 1),
            Some([b'\r', b'\n', ..]) => Some(next + 2),
            _ => None,
        })
}

/// The request line as far as it is there, without its end; a longer one than may be is cut.
fn request_line(message: &[u8]) -> &[u8] {
    // Room for the longest line and its end; the first half of an end isn't the line's.
    let window = message.get(..MAX_REQUEST_LINE + 2).unwrap_or(message);
    let line = window.split(|byte| *byte == b'\n').next();
    let line = line.unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A whole head, and how long its body is.
fn parse_head<'a>(line: &[u8], head: &'a [u8]) -> Result<(HttpRequest<'a>, usize), StatusCode> {
    let lines = head.iter().filter(|byte| **byte == b'\n').count();
    let mut fields = vec![httparse::EMPTY_HEADER; lines];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::Version) if names_version(line) => {
            return Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(StatusCode::BAD_REQUEST),
    }
    let fields = Fields(parsed.headers);
    let target = parsed.path.unwrap_or_default();
    if target.contains(is_unfit) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let method = parsed.method.unwrap_or_default().parse();
    let method: Method = method.map_err(|_| StatusCode::BAD_REQUEST)?;
    let (authority, path, query) = match method {
        Method::OPTIONS if target == "*" => (None, "*", ""),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::POST => parse_target(target)?,
        // CONNECT and its like have targets of their own; they are refused for their method.
        _ => (None, "", ""),
    };
    let host = authority
        .or(fields.only("host")?)
        .filter(|host| !host.is_empty())
        .ok_or(StatusCode::BAD_REQUEST)?;
    let length = fields.only("content-length")?.map(parse_length);
    let length = length.transpose()?;
    let is_form = method == Method::POST;
    let request = HttpRequest {
        method,
        path,
        query,
        host,
        origin: fields.last("origin")?,
        site: fields.last("sec-fetch-site")?,
        body: "",
    };
    match is_form {
        true => Ok((request, fields.form_length(length)?)),
        false => Ok((request, 0)),
    }
}

/// Whether the line ends with a version of HTTP, if not with one that is read here.
fn names_version(line: &[u8]) -> bool {
    let version = line.rsplit(|byte| *byte == b' ').next();
    let number = version.and_then(|it| it.strip_prefix(b"HTTP/"));
    matches!(number, Some([b'0'..=b'9', b'.', b'0'..=b'9']))
}

/// What no request target holds: browsers never send a fragment, and escape the rest.
fn is_unfit(c: char) -> bool {
    c.is_control() || c.is_whitespace() || c == '#'
}

/// A target's authority (of an absolute one), path and query.
fn parse_target(target: &str) -> Result<(Option<&str>, &str, &str), StatusCode> {
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else {
        let rest = strip_scheme(target).ok_or(StatusCode::BAD_REQUEST)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        (Some(authority), rest)
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https").then_some(rest)
}

/// The header fields, as they were sent.
struct Fields<'h, 'a>(&'h [httparse::Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.0.iter();
        let named = named.filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value)
    }

    fn last(&self, name: &str) -> Result<Option<&'a str>, StatusCode> {
        let last = self.all(name).last().map(std::str::from_utf8);
        last.transpose().map_err(|_| StatusCode::BAD_REQUEST)
    }

    /// The value of a field that is there once at most.
    fn only(&self, name: &str) -> Result<Option<&'a str>, StatusCode> {
        match self.all(name).nth(1) {
            Some(_) => Err(StatusCode::BAD_REQUEST),
            None => self.last(name),
        }
    }

    /// How long a POST's form is; only what says that it is a form, and how long, is read.
    fn form_length(&self, length: Option<usize>) -> Result<usize, StatusCode> {
        let chunked = self.all("transfer-encoding").next().is_some();
        let length = length.filter(|_| !chunked);
        let length = length.ok_or(StatusCode::LENGTH_REQUIRED)?;
        let media_type = self.last("content-type")?.unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" if length <= MAX_BODY => Ok(length),
            "application/x-www-form-urlencoded" => Err(StatusCode::PAYLOAD_TOO_LARGE),
            _ => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        }
    }
}

/// Digits only: `+5`, `5, 5` and the like are how requests are smuggled. A number too great for
/// the type is as good as the greatest.
fn parse_length(value: &str) -> Result<usize, StatusCode> {
    match !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(value.parse().unwrap_or(usize::MAX)),
        false => Err(StatusCode::BAD_REQUEST),
    }
}

/// The name and the port in an authority; `None` when it isn't one. The name keeps the brackets
/// of an IPv6 address.
pub fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at(name_end);
    if name.is_empty() || name.contains(['@', '/']) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((name, None)),
        // `host:` is `host` (RFC 3986 3.2.3).
        Some("") => Some((name, None)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((name, Some(digits.parse().ok()?)))
        }
        _ => None,
    }
}

/// What every reply says besides its length and what may run: nothing in it may be kept, framed,
/// sniffed, or tell the next site where the browser came from.
const FIELDS: &str = "Content-Type: text/html; charset=utf-8\r\n\
    Cache-Control: no-store\r\n\
    Referrer-Policy: no-referrer\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Connection: close\r\n";

/// What a page may load and do: be styled, and ask us for another sign-in.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
    form-action 'self'; frame-ancestors 'none'";

/// A reply with a page; for HEAD without it (`bare`), but with its length.
pub fn reply(status: StatusCode, page: &str, bare: bool) -> Vec<u8> {
    let more = match status {
        StatusCode::NO_CONTENT | StatusCode::METHOD_NOT_ALLOWED => {
            "Allow: GET, HEAD, POST, OPTIONS\r\n"
        }
        // Not done yet: the browser is to look again.
        StatusCode::ACCEPTED => "Refresh: 2\r\n",
        _ => "",
    };
    write(status, page, bare, more, POLICY)
}

/// A page in which the one script with this hash (base64 of its SHA-256) may run.
pub fn reply_with_script(page: &str, hash: &str, bare: bool) -> Vec<u8> {
    let policy = format!("{POLICY}; script-src 'sha256-{hash}'");
    write(StatusCode::OK, page, bare, "", &policy)
}

/// Sends a browser on to another path here; what brought it isn't kept in its history.
pub fn see_other(path: &str) -> Vec<u8> {
    let location = format!("Location: {path}\r\n");
    write(StatusCode::SEE_OTHER, "", false, &location, POLICY)
}

/// Sends a browser on to a page elsewhere.
pub fn found(uri: &str, bare: bool) -> Vec<u8> {
    let location = format!("Location: {uri}\r\n");
    write(StatusCode::FOUND, "", bare, &location, POLICY)
}

/// Sends a browser on to another address after so many seconds, also after a form, which our policy
/// doesn't let a redirect do.
pub fn refresh(page: &str, uri: &str, seconds: u8) -> Vec<u8> {
    let refresh = format!("Refresh: {seconds}; url={uri}\r\n");
    write(StatusCode::OK, page, false, &refresh, POLICY)
}

fn write(status: StatusCode, page: &str, bare: bool, more: &str, policy: &str) -> Vec<u8> {
    // RFC 9110 8.6: a reply that can't have a body has no length either.
    let length = match status {
        StatusCode::NO_CONTENT => String::new(),
        _ => format!("Content-Length: {}\r\n", page.len()),
    };
    let body = if bare { "" } else { page };
    let policy = format!("Content-Security-Policy: {policy}\r\n");
    format!("HTTP/1.1 {status}\r\n{length}{more}{policy}{FIELDS}\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request as one string, or the refusal's status line.
    fn show(input: &[u8]) -> String {
        match Parser::default().parse(input) {
            Ok(Some(r)) => format!("{} {} {} {} {}", r.method, r.host, r.path, r.query, r.body),
            Ok(None) => "more".into(),
            Err(status) => status.as_str().into(),
        }
    }

    #[test]
    fn requests_are_read_or_refused() {
        let form = "Content-Type: application/x-www-form-urlencoded";
        for (input, expected) in [
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET localhost /  ",
            ),
            (
                "GET /a?b=c?d HTTP/1.1\nhost:\tx:1 \n\n",
                "GET x:1 /a b=c?d ",
            ),
            ("\r\nGET / HTTP/1.0\r\nHost: x\r\n\r\nrest", "GET x /  "),
            (
                "GET http://y:2/p?q HTTP/1.1\r\nHost: x\r\n\r\n",
                "GET y:2 /p q ",
            ),
            ("GET HTTPS://y?q HTTP/1.1\r\nHost: x\r\n\r\n", "GET y / q "),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS x *  "),
            ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT x   "),
            ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE x   "),
            ("HEAD /?é HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD x / é "),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
                "GET x /  ",
            ),
            (
                &format!("POST / HTTP/1.1\r\nHost: x\r\n{form}\r\nContent-Length: 3\r\n\r\na=bc"),
                "POST x /  a=b",
            ),
            (
                &format!(
                    "POST / HTTP/1.1\r\nHost: x\r\n{form};charset=utf-8\r\nContent-Length: 3\r\n\r\na="
                ),
                "more",
            ),
            (
                &format!("POST / HTTP/1.1\r\nHost: x\r\n{form}\r\n\r\na=b"),
                "411",
            ),
            (
                &format!(
                    "POST / HTTP/1.1\r\nHost: x\r\n{form}\r\nTransfer-Encoding: chunked\r\n\r\n"
                ),
                "411",
            ),
            (
                &format!("POST / HTTP/1.1\r\nHost: x\r\n{form}\r\nContent-Length: 16385\r\n\r\n"),
                "413",
            ),
            (
                &format!(
                    "POST / HTTP/1.1\r\nHost: x\r\n{form}\r\nContent-Length: 99999999999999999999\r\n\r\n"
                ),
                "413",
            ),
            (
                &format!("POST / HTTP/1.1\r\nHost: x\r\n{form}\r\nContent-Length: +3\r\n\r\na=b"),
                "400",
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b",
                "415",
            ),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r", "more"),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400"),
            (
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\nHost: x\r\n\r\n",
                "400",
            ),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: \r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", "400"),
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
            ("GET /#x HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
            ("GET /\u{1} HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
            ("GET x HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
            ("GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400"),
            ("GET /\r\n\r\n", "400"),
            ("GET / HTTP/11\r\nHost: x\r\n\r\n", "400"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
            ("\r\n\r\n", "400"),
            ("", "more"),
        ] {
            assert_eq!(show(input.as_bytes()), expected, "{input:?}");
        }
        assert_eq!(show(b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"), "400");
    }

    #[test]
    fn lengths_are_bounded() {
        let long = "x".repeat(MAX_REQUEST_LINE);
        assert_eq!(show(format!("GET /{long}").as_bytes()), "414");
        assert_eq!(
            show(format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()),
            "414"
        );
        let fits = "x".repeat(MAX_REQUEST_LINE - 14);
        let expected = format!("GET x /{fits}  ");
        assert_eq!(
            show(format!("GET /{fits} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()),
            expected
        );
        // However it is cut, the longest line is one, and a longer one isn't.
        let cut = format!("GET /{fits} HTTP/1.1\r");
        assert_eq!(cut.len(), MAX_REQUEST_LINE + 1);
        assert_eq!(show(cut.as_bytes()), "more");
        assert_eq!(show(&cut.as_bytes()[..MAX_REQUEST_LINE]), "more");
        assert_eq!(show(format!("{cut}x").as_bytes()), "414");
        let cookies = format!("Cookie: {}\r\n", "y".repeat(4_000)).repeat(33);
        assert_eq!(
            show(format!("GET / HTTP/1.1\r\n{cookies}").as_bytes()),
            "431"
        );
        assert_eq!(
            show(format!("GET / HTTP/1.1\r\nHost: x\r\n{cookies}\r\n").as_bytes()),
            "431"
        );
    }

    #[test]
    fn every_way_of_cutting_a_request_reads_the_same() {
        for end in ["\r\n", "\n"] {
            let head = [
                "\r\nPOST /cb HTTP/1.1",
                "Host: localhost:8080",
                "Content-Length: 11",
            ];
            let media = format!("Content-Type: application/x-www-form-urlencoded{end}{end}");
            let text = format!("{}{end}{media}state=a&b=c", head.join(end));
            let (mut parser, mut seen) = (Parser::default(), 0);
            for length in 0..=text.len() {
                let Ok(Some(request)) = parser.parse(&text.as_bytes()[..length]) else {
                    continue;
                };
                assert_eq!((length, request.body), (text.len(), "state=a&b=c"));
                seen += 1;
            }
            assert_eq!(seen, 1);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic() {
        let alphabet: [&[u8]; 12] = [
            b"GET",
            b"POST",
            b" ",
            b"/",
            b"?",
            b" HTTP/1.1",
            b"\r\n",
            b"\n",
            b"Host: x",
            b":",
            b"Content-Length: 9",
            b"\xff\0\r",
        ];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut input = Vec::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                input.extend_from_slice(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            let whole = show(&input);
            let mut parser = Parser::default();
            let early = (0..=input.len()).find_map(|n| match parser.parse(&input[..n]) {
                Ok(None) => None,
                Ok(Some(_)) => Some(true),
                Err(_) => Some(false),
            });
            assert_eq!(early.is_none(), whole == "more", "{input:?}");
        }
    }

    #[test]
    fn authorities_are_split() {
        for (authority, expected) in [
            ("localhost", Some(("localhost", None))),
            ("localhost:", Some(("localhost", None))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:65535", Some(("[::1]", Some(65_535)))),
            ("[::1", None),
            ("[::1]x", None),
            ("::1", None),
            ("x:65536", None),
            ("x:+1", None),
            ("u@x", None),
            (":80", None),
            ("", None),
        ] {
            assert_eq!(split_authority(authority), expected, "{authority}");
        }
    }

    #[test]
    fn a_bare_reply_tells_the_length_of_what_it_leaves_out() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (full, bare) = (
            text(reply(StatusCode::OK, "page", false)),
            text(reply(StatusCode::OK, "page", true)),
        );
        assert_eq!(full, format!("{bare}page"));
        assert!(
            bare.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n")
                && bare.ends_with("\r\n\r\n")
        );
        assert!(!text(reply(StatusCode::NO_CONTENT, "", true)).contains("Content-Length"));
    }
}
