//! The control socket: who may speak, and one request and reply a connection. Knows no core: what
//! a request means is the caller's closure.

use std::time::Duration;

use nix::unistd::Uid;

use crate::{
    error::{Exit, Failure},
    paths::{self, peer_uid},
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

/// Answers one request.
pub type Handler = Box<dyn Fn(&Asker, Request) -> Reply + Send>;

/// The control socket's protocol, for [`crate::serve::run`].
pub struct Control {
    handler: Handler,
}

impl Control {
    /// `handler` answers the requests of this user's processes, and through restricted listeners
    /// those of root, who may be in a container; nobody else is heard.
    pub fn new(handler: Handler) -> Self {
        Control { handler }
    }
}

impl Service for Control {
    type Conn = Asker;

    fn connected(&mut self, _id: ConnId, listener: usize, peer: &Socket) -> Option<Asker> {
        let pid = paths::peer_pid(peer);
        match peer_uid(peer) {
            Some(uid) if uid == Uid::effective() || (listener != FULL && uid.is_root()) => {
                Some(Asker { listener, uid, pid })
            }
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

    fn received(&mut self, asker: &mut Asker, input: &mut Vec<u8>, end: bool) -> Next {
        let reply = match wire::parse_request(input) {
            Received::Part if !end => return Next::More,
            Received::Part => failure("the request is incomplete"),
            Received::Bad(why) => failure(&why),
            Received::Whole(request) => (self.handler)(asker, request),
        };
        Next::Reply(std::mem::take(&mut *wire::encode_reply(&reply)))
    }
}

fn failure(why: &str) -> Reply {
    Reply::Failure(Failure::new(Exit::Other, why))
}
