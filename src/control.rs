//! The control socket: who may speak, and one request and reply a connection. Knows no core: what
//! a request means is the caller's closure.

use std::time::Duration;

use nix::unistd::Uid;

use crate::{
    error::{Exit, Failure},
    paths::peer_uid,
    serve::{ConnId, Limits, Next, Service, Socket},
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

/// Answers one request.
pub type Handler = Box<dyn Fn(Request) -> Reply + Send>;

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

impl Service for Control {
    type Conn = ();

    fn connected(&mut self, _id: ConnId, _listener: usize, peer: &Socket) -> Option<()> {
        match peer_uid(peer) {
            Some(uid) if uid == Uid::effective() => Some(()),
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

    fn received(&mut self, (): &mut (), input: &mut Vec<u8>, end: bool) -> Next {
        let reply = match wire::parse_request(input) {
            Received::Part if !end => return Next::More,
            Received::Part => failure("the request is incomplete"),
            Received::Bad(why) => failure(&why),
            Received::Whole(request) => (self.handler)(request),
        };
        Next::Reply(std::mem::take(&mut *wire::encode_reply(&reply)))
    }
}

fn failure(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
