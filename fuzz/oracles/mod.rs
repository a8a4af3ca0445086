//! What must hold for any bytes at all: the fuzz targets feed these functions with what libFuzzer
//! thinks up, and tests/corpus.rs with every input that is kept in fuzz/corpus. An oracle that is
//! broken panics.
#![allow(dead_code)]

mod document;
mod rooms;
mod steps;

use std::{collections::HashSet, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
pub use document::provider_document;
use pizauth::{
    config,
    core::dump,
    mail::{
        Action, Challenge, Goal, Protocol, Server, SignIn, Tls,
        accept::{Accepted, Acceptor, ProgramRefusal},
        autoconfig,
    },
    oauth::{
        authorization::{self, CallbackResult},
        token::{self, GrantType, MAX_RETRY_AFTER, Outcome, Refusal, Reply, Verdict},
    },
    redirect::http::{HttpRequest, Method, Parser},
    secret::{Secret, SecretBytes},
    text::sanitize,
    time::Wall,
    wire,
};
pub use rooms::{handover, hook_order, peer_line, stored_state};
pub use steps::step_sequence;

/// Names a target as the directory of its corpus does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("client_reply", client_reply),
    ("config", config),
    ("control_frame", control_frame),
    ("dump", dump),
    ("handover", handover),
    ("hook_order", hook_order),
    ("http_request", http_request),
    ("mail_accept", mail_accept),
    ("mail_session", mail_session),
    ("peer_line", peer_line),
    ("provider_document", provider_document),
    ("redirect_query", redirect_query),
    ("step_sequence", step_sequence),
    ("stored_state", stored_state),
    ("token_response", token_response),
];

/// What a config must never show of a client secret, and what the corpus has for one.
const CLIENT_SECRET: &str = "hunter2-hunter2";

/// A reply is whole or an error; whole, it is exactly what the server wrote.
pub fn client_reply(data: &[u8]) {
    let Ok(body) = wire::parse_reply(&mut SecretBytes::new(data.to_vec())) else {
        return;
    };
    assert!(data.ends_with(&body), "the body isn't the reply's end");
    let again = wire::encode_reply(&wire::Reply::Bytes(body));
    let head = again.iter().position(|byte| *byte == b'\n');
    let sent = data.iter().position(|byte| *byte == b'\n');
    let version = b"pizauth 1 0 ";
    assert!(data.starts_with(version) && again.starts_with(version));
    assert_eq!(data.get(sent.unwrap()..), again.get(head.unwrap()..));
    for end in 0..data.len().min(256) {
        let part = data.get(..end).unwrap_or_default();
        assert!(
            wire::parse_reply(&mut SecretBytes::new(part.to_vec())).is_err(),
            "cut at {end}"
        );
    }
    let short = data.split_last().map_or(data, |(_, short)| short);
    assert!(wire::parse_reply(&mut SecretBytes::new(short.to_vec())).is_err());
}

/// What no reply to a mail program may have.
const PASSWORD: &str = "correct-horse-battery";

/// Whatever a mail program says, it is answered in whole lines, the same whatever pieces it comes in;
/// what follows a sign-in is left as it is; and then its password isn't repeated.
pub fn mail_accept(data: &[u8]) {
    let Some((flags, said)) = data.split_first() else {
        return;
    };
    let protocol = match flags % 4 {
        0 => Protocol::Imap,
        1 => Protocol::Pop3,
        2 => Protocol::Smtp,
        _ => Protocol::Irc,
    };
    let starttls = flags & 4 != 0 && protocol != Protocol::Irc;
    let whole = accepted(protocol, starttls, said, said.len().max(1));
    let pieces = accepted(protocol, starttls, said, usize::from(flags / 8) + 1);
    // What comes with the command that begins TLS is dropped.
    assert!(starttls || whole == pieces, "{whole:?} {pieces:?}");
}

fn accepted(protocol: Protocol, starttls: bool, said: &[u8], length: usize) -> (String, Accepted) {
    let packed = STANDARD.encode(format!("\0me\0{PASSWORD}"));
    let sign_in = match protocol {
        Protocol::Imap => format!("\r\nz LOGIN me {PASSWORD}\r\n"),
        Protocol::Pop3 => format!("\r\nUSER me\r\nPASS {PASSWORD}\r\n"),
        Protocol::Smtp => format!("\r\nAUTH PLAIN {packed}\r\n{packed}\r\n"),
        Protocol::Irc => format!("\r\nNICK n\r\nUSER u\r\nCAP END\r\nPASS {PASSWORD}\r\n"),
    };
    let mut acceptor = Acceptor::new(protocol, vec!["SIZE 9".into()], starttls);
    let (mut input, mut output, mut fed) = (Vec::new(), Vec::new(), 0);
    let all = [said, sign_in.as_bytes()].concat();
    let mut outcome = Accepted::More;
    for piece in said.chunks(length).chain([sign_in.as_bytes()]) {
        input.extend_from_slice(piece);
        fed += piece.len();
        outcome = acceptor.feed(&mut input, &mut output);
        assert!(all[..fed].ends_with(&input), "bytes are lost or made up");
        match outcome {
            Accepted::More => assert!(input.len() <= 8 << 10),
            Accepted::StartTls => acceptor.secured(),
            Accepted::SignIn(_) | Accepted::End => break,
        }
    }
    assert!(output.len() < 128 << 10);
    assert!(output.is_empty() || output.ends_with(b"\r\n"));
    for refusal in [
        ProgramRefusal::Password,
        ProgramRefusal::Unavailable("no\nway"),
    ] {
        let reply = acceptor.refuse(refusal);
        reply.split_terminator("\r\n").for_each(plain);
        output.extend(reply.into_bytes());
    }
    let output = String::from_utf8(output).unwrap();
    assert!(
        !output.contains(PASSWORD) && !output.contains(&packed),
        "{output:?}"
    );
    (output, outcome)
}

/// What a mail server must not get in clear, nor anybody else see.
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl";

/// Whatever a mail server says, and in whatever pieces, the token is only sent over TLS or on this
/// machine, TLS begins once, and what is told of it is harmless.
pub fn mail_session(data: &[u8]) {
    let Some((flags, said)) = data.split_first() else {
        return;
    };
    // The first three are as they were when the corpus began.
    let protocol = match (flags % 3, flags & 128 != 0) {
        (_, true) => Protocol::Irc,
        (0, _) => Protocol::Imap,
        (1, _) => Protocol::Pop3,
        _ => Protocol::Smtp,
    };
    let text = String::from_utf8_lossy(said);
    let _ = autoconfig::parse(&text);
    for line in text.split('\n') {
        let _ = Challenge::decode(line).map(|challenge| plain(&challenge.to_string()));
    }
    for goal in [Goal::Trial, Goal::Session] {
        let secure = flags & 4 != 0;
        let tls = if secure { Tls::AtOnce } else { Tls::OnDemand };
        let server = Server {
            protocol,
            tls,
            host: "mail.test".into(),
            port: 1,
            user: None,
        };
        let (loopback, user) = (flags & 8 != 0, (flags & 16 != 0).then_some("me"));
        let token = Secret::new(TOKEN.into());
        let sign_in = SignIn::new(&server, loopback, user, &token, goal);
        mail_sign_in(sign_in, said, secure, loopback);
    }
}

fn mail_sign_in(mut sign_in: SignIn, said: &[u8], mut secure: bool, loopback: bool) {
    // TLS follows when nothing has come after the line that allows it.
    let mut pieces = said.split_inclusive(|byte| *byte == b'\n');
    loop {
        let action = sign_in.next_action();
        for line in std::mem::take(&mut sign_in.transcript) {
            plain(&line);
            assert!(!line.contains(TOKEN), "{line}");
        }
        match action {
            Action::Read => match pieces.next() {
                Some(piece) => sign_in.feed(piece),
                None => return plain(&sign_in.hung_up().reason),
            },
            Action::Send(bytes) => {
                assert!(bytes.ends_with(b"\r\n"));
                let sent = String::from_utf8(bytes.to_vec()).unwrap();
                sent.split_terminator("\r\n").for_each(plain);
                let packed = sent
                    .split("\r\n")
                    .map(|line| line.trim_start_matches("AUTHENTICATE "));
                let packed = STANDARD
                    .decode(packed.collect::<String>())
                    .unwrap_or_default();
                let has_token = String::from_utf8_lossy(&packed).contains(TOKEN);
                assert!(secure || loopback || !has_token, "a token in clear");
                assert!(!sent.contains(TOKEN));
            }
            Action::StartTls => {
                assert!(!secure, "TLS within TLS");
                secure = true;
                sign_in.secured();
            }
            Action::SignedIn(_) => return assert!(secure || loopback),
            Action::Refused(refusal) => {
                assert!(!refusal.reason.contains(TOKEN));
                return plain(&refusal.reason);
            }
        }
    }
}

fn plain(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// A config is good, or its error is plain text; neither shows a secret.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let said = match config::parse("pizauth.conf", text) {
        Ok(config) => {
            sound(&config);
            format!("{config:?}")
        }
        Err(error) => {
            let said = error.to_string();
            let harmless = |c: char| c == '\n' || !c.is_control();
            assert!(said.chars().all(harmless), "{said:?}");
            assert!(error.line >= 1 && error.column >= 1);
            said
        }
    };
    // Elsewhere in a config the same word is no secret.
    let secret = format!("client_secret = \"{CLIENT_SECRET}\"");
    if text.contains(&secret) && text.matches(CLIENT_SECRET).count() == 1 {
        assert!(!said.contains(CLIENT_SECRET), "{said}");
    }
}

fn sound(config: &config::Config) {
    assert!(!config.accounts.is_empty());
    let mut names = HashSet::new();
    for account in &config.accounts {
        assert!(names.insert(account.name.clone()), "an account twice");
        assert!(!account.name.contains(char::is_control));
        let registration = &account.registration;
        let uri = registration.token_uri.as_ref();
        assert!(uri.is_some() || registration.discovers().is_some());
        if let Some(uri) = uri {
            let local = ["localhost", "127.", "[::1]"];
            let is_local = uri
                .host_str()
                .is_some_and(|host| local.iter().any(|start| host.starts_with(start)));
            assert!(uri.scheme() == "https" || is_local, "{uri}");
            assert_eq!(uri.fragment(), None);
        }
        let policy = &account.policy;
        assert!(policy.refresh_retry > Duration::ZERO && policy.refresh_at_least > Duration::ZERO);
    }
    assert!(config.warnings.iter().all(|line| !line.contains('\n')));
}

/// However a request is cut, it is read the same, and what is read can be written and read again.
pub fn control_frame(data: &[u8]) {
    let whole = wire::take_request(&mut data.to_vec());
    for end in cuts(data) {
        let part = data.get(..end).unwrap_or_default();
        match wire::take_request(&mut part.to_vec()) {
            Ok(None) => {}
            decided => {
                assert_eq!(decided, whole, "cut at {end}");
                break;
            }
        }
    }
    if let Ok(Some(request)) = whole {
        let bytes = wire::encode_request(&request);
        assert_eq!(wire::take_request(&mut bytes.to_vec()), Ok(Some(request)));
    }
}

/// Every length of the first bytes, where the decisions are, then a few.
fn cuts(data: &[u8]) -> impl Iterator<Item = usize> {
    let coarse = (1..=32_usize).map(|part| data.len().saturating_mul(part) / 32);
    (0..data.len().min(300)).chain(coarse)
}

/// What is accepted as a dump is the same after another dump; also when a forger who has read the
/// source made it.
pub fn dump(data: &[u8]) {
    faithful(data);
    // The first line says what the dump's first line is, and the rest what is sealed in it.
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (line, body) = data.split_at(end);
    let forged = dump::seal_text(body.get(1..).unwrap_or_default(), [7; 32]);
    faithful(&forged);
    let sealed = forged.iter().position(|byte| *byte == b'\n');
    faithful(&[line, forged.get(sealed.unwrap()..).unwrap_or_default()].concat());
}

fn faithful(bytes: &[u8]) {
    let Ok(dump) = dump::open(bytes) else {
        return;
    };
    // That it is the original's is written nowhere.
    if dump.grants.iter().all(|saved| !saved.original) {
        assert_eq!(dump::open(&dump::seal(&dump, [7; 32])), Ok(dump));
    }
}

/// A request reads the same however it arrives, and costs no more than its bounds. The first byte
/// says into pieces of which size it is cut.
pub fn http_request(data: &[u8]) {
    let (step, data) = data.split_first().map_or((1, data), |(first, rest)| {
        (usize::from(*first).max(1), rest)
    });
    let fresh = |end: usize| Parser::default().parse(data.get(..end).unwrap_or(data));
    let mut slow = Parser::default();
    let (mut end, mut before) = (0, 0);
    loop {
        let seen = slow.parse(data.get(..end).unwrap_or(data));
        if matches!(seen, Ok(None)) && end < data.len() {
            before = end;
            end = end.saturating_add(step).min(data.len());
            continue;
        }
        return match (seen, fresh(data.len())) {
            (Ok(None), whole) => assert!(matches!(whole, Ok(None)), "a request was missed"),
            (Ok(Some(part)), Ok(Some(whole))) => {
                assert_same(&part, &whole);
                assert!(end == 0 || matches!(fresh(before), Ok(None)), "too late");
            }
            (Ok(Some(_)), _) => panic!("what follows a request changed it"),
            (Err(status), whole) => {
                assert!(whole.is_err(), "a refused request became good");
                assert!(matches!(fresh(end), Err(same) if same == status));
            }
        };
    }
}

fn assert_same(a: &HttpRequest, b: &HttpRequest) {
    let parts = |r: &HttpRequest| [r.path, r.query, r.host, r.body].map(str::to_owned);
    assert_eq!((&a.method, parts(a)), (&b.method, parts(b)));
    assert!(!a.host.is_empty());
    assert!(a.body.is_empty() || a.method == Method::POST);
    assert!(
        a.query
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace())
    );
}

/// An authorization response has all it needs, and reads the same when written again.
pub fn redirect_query(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(callback) = authorization::parse_callback(query) else {
        return;
    };
    let state = callback.state.expose();
    assert!(!state.is_empty());
    let mut again = format!("state={}", escape(state));
    if let Some(iss) = &callback.iss {
        again.push_str(&format!("&iss={}", escape(iss)));
    }
    match &callback.result {
        CallbackResult::Code(code) => {
            assert!(!code.expose().is_empty());
            again.push_str(&format!("&code={}", escape(code.expose())));
        }
        CallbackResult::Error {
            error,
            description,
            uri,
        } => {
            let refusal = authorization::refusal(error, description.as_deref(), uri.as_deref());
            assert_plain(&refusal);
            again.push_str(&format!("&error={}", escape(error)));
            for (name, value) in [("error_description", description), ("error_uri", uri)] {
                if let Some(value) = value {
                    again.push_str(&format!("&{name}={}", escape(value)));
                }
            }
        }
    }
    // A secret that has the mark of a cut in it may make more of what was cut.
    let marked = |secret: &Secret| secret.expose().contains(['[', ']', '%']);
    let marked = marked(&callback.state)
        || matches!(&callback.result, CallbackResult::Code(code) if marked(code));
    if again.len() <= authorization::MAX_CALLBACK_BYTES && !marked {
        assert_eq!(authorization::parse_callback(&again), Ok(callback));
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Whatever a token endpoint answers, there is a verdict, its words are harmless, and its tokens
/// and times are within bounds. The first two bytes are the status, the first lines the headers.
pub fn token_response(data: &[u8]) {
    let (&[high, low], rest) = data.split_first_chunk().unwrap_or((&[0, 200], data));
    let mut parts = rest.splitn(3, |byte| *byte == b'\n');
    let mut line = || {
        let line = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        (!line.is_empty()).then_some(line)
    };
    let (retry_after, location) = (line(), line());
    let outcome = Outcome::Reply(Reply {
        status: u16::from_be_bytes([high, low]),
        retry_after,
        date: None,
        location,
        body: pizauth::secret::SecretBytes::new(parts.next().unwrap_or_default().to_vec()),
        ..Reply::default()
    });
    let endpoint = "https://login.example/token".parse().unwrap();
    let scopes = ["mail".to_owned(), "offline_access".to_owned()];
    let wall = Wall::from_millis(1_700_000_000_000);
    for grant_type in [GrantType::RefreshToken, GrantType::AuthorizationCode] {
        match token::judge(grant_type, &endpoint, &scopes, &outcome, wall) {
            Verdict::Granted(tokens) => {
                let access = tokens.access_token.expose();
                assert!(!access.is_empty() && access.bytes().all(|b| b.is_ascii_graphic()));
                let refresh = tokens.refresh_token.as_ref().map(|token| token.expose());
                assert_ne!(refresh, Some(""));
                let limit = Duration::from_secs(10 * 365 * 86_400);
                assert!(tokens.expires_in.is_none_or(|life| life <= limit));
                tokens
                    .warnings
                    .iter()
                    .for_each(|warning| assert_line(warning));
            }
            Verdict::LoginNeeded(refusal) | Verdict::Parked(refusal) => assert_plain(&refusal),
            Verdict::Transient {
                refusal,
                retry_after,
                ..
            } => {
                assert_eq!(grant_type, GrantType::RefreshToken, "a code is sent once");
                assert_plain(&refusal);
                assert!(retry_after.is_none_or(|span| span <= MAX_RETRY_AFTER));
            }
        }
    }
}

fn assert_plain(refusal: &Refusal) {
    assert_line(&refusal.text);
    refusal.hint.iter().for_each(|hint| assert_line(hint));
}

/// One line of bounded length that no terminal obeys.
pub(crate) fn assert_line(line: &str) {
    // Several sentences of a provider's may be in it.
    assert!(line.chars().count() <= 4_000, "{} bytes", line.len());
    let harmless = |c: char| c == ' ' || sanitize(c.encode_utf8(&mut [0; 4])).starts_with(c);
    assert!(line.chars().all(harmless), "{line:?}");
}
