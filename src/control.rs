//! The control socket: who may speak, and one request and reply a connection. Knows no core: what
//! a request means is the caller's closure.

use std::time::Duration;

use nix::unistd::Uid;

use crate::{
    error::{Exit, Failure},
    paths::peer_uid,
    serve::{ConnId, Limits, Next, Service, Socket, Unparked},
    wire::{self, Received, Reply, Request},
};

/// What the socket may cost: connections for a machine full of mail programs that all start at
/// once, a dump to restore, and five seconds for what takes a millisecond.
pub const LIMITS: Limits = Limits {
    max_connections: 2048,
    max_parked: 4096,
    max_input: wire::MAX_RESTORE_BYTES + 256,
    read_timeout: Duration::from_secs(5),
    write_timeout: Duration::from_secs(5),
};

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// This reply, now.
    Now(Reply),
    /// The reply that [`crate::serve::Remote::send`] brings, at the latest after so long; then the one
    /// given here.
    Wait(Duration, Reply),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Answer::Now(reply)
    }
}

/// Answers one request; the connection is named for those who answer later.
pub type Handler = Box<dyn Fn(ConnId, Request) -> Answer + Send>;

/// The control socket's protocol, for [`crate::serve::run`].
pub struct Control {
    handler: Handler,
}

impl Control {
    /// `handler` answers the requests of this user's processes; nobody else is heard.
    pub fn new(handler: Handler) -> Self {
        Control { handler }
    }
}

/// A client.
pub struct Conn {
    id: ConnId,
    /// What it hears if nothing else comes.
    last_words: Option<Reply>,
}

impl Service for Control {
    type Conn = Conn;

    fn connected(&mut self, id: ConnId, _listener: usize, peer: &Socket) -> Option<Conn> {
        match peer_uid(peer) {
            Some(uid) if uid == Uid::effective() => Some(Conn {
                id,
                last_words: None,
            }),
            Some(uid) => {
                log::warn!("refused a client of uid {uid} on the control socket");
                None
            }
            None => {
                log::warn!("refused a client of unknown uid on the control socket");
                None
            }
        }
    }

    fn received(&mut self, conn: &mut Conn, input: &mut Vec<u8>, end: bool) -> Next {
        let answer = match wire::parse_request(input) {
            Received::Part if !end => return Next::More,
            Received::Part => failure("the request is incomplete").into(),
            Received::Bad(why) => failure(&why).into(),
            Received::Whole(request) => (self.handler)(conn.id, request),
        };
        match answer {
            Answer::Now(reply) => Next::Reply(encoded(&reply)),
            Answer::Wait(limit, last_words) => {
                conn.last_words = Some(last_words);
                Next::Park(Some(limit))
            }
        }
    }

    fn unparked(&mut self, conn: &mut Conn, why: Unparked) -> Vec<u8> {
        let reply = match (why, conn.last_words.take()) {
            (Unparked::Deadline, Some(reply)) => reply,
            (Unparked::Deadline, None) => failure("it took too long"),
            (Unparked::Crowded, _) => failure("too many clients are waiting"),
            (Unparked::Stopping, _) => failure("the server is ending"),
        };
        encoded(&reply)
    }
}

/// A reply as bytes, for [`crate::serve::Remote::send`].
pub fn encoded(reply: &Reply) -> Vec<u8> {
    std::mem::take(&mut *wire::encode_reply(reply))
}

fn failure(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
