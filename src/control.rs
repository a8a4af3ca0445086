//! The control socket: who may speak, and one request a connection. Knows no core: what a request
//! means is the [`Handler`]'s.

use std::time::Duration;

use nix::unistd::Uid;

use crate::{
    error::{Exit, Failure},
    paths::{self, Peer},
    serve::{ConnId, Limits, Next, Service, Share, Socket, Unparked},
    wire::{self, Reply, Request, original},
};

/// How many descriptors clients leave to the redirect port, providers, commands and files, if there
/// are twice as many.
const OTHER_DESCRIPTORS: usize = 1024;

/// What the sockets may cost a server with so many descriptors: connections for a machine full of
/// mail programs that all start at once, a dump to restore, and five seconds for what takes a
/// millisecond. Restricted sockets have a third of what the user's own has.
pub fn limits(descriptors: usize) -> Limits {
    let clients = descriptors.saturating_sub(OTHER_DESCRIPTORS.min(descriptors / 2));
    let share = |divisor: usize, most: usize| Share {
        connections: clients.checked_div(divisor).unwrap_or(0).clamp(1, most),
        parked: (clients.checked_div(divisor).unwrap_or(0).saturating_mul(2))
            .clamp(1, most.saturating_mul(2)),
    };
    Limits {
        first: share(4, 2048),
        others: share(12, 512),
        max_input: wire::MAX_RESTORE_BYTES + 256,
        read_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(5),
    }
}

/// What follows a request.
#[derive(Debug)]
pub enum Answer<W> {
    /// This, and the end.
    Reply(Reply),
    /// A reply that somebody will send, in so long at most; what is waited for.
    Wait(Duration, W),
    /// This, and then whatever is published.
    Stream(Reply),
}

impl<W> From<Reply> for Answer<W> {
    fn from(reply: Reply) -> Self {
        Answer::Reply(reply)
    }
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
    /// What a client waits for.
    type Waiting: Send;

    /// Whether a request with this verb may be asked there, before the rest of it is taken.
    ///
    /// # Errors
    /// The refusal.
    fn permit(&mut self, asker: &Asker, verb: &str) -> Result<(), Reply>;

    /// A whole request.
    fn request(&mut self, id: ConnId, asker: &Asker, request: Request) -> Answer<Self::Waiting>;

    /// A client that waits for this, or for whatever is published, isn't kept waiting any longer: its
    /// last words.
    fn unparked(&mut self, waiting: Option<&mut Self::Waiting>, why: Unparked) -> Reply;

    /// A client that waited for this is gone, answered or not.
    fn left(&mut self, id: ConnId, waiting: Self::Waiting);
}

/// The control socket's protocol, for [`crate::serve::run`].
pub struct Control<H> {
    handler: H,
    user: Uid,
    /// How many bytes of requests are held, of all clients.
    arriving: usize,
}

/// One client.
pub struct Client<W> {
    id: ConnId,
    asker: Asker,
    /// What it waits for.
    waiting: Option<W>,
    /// What it asks is known and permitted.
    permitted: bool,
    /// How many bytes it has sent, or had sent when its request was whole.
    arriving: usize,
}

impl<H: Handler> Control<H> {
    /// `handler` answers the requests of this user's processes, and through restricted listeners
    /// those of root, who may be in a container; nobody else is heard.
    pub fn new(handler: H) -> Self {
        Control {
            handler,
            user: Uid::effective(),
            arriving: 0,
        }
    }

    /// Whether more of a request is to be taken, as far as it has arrived.
    fn judge(&mut self, client: &mut Client<H::Waiting>, input: &[u8]) -> Result<(), Reply> {
        let others = self.arriving.saturating_sub(client.arriving);
        client.arriving = input.len();
        self.arriving = others.saturating_add(input.len());
        if self.arriving > wire::MAX_ARRIVING_BYTES && input.len() > wire::MAX_REQUEST_BYTES + 256 {
            let why = "too much is being sent to the server at once";
            return Err(Reply::Failure(Failure::new(Exit::TryLater, why)));
        }
        if client.permitted {
            return Ok(());
        }
        let head = wire::request_head(input).map_err(|why| failure(&why))?;
        if let Some((verb, length)) = head {
            self.handler.permit(&client.asker, verb)?;
            if client.asker.listener != FULL && length > wire::MAX_RESTRICTED_BYTES {
                return Err(failure(&format!(
                    "a request of {length} bytes is too large"
                )));
            }
            client.permitted = true;
        }
        Ok(())
    }
}

impl<H: Handler> Service for Control<H> {
    type Conn = Client<H::Waiting>;

    fn connected(&mut self, id: ConnId, listener: usize, peer: &Socket) -> Option<Self::Conn> {
        match paths::peer(peer) {
            Some(Peer { uid, pid }) if uid == self.user || (listener != FULL && uid.is_root()) => {
                let asker = Asker { listener, uid, pid };
                Some(Client {
                    id,
                    asker,
                    waiting: None,
                    permitted: false,
                    arriving: 0,
                })
            }
            other => {
                let uid = other.map_or("unknown uid".into(), |it| format!("uid {}", it.uid));
                log::warn!("refused a client of {uid} on the control socket");
                None
            }
        }
    }

    fn received(&mut self, client: &mut Self::Conn, input: &mut Vec<u8>, end: bool) -> Next {
        if let Some(refusal) = original::refuse(input) {
            return match refusal {
                [] => Next::Close,
                words => Next::Reply(words.to_vec()),
            };
        }
        if let Err(refusal) = self.judge(client, input) {
            return Next::Reply(encode(&refusal));
        }
        let answer = match wire::take_request(input) {
            Ok(None) if !end => return Next::More,
            Ok(None) => failure("the request is incomplete").into(),
            Err(why) => failure(&why).into(),
            Ok(Some(request)) => self.handler.request(client.id, &client.asker, request),
        };
        match answer {
            Answer::Reply(reply) => Next::Reply(encode(&reply)),
            Answer::Wait(limit, waiting) => {
                client.waiting = Some(waiting);
                Next::Park(Some(limit))
            }
            Answer::Stream(reply) => Next::Stream(encode(&reply)),
        }
    }

    fn unparked(&mut self, client: &mut Self::Conn, why: Unparked) -> Vec<u8> {
        encode(&self.handler.unparked(client.waiting.as_mut(), why))
    }

    fn closed(&mut self, client: Self::Conn) {
        self.arriving = self.arriving.saturating_sub(client.arriving);
        if let Some(waiting) = client.waiting {
            self.handler.left(client.id, waiting);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers nothing, and counts what it gets.
    struct Counts(usize);

    impl Handler for Counts {
        type Waiting = ();

        fn permit(&mut self, _: &Asker, _: &str) -> Result<(), Reply> {
            Ok(())
        }

        fn request(&mut self, _: ConnId, _: &Asker, _: Request) -> Answer<()> {
            self.0 += 1;
            Answer::Wait(Duration::MAX, ())
        }

        fn unparked(&mut self, _: Option<&mut ()>, _: Unparked) -> Reply {
            Reply::done()
        }

        fn left(&mut self, _: ConnId, (): ()) {}
    }

    /// As much of a `restore` as makes it so long.
    fn part(length: usize) -> Vec<u8> {
        let mut part = format!("pizauth 1 restore {}\n", wire::MAX_RESTORE_BYTES).into_bytes();
        part.resize(length, 0);
        part
    }

    #[test]
    fn as_much_is_held_for_all_as_one_may_send() {
        let mut control = Control::new(Counts(0));
        let client = |number| Client {
            id: ConnId(number),
            asker: Asker {
                listener: FULL,
                uid: Uid::effective(),
                pid: None,
            },
            waiting: None,
            permitted: false,
            arriving: 0,
        };
        let (mut first, mut second, mut third) = (client(1), client(2), client(3));
        let whole = wire::MAX_RESTORE_BYTES + format!("pizauth 1 restore {}\n", 64 << 20).len();
        let next = control.received(&mut first, &mut part(whole), false);
        assert!(matches!(next, Next::Park(_)), "{next:?}");
        // It counts as long as it is being worked on.
        let next = control.received(&mut second, &mut part(5 << 20), false);
        assert!(matches!(next, Next::Reply(_)), "{next:?}");
        let mut small = b"pizauth 1 status 0\n".to_vec();
        let next = control.received(&mut third, &mut small, false);
        assert!(matches!(next, Next::Park(_)), "{next:?}");
        for gone in [first, second, third] {
            control.closed(gone);
        }
        assert_eq!((control.arriving, control.handler.0), (0, 2));
        let next = control.received(&mut client(4), &mut part(5 << 20), false);
        assert!(matches!(next, Next::More), "{next:?}");
    }

    #[test]
    fn every_number_of_descriptors_leaves_some_to_others() {
        for descriptors in [16, 32, 256, 1024, 4096, 8192, 1 << 20] {
            let limits = limits(descriptors);
            let shares = [limits.first, limits.others];
            let clients: usize = shares.map(|it| it.connections + it.parked).iter().sum();
            assert!(clients + (descriptors / 2).min(512) <= descriptors + 1);
        }
    }
}
