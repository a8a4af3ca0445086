//! The control socket: who may speak, and one request a connection. Knows no core: what a request
//! means is the [`Handler`]'s.

use std::time::Duration;

use nix::unistd::Uid;

use crate::{
    error::{Exit, Failure},
    paths::{self, Peer},
    serve::{ConnId, Limits, Next, Service, Socket, Unparked},
    wire::{self, Received, Reply, Request, original},
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

/// What follows a request.
#[derive(Debug)]
pub enum Answer {
    /// This, and the end.
    Reply(Reply),
    /// A reply that somebody will send, in so long at most.
    Wait(Duration),
    /// This, and then whatever is published.
    Stream(Reply),
}

/// The listener that gives access to everything; any other is a restricted one.
pub const FULL: usize = 0;

/// Who asks, and through which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// [`FULL`], or the number of a restricted one.
    pub listener: usize,
    /// Whose process it is.
    pub uid: Uid,
    /// Which one, where the system tells.
    pub pid: Option<i32>,
}

/// Answers requests.
pub trait Handler: Send {
    /// A whole request.
    fn request(&mut self, id: ConnId, asker: &Asker, request: Request) -> Answer;

    /// A client isn't kept waiting any longer: its last words.
    fn unparked(&mut self, id: ConnId, why: Unparked) -> Reply;

    /// A client that waited is gone, answered or not.
    fn left(&mut self, id: ConnId);
}

/// The control socket's protocol, for [`crate::serve::run`].
pub struct Control<H> {
    handler: H,
    user: Uid,
}

/// One client.
pub struct Client {
    id: ConnId,
    asker: Asker,
    waits: bool,
}

impl<H: Handler> Control<H> {
    /// `handler` answers the requests of this user's processes, and through restricted listeners
    /// those of root, who may be in a container; nobody else is heard.
    pub fn new(handler: H) -> Self {
        Control {
            handler,
            user: Uid::effective(),
        }
    }
}

impl<H: Handler> Service for Control<H> {
    type Conn = Client;

    fn connected(&mut self, id: ConnId, listener: usize, peer: &Socket) -> Option<Client> {
        match paths::peer(peer) {
            Some(Peer { uid, pid }) if uid == self.user || (listener != FULL && uid.is_root()) => {
                let asker = Asker { listener, uid, pid };
                Some(Client {
                    id,
                    asker,
                    waits: false,
                })
            }
            Some(Peer { uid, .. }) => {
                log::warn!("refused a client of uid {uid} on the control socket");
                None
            }
            None => {
                log::warn!("refused a client of unknown uid on the control socket");
                None
            }
        }
    }

    fn received(&mut self, client: &mut Client, input: &mut Vec<u8>, end: bool) -> Next {
        if let Some(refusal) = original::refuse(input) {
            return match refusal {
                [] => Next::Close,
                words => Next::Reply(words.to_vec()),
            };
        }
        let answer = match wire::take_request(input) {
            Received::Part if !end => return Next::More,
            Received::Part => Answer::Reply(failure("the request is incomplete")),
            Received::Bad(why) => Answer::Reply(failure(&why)),
            Received::Whole(request) => self.handler.request(client.id, &client.asker, request),
        };
        client.waits = !matches!(answer, Answer::Reply(_));
        match answer {
            Answer::Reply(reply) => Next::Reply(encode(&reply)),
            Answer::Wait(limit) => Next::Park(Some(limit)),
            Answer::Stream(reply) => Next::Stream(encode(&reply)),
        }
    }

    fn unparked(&mut self, client: &mut Client, why: Unparked) -> Vec<u8> {
        encode(&self.handler.unparked(client.id, why))
    }

    fn closed(&mut self, client: Client) {
        if client.waits {
            self.handler.left(client.id);
        }
    }
}

/// The bytes of a reply; the connection wipes them when they are sent.
pub fn encode(reply: &Reply) -> Vec<u8> {
    std::mem::take(&mut *wire::encode_reply(reply))
}

fn failure(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
