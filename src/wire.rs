//! The control socket's language, for both ends.
//!
//! A client sends one request and reads one reply, each a line of words and a body of so many
//! bytes:
//!
//! ```text
//! pizauth 1 show 18\n{"account":"work"}
//! pizauth 1 0 5\ntoken
//! ```
//!
//! `watch` is answered by a row of replies, one an event, until either end leaves.
//!
//! The second word is the protocol's version, bumped by hand. The third is the verb, or in a reply
//! the exit code (0, or one of [`crate::error::Exit`] with the error's text as the body). A
//! request's body is a JSON object with the verb's arguments, except that of `restore`, which is
//! a dump. A reply that ends before its length is an error, never a short success.

pub mod original;

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Exit, Failure},
    form::Form,
    secret::{Secret, SecretBytes, plain},
};

/// The version spoken here.
pub const VERSION: &str = "1";

/// How long a first line may be, in bytes: the longest that this version writes is 40.
const MAX_HEAD_BYTES: usize = 128;

/// How much of a reply a client takes before it knows the length, in bytes: most tokens fit, and
/// all of it is made room for and wiped, whatever comes.
const FIRST_READ_BYTES: usize = 2048;

/// How much of a reply a client makes room for at a time, whatever length it was told.
const MAX_READ_BYTES: usize = 1 << 20;

/// How large a request may be, in bytes, `restore` aside: an account's name fits many times.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// How large a dump sent with `restore` may be, in bytes: 10,000 accounts with tokens of two
/// kilobytes each fit.
pub const MAX_RESTORE_BYTES: usize = 64 << 20;

/// How large a request on a restricted socket may be, in bytes: an account, a user and a host.
pub const MAX_RESTRICTED_BYTES: usize = 4 << 10;

/// How much of requests may be held at once, in bytes: one `restore` of any size, and all others of
/// an ordinary one.
pub const MAX_ARRIVING_BYTES: usize = MAX_RESTORE_BYTES + (4 << 20);

/// The reply to [`Request::Await`] when the sign-in is still pending: ask again.
pub const STILL_PENDING: &str = "pending";

/// What a server does that has been stopped, or hangs.
const SILENCE: &str = "the server doesn't answer";

/// What a server does that was killed, or has no room.
pub const HUNG_UP: &str = "trouble with the server: it hung up before it had answered";

/// The same within an answer.
pub const INCOMPLETE: &str = "trouble with the server: its answer is incomplete";

/// Why a client that waits is sent away while another program takes the server's place: ask again.
pub const RESTARTING: &str = "the server is just being restarted";

/// Why there is no token: nobody has signed in, which one does there, if that is to be said. Scripts
/// look for these words.
pub fn unavailable(uri: Option<&str>) -> String {
    const WHAT: &str = "Access token unavailable until authorised";
    match uri {
        Some(uri) if !uri.is_empty() => format!("{WHAT} with URL {uri}"),
        _ => WHAT.into(),
    }
}

/// What both ends say of a line that is none of theirs.
const FOREIGN: &str = "this is not pizauth's protocol";

/// What a server says of a verb that it doesn't know.
pub const UNKNOWN: &str = "unknown request: is the client newer than the server?";

/// Why a restricted socket answers nothing of what it doesn't know at all.
pub const NOT_ALLOWED: &str = "this socket doesn't allow that";

/// Declares what a client may ask: each request with its name on the wire (the command that sends it
/// has the same, if there is one) and, if it has any, its arguments, which are a JSON object.
macro_rules! requests {
    ($($(#[$doc:meta])* $verb:literal => $name:ident $(($args:ident: $type:ty))?;)*) => {
        /// What a client asks.
        #[derive(Debug, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $name $(($type))?,)*
            /// Take over this dump.
            Restore(SecretBytes),
        }

        /// The name of every request.
        const VERBS: &[&str] = &[RESTORE, $($verb),*];

        impl Request {
            /// As it is called on the wire.
            pub fn verb(&self) -> &'static str {
                match self {
                    Request::Restore(_) => RESTORE,
                    $(Request::$name { .. } => $verb,)*
                }
            }

            fn of(verb: &str, body: Vec<u8>) -> Result<Self, String> {
                match verb {
                    RESTORE => Ok(Request::Restore(SecretBytes::new(body))),
                    $($verb => Ok(Request::$name $((args::<$type>(verb, &body)?))?),)*
                    _ => Err(UNKNOWN.into()),
                }
            }
        }

        /// The request as bytes.
        pub fn encode_request(request: &Request) -> SecretBytes {
            match request {
                Request::Restore(dump) => frame(RESTORE, dump),
                $(Request::$name $(($args))? => {
                    let json: Option<SecretBytes> = [$(json($args))?].into_iter().next();
                    frame($verb, &json.unwrap_or_default())
                })*
            }
        }
    };
}

/// The name of the request whose body isn't JSON.
const RESTORE: &str = "restore";

requests! {
    /// Start a sign-in or join one; the reply is a [`crate::view::SignInStart`].
    "auth" => Auth(args: AuthArgs);
    /// Wait for the end of the sign-in.
    "await" => Await(args: AuthArgs);
    /// Every token, sealed.
    "dump" => Dump;
    /// A refresh token of another program.
    "import" => Import(args: ImportArgs);
    /// What this server is, as JSON.
    "info" => Info;
    /// An authorization response, pasted.
    "redirect" => Redirect(args: RedirectArgs);
    /// A new token now.
    "refresh" => Refresh(args: ShowArgs);
    /// Read the config again.
    "reload" => Reload;
    /// Become the program that is there now.
    "restart" => Restart;
    /// Forget an account's tokens.
    "revoke" => Revoke(args: RevokeArgs);
    /// Have `state_save_cmd` save the state now.
    "save" => Save;
    /// The access token.
    "show" => Show(args: ShowArgs);
    /// End the server.
    "shutdown" => Shutdown;
    /// Every account, as JSON.
    "status" => Status;
    /// What happens from now on, each as JSON.
    "watch" => Watch;
}

/// The arguments of `auth` and `await`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthArgs {
    /// The account's name.
    pub account: String,
    /// Don't start a sign-in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub join: bool,
    /// Don't wait for an issuer that has failed to say where to sign in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_wait: bool,
    /// This client opens a browser: don't run `auth_notify_cmd` for this sign-in yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opens: bool,
}

/// The arguments of `revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeArgs {
    /// The account's name.
    pub account: String,
    /// Don't tell the provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
}

/// The arguments of `redirect`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedirectArgs {
    /// Where the browser was sent, or the code that it shows there.
    #[serde(with = "plain")]
    pub address: Secret,
    /// Whose sign-in it is, if it is a bare code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

/// The arguments of `import`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportArgs {
    /// The account's name.
    pub account: String,
    /// The token.
    #[serde(with = "plain")]
    pub refresh_token: Secret,
}

/// The arguments of `show`, and of `refresh`, which takes no more than the first two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowArgs {
    /// The account's name.
    pub account: String,
    /// Leave the authorisation URL out of the error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_url: bool,
    /// Wait at most so long for a token, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_secs: Option<u64>,
    /// Only a token that is valid so long, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_valid_secs: Option<u64>,
    /// What the token is to look like.
    #[serde(flatten)]
    pub form: Form,
}

impl ShowArgs {
    /// Whom the token is for, where that has to be said.
    pub fn user(&self) -> Option<&str> {
        self.form.user.as_deref()
    }
}

/// What the server answers.
#[derive(Debug)]
pub enum Reply {
    /// Done; the body is what the verb prints.
    Bytes(SecretBytes),
    /// Done; the body is this token.
    Token(Arc<Secret>),
    /// Not done.
    Failure(Failure),
}

impl Reply {
    /// Done, with nothing to print.
    pub fn done() -> Self {
        Reply::text(String::new())
    }

    /// Done, with this to print.
    pub fn text(text: String) -> Self {
        Reply::Bytes(SecretBytes::new(text.into_bytes()))
    }
}

/// The verb and the body's length of the request that `input` begins with, once its first line is
/// here. What follows needn't be taken to say no.
///
/// # Errors
/// Why it is none of this version.
pub fn request_head(input: &[u8]) -> Result<Option<(&'static str, usize)>, String> {
    let Some((verb, length, _)) = split_head(input)? else {
        return Ok(None);
    };
    let verb = (VERBS.iter().copied().find(|known| *known == verb)).ok_or(UNKNOWN)?;
    let limit = match verb {
        RESTORE => MAX_RESTORE_BYTES,
        _ => MAX_REQUEST_BYTES,
    };
    if length > limit {
        return Err(format!("a request of {length} bytes is too large"));
    }
    Ok(Some((verb, length)))
}

/// Takes the request at the beginning of `input`. Of one that is still arriving, a full `input` gets
/// room for as much again as is there, and no more than it lacks: what is announced may never come,
/// and what is freed has to be wiped. `None` when it isn't whole yet.
///
/// # Errors
/// As those of [`request_head`], and why what follows is no request.
pub fn take_request(input: &mut Vec<u8>) -> Result<Option<Request>, String> {
    let Some((verb, length)) = request_head(input)? else {
        return Ok(None);
    };
    let body = split_head(input)?.map_or(0, |(_, _, body)| body.len());
    let missing = length.saturating_sub(body);
    if missing > 0 {
        if input.len() == input.capacity() {
            let room = input.try_reserve_exact(missing.min(input.len()));
            room.map_err(|_| "there is no memory for so large a request")?;
        }
        return Ok(None);
    }
    // Not copied, for the same reason.
    input.drain(..input.len().saturating_sub(body));
    input.truncate(length);
    Request::of(verb, std::mem::take(input)).map(Some)
}

fn args<'a, T: Deserialize<'a>>(verb: &str, body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("bad arguments of `{verb}`: {error}"))
}

fn json(args: &impl Serialize) -> SecretBytes {
    // A struct of strings, numbers and flags always serialises.
    SecretBytes::new(serde_json::to_vec(args).unwrap_or_default())
}

/// The reply as bytes.
pub fn encode_reply(reply: &Reply) -> SecretBytes {
    match reply {
        Reply::Bytes(body) => frame("0", body),
        Reply::Token(token) => frame("0", token.expose().as_bytes()),
        Reply::Failure(failure) => frame(
            &failure.exit.code().to_string(),
            failure.to_string().as_bytes(),
        ),
    }
}

/// How much is written at a time: the kernel takes so much whole or not at all, so that a limit of
/// time holds for all of a request, and not once more after a part of it.
const PIECE_BYTES: usize = 16 << 10;

/// Sends `request`.
pub fn send(stream: &mut impl Write, request: &Request) -> Result<(), Failure> {
    encode_request(request)
        .chunks(PIECE_BYTES)
        .try_for_each(|piece| stream.write_all(piece))
        // A server that has already answered (say, "too many clients") is worth hearing.
        .or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
            // As a socket says that has a timeout.
            io::ErrorKind::WouldBlock => Err(silence()),
            _ => Err(trouble(&error.to_string())),
        })
}

/// Reads the only reply's body, and no further: to wait for the server to hang up costs another turn.
/// What has come stays in `input` when it fails, so that after a silence one can go on.
pub fn receive(stream: &mut impl Read, input: &mut SecretBytes) -> Result<SecretBytes, Failure> {
    let body = receive_next(stream, input)?;
    match input.is_empty() {
        true => Ok(body),
        false => Err(Failure::new(Exit::NoServer, INCOMPLETE)),
    }
}

/// The same for a reply that others may follow: what has come of them stays in `input`.
pub fn receive_next(
    stream: &mut impl Read,
    input: &mut SecretBytes,
) -> Result<SecretBytes, Failure> {
    loop {
        let (missing, end) = measure(input).map_err(|why| trouble(&why))?;
        let have = input.len();
        input.resize(have.saturating_add(missing.min(MAX_READ_BYTES)), 0);
        let read = match input.get_mut(have..).unwrap_or_default() {
            [] => Ok(0),
            room => stream.read(room),
        };
        input.truncate(have.saturating_add(*read.as_ref().unwrap_or(&0)));
        let whole = match read.map_err(|error| (error.kind(), error)) {
            Ok(count) => count == 0,
            Err((io::ErrorKind::Interrupted, _)) => false,
            // As a socket says that has a timeout.
            Err((io::ErrorKind::WouldBlock, _)) => return Err(silence()),
            // It was killed before it had read all.
            Err((io::ErrorKind::ConnectionReset, _)) => true,
            Err((_, error)) => return Err(trouble(&error.to_string())),
        };
        if whole {
            // Whole, or the server has hung up: what has come by then says which.
            let rest = SecretBytes::new(input.split_off(end));
            let body = parse_reply(input)?;
            *input = rest;
            return Ok(body);
        }
    }
}

/// A server has been waited for in vain.
pub fn silence() -> Failure {
    Failure::new(Exit::TryLater, SILENCE).hint("is it stopped, or the machine overloaded?")
}

/// Whether [`receive`] has only waited too long.
pub fn is_silence(failure: &Failure) -> bool {
    failure.what == SILENCE
}

/// How many bytes of a reply aren't here yet, a guess as long as its head isn't; and where it ends in
/// what is here.
fn measure(input: &[u8]) -> Result<(usize, usize), String> {
    Ok(match split_head(input)? {
        None => (FIRST_READ_BYTES, input.len()),
        Some((_, length, body)) => {
            let beyond = body.len().saturating_sub(length);
            let missing = length.saturating_sub(body.len());
            (missing, input.len().saturating_sub(beyond))
        }
    })
}

/// The body of a whole reply, which `input` is; it stays what it is when that fails.
///
/// # Errors
/// The server's own, or why this is no reply.
pub fn parse_reply(input: &mut SecretBytes) -> Result<SecretBytes, Failure> {
    let (code, length, body) = match split_head(input) {
        Ok(Some(head)) => head,
        Ok(None) => return Err(Failure::new(Exit::NoServer, HUNG_UP)),
        Err(why) => return Err(trouble(&why)),
    };
    if body.len() != length {
        return Err(Failure::new(Exit::NoServer, INCOMPLETE));
    }
    let start = input.len().saturating_sub(length);
    match code {
        "0" => {
            input.drain(..start);
            Ok(std::mem::take(input))
        }
        code => Err(Failure::parse(code, &String::from_utf8_lossy(body))),
    }
}

/// The third word of a first line, the body's length, and what there is of the body.
type Head<'a> = (&'a str, usize, &'a [u8]);

/// The first line's words, once it is whole.
fn split_head(input: &[u8]) -> Result<Option<Head<'_>>, String> {
    let window = input.get(..MAX_HEAD_BYTES).unwrap_or(input);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match input.len() < MAX_HEAD_BYTES {
            true => Ok(None),
            false => Err(FOREIGN.into()),
        };
    };
    let (line, body) = input.split_at(end);
    let mut words = std::str::from_utf8(line).unwrap_or_default().split(' ');
    let mut word = || words.next().unwrap_or_default();
    if word() != "pizauth" {
        return Err(FOREIGN.into());
    }
    if word() != VERSION {
        return Err("client and server speak different versions of the protocol".into());
    }
    let third = word();
    let length = word().parse().map_err(|_| FOREIGN)?;
    Ok(Some((third, length, body.get(1..).unwrap_or_default())))
}

fn frame(word: &str, body: &[u8]) -> SecretBytes {
    let head = format!("pizauth {VERSION} {word} {}\n", body.len());
    SecretBytes::new([head.as_bytes(), body].concat())
}

fn trouble(why: &str) -> Failure {
    Failure::new(Exit::NoServer, format!("trouble with the server: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Format;

    fn account() -> ShowArgs {
        ShowArgs {
            account: "wörk \"x\"\n".into(),
            no_url: true,
            ..ShowArgs::default()
        }
    }

    #[test]
    fn every_request_survives_the_wire_whole_and_no_part_of_it_does() {
        let auth = AuthArgs {
            account: "work".into(),
            join: true,
            no_wait: true,
            opens: false,
        };
        for request in [
            Request::Auth(auth.clone()),
            Request::Await(auth),
            Request::Dump,
            Request::Info,
            Request::Redirect(RedirectArgs {
                address: Secret::new("http://localhost/?code=ä".into()),
                account: Some("work".into()),
            }),
            Request::Refresh(account()),
            Request::Reload,
            Request::Restart,
            Request::Restore(SecretBytes::new(b"any\nbytes\0".to_vec())),
            Request::Revoke(RevokeArgs {
                account: "work".into(),
                local: true,
            }),
            Request::Save,
            Request::Show(ShowArgs::default()),
            Request::Show(ShowArgs {
                account: "work".into(),
                no_url: true,
                wait_secs: Some(30),
                min_valid_secs: Some(600),
                form: Form {
                    format: Format::Oauthbearer,
                    id_token: true,
                    user: Some("me".into()),
                    host: Some("imap.example.com".into()),
                    port: Some(993),
                },
            }),
            Request::Shutdown,
            Request::Status,
            Request::Watch,
        ] {
            let bytes = encode_request(&request);
            let head = String::from_utf8_lossy(&bytes);
            let verb = head.split([' ', '\n']).nth(2).unwrap();
            let manual = include_str!("../pizauth.sock.7");
            assert!(manual.contains(&format!("\n.It Ic {verb}\n")), "{verb}");
            let mut input = Vec::new();
            for byte in bytes.iter() {
                assert_eq!(take_request(&mut input), Ok(None));
                input.push(*byte);
            }
            assert_eq!(take_request(&mut input), Ok(Some(request)));
        }
    }

    // Each time that it moves, all of it is copied and wiped.
    #[test]
    fn a_long_request_that_comes_in_many_pieces_moves_a_few_times() {
        let dump = SecretBytes::new(vec![0x80; 1 << 20]);
        let bytes = encode_request(&Request::Restore(dump));
        let (mut input, mut moved, mut whole) = (Vec::new(), 0, None);
        for piece in bytes.chunks(512) {
            let room = input.capacity();
            input.extend_from_slice(piece);
            whole = take_request(&mut input).unwrap();
            moved += u32::from(input.capacity() > room);
        }
        assert!(whole.is_some());
        // It doubles: from 512 bytes to 1 MiB that is eleven times, and twice at the beginning.
        assert!(moved <= 13, "{moved} times");
    }

    #[test]
    fn a_plain_show_says_no_more_than_its_account_and_unknown_arguments_are_ignored() {
        let plain = ShowArgs {
            account: "work".into(),
            ..ShowArgs::default()
        };
        let bytes = encode_request(&Request::Show(plain.clone()));
        assert_eq!(
            bytes.as_slice(),
            b"pizauth 1 show 18\n{\"account\":\"work\"}"
        );
        let newer = b"pizauth 1 show 28\n{\"account\":\"work\",\"new\":[1]}";
        assert_eq!(
            take_request(&mut newer.to_vec()),
            Ok(Some(Request::Show(plain)))
        );
    }

    /// Hands out one piece a read, and what `end` says after the last.
    struct Pieces<'a>(Vec<&'a [u8]>, Option<io::ErrorKind>);

    impl Read for Pieces<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match (self.0.is_empty(), self.1) {
                (true, Some(kind)) => Err(kind.into()),
                (true, None) => Ok(0),
                (false, _) => self.0.remove(0).read(room),
            }
        }
    }

    #[test]
    fn a_reply_is_taken_wherever_it_is_cut_and_nothing_is_waited_for_after_it() {
        let reply = encode_reply(&Reply::text("a token".into()));
        for cut in 1..reply.len() {
            let (head, tail) = reply.split_at(cut);
            let wait = Some(io::ErrorKind::TimedOut);
            let body = receive(
                &mut Pieces(vec![head, tail], wait),
                &mut SecretBytes::default(),
            )
            .unwrap();
            assert_eq!(body.as_slice(), b"a token");
            assert!(receive(&mut Pieces(vec![head], None), &mut SecretBytes::default()).is_err());
        }
        let late = receive(
            &mut Pieces(vec![&reply, b"!"], None),
            &mut SecretBytes::default(),
        )
        .unwrap();
        assert_eq!(late.as_slice(), b"a token");
        let both = [&reply[..], b"!"].concat();
        assert!(receive(&mut Pieces(vec![&both], None), &mut SecretBytes::default()).is_err());
    }

    #[test]
    fn a_row_of_replies_comes_apart_wherever_it_is_cut() {
        let mut row = encode_reply(&Reply::text("one".into())).to_vec();
        row.extend_from_slice(&encode_reply(&Reply::text(String::new())));
        let end = Failure::new(Exit::NoServer, "gone");
        row.extend_from_slice(&encode_reply(&Reply::Failure(end.clone())));
        for cut in 1..row.len() {
            let mut replies = row[..cut].chain(&row[cut..]);
            let mut input = SecretBytes::default();
            let heard = [(); 3].map(|()| {
                let body = receive_next(&mut replies, &mut input);
                body.map(|body| body.to_vec())
            });
            let row = [Ok(b"one".to_vec()), Ok(Vec::new()), Err(end.clone())];
            assert_eq!(heard, row, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        let long = [b'x'; MAX_HEAD_BYTES];
        for (bytes, why) in [
            (&b"GET / HTTP/1.1\r\n"[..], "this is not pizauth's protocol"),
            (&long, "this is not pizauth's protocol"),
            (b"\xff\n", "this is not pizauth's protocol"),
            (b"pizauth 1 show many\n", "this is not pizauth's protocol"),
            (
                b"pizauth 2 show 0\n",
                "client and server speak different versions of the protocol",
            ),
            (
                b"pizauth 1 frob 0\n",
                "unknown request: is the client newer than the server?",
            ),
            (
                b"pizauth 1 show 65537\n",
                "a request of 65537 bytes is too large",
            ),
            (
                b"pizauth 1 restore 67108865\n",
                "a request of 67108865 bytes is too large",
            ),
        ] {
            assert_eq!(take_request(&mut bytes.to_vec()), Err(why.into()));
        }
        let Err(why) = take_request(&mut b"pizauth 1 show 2\n{}".to_vec()) else {
            panic!("accepted");
        };
        assert!(
            why.starts_with("bad arguments of `show`: missing field `account`"),
            "{why}"
        );
    }

    #[test]
    fn replies_come_back_and_a_short_one_is_an_error() {
        let token = Reply::Token(Arc::new(Secret::new("t0ken".into())));
        let bytes = encode_reply(&token);
        let mut whole = SecretBytes::new(bytes.to_vec());
        assert_eq!(parse_reply(&mut whole).unwrap().as_slice(), b"t0ken");
        for end in 0..bytes.len() {
            let mut cut = SecretBytes::new(bytes[..end].to_vec());
            let failure = parse_reply(&mut cut).unwrap_err();
            assert_eq!(failure.exit, Exit::NoServer);
            // So that one can tell what else it is.
            assert_eq!(cut.as_slice(), &bytes[..end]);
        }
        let failure = Failure::new(Exit::TryLater, "what").hint("do this");
        let mut bytes = encode_reply(&Reply::Failure(failure.clone()));
        assert_eq!(parse_reply(&mut bytes).unwrap_err(), failure);
    }
}
