//! The little HTTP/1.1 that a scripted server and a browser stand-in need, over any stream.

use std::io::{self, BufRead, Read, Write};

use url::form_urlencoded;

/// How long a line of a head may be, in bytes: more than any URL of an authorization request.
const MAX_LINE: u64 = 64 * 1024;
/// How long a body may be, in bytes: more than any form or page here.
const MAX_BODY: u64 = 16 * 1024 * 1024;

/// A multimap: the pairs of a query, a form or a head, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

impl Pairs {
    /// Reads `application/x-www-form-urlencoded`.
    pub fn decode(encoded: &[u8]) -> Self {
        Pairs(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// Writes `application/x-www-form-urlencoded`.
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.0)
            .finish()
    }

    /// The first value of `name`, whose letters match exactly.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The value of the header `name`, in letters of any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Pairs {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Pairs(pairs.map(|(k, v)| (k.into(), v.into())).to_vec())
    }
}

/// A request, as received.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The request target as sent: path and query.
    pub target: String,
    pub headers: Pairs,
    pub body: Vec<u8>,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The target's query.
    pub fn query(&self) -> Pairs {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        Pairs::decode(query.as_bytes())
    }

    /// The body as a form.
    pub fn form(&self) -> Pairs {
        Pairs::decode(&self.body)
    }
}

/// A response: to send, or as received.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Pairs,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Response {
            status,
            headers: [
                ("Content-Type", content_type),
                ("Cache-Control", "no-store"),
            ]
            .into(),
            body: body.into(),
        }
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Response {
            status,
            headers: [("Location", location), ("Cache-Control", "no-store")].into(),
            body: Vec::new(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.header(name)
    }

    /// The body, for a test's eyes.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The response as it goes over the wire, its Content-Length included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = head(&format!("HTTP/1.1 {} Scripted", self.status), &self.headers);
        bytes.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend(&self.body);
        bytes
    }
}

/// Reads one request; `None` when the peer has hung up before its first byte.
///
/// # Errors
/// What the stream says, or `InvalidData` when it isn't HTTP.
pub fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    if stream.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let line = read_line(stream)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid(&format!("request line {line:?}")));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(invalid(&format!("version {version:?}")));
    }
    let headers = read_headers(stream)?;
    let body = if is_chunked(&headers) {
        read_chunks(stream)?
    } else {
        read_exactly(stream, content_length(&headers)?.unwrap_or(0))?
    };
    Ok(Some(Request {
        method: method.into(),
        target: target.into(),
        headers,
        body,
    }))
}

/// Reads the response to a request of `method` (a response to HEAD has no body).
///
/// # Errors
/// What the stream says, or `InvalidData` when it isn't HTTP.
pub fn read_response(stream: &mut impl BufRead, method: &str) -> io::Result<Response> {
    let line = read_line(stream)?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid(&format!("status line {line:?}")))?;
    let headers = read_headers(stream)?;
    let body = if method == "HEAD" || status == 204 || status == 304 {
        Vec::new()
    } else if is_chunked(&headers) {
        read_chunks(stream)?
    } else if let Some(length) = content_length(&headers)? {
        read_exactly(stream, length)?
    } else {
        read_to_end(stream)?
    };
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// Writes a request and its body in one go.
///
/// # Errors
/// What the stream says.
pub fn write_request(
    stream: &mut impl Write,
    method: &str,
    target: &str,
    headers: &Pairs,
    body: &[u8],
) -> io::Result<()> {
    let mut bytes = head(&format!("{method} {target} HTTP/1.1"), headers);
    if !body.is_empty() || method == "POST" {
        bytes.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    stream.write_all(&bytes)?;
    stream.flush()
}

fn head(first_line: &str, headers: &Pairs) -> Vec<u8> {
    let mut bytes = format!("{first_line}\r\n").into_bytes();
    for (name, value) in &headers.0 {
        bytes.extend(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| invalid("head that isn't UTF-8"))
}

fn read_headers(stream: &mut impl BufRead) -> io::Result<Pairs> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok(Pairs(headers));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| invalid(&format!("header line {line:?}")))?;
        headers.push((name.into(), value.trim().into()));
    }
}

fn is_chunked(headers: &Pairs) -> bool {
    headers
        .header("Transfer-Encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
}

fn content_length(headers: &Pairs) -> io::Result<Option<u64>> {
    headers
        .header("Content-Length")
        .map(|value| value.parse().map_err(|_| invalid("Content-Length")))
        .transpose()
}

fn read_exactly(stream: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(invalid("body that is too long"));
    }
    let mut body = Vec::new();
    if stream.take(length).read_to_end(&mut body)? as u64 == length {
        Ok(body)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_to_end(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    stream.take(MAX_BODY).read_to_end(&mut body)?;
    Ok(body)
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("chunk size"))?;
        if size == 0 {
            read_headers(stream)?;
            return Ok(body);
        }
        body.extend(read_exactly(stream, size)?);
        read_line(stream)?;
        if body.len() as u64 > MAX_BODY {
            return Err(invalid("body that is too long"));
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what}"))
}
