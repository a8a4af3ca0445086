//! How other threads reach a server's connections.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::{ConnId, Listener};
use crate::alarm::Alarm;

/// Answers parked connections from any thread. Clones speak to the same server.
#[derive(Clone)]
pub struct Remote {
    sender: Sender<Message>,
    alarm: Arc<Alarm>,
}

/// The server's end of a [`Remote`], for [`super::run`].
pub struct Inbox {
    pub(super) receiver: Receiver<Message>,
    /// Rings when there is something in it.
    pub(super) alarm: Arc<Alarm>,
}

pub(super) enum Message {
    Send {
        id: ConnId,
        bytes: Vec<u8>,
        last: bool,
    },
    Publish(Vec<u8>),
    Open {
        number: usize,
        listener: Listener,
    },
    Close {
        number: usize,
    },
    Drain(SyncSender<()>),
    Resume,
    Stop,
}

/// Both ends of the line to a server that is about to [`super::run`].
///
/// # Errors
/// When the process has no descriptor left.
pub fn remote() -> io::Result<(Remote, Inbox)> {
    let (sender, receiver) = channel();
    let alarm = Arc::new(Alarm::new()?);
    let inbox = Inbox {
        receiver,
        alarm: Arc::clone(&alarm),
    };
    Ok((Remote { sender, alarm }, inbox))
}

impl Remote {
    /// Writes `bytes` to a parked connection, which stays parked unless they are the `last`.
    /// Nothing happens when it has left, or isn't parked; one that is being handed to the service
    /// just now may be answered before the service has returned.
    pub fn send(&self, id: ConnId, bytes: Vec<u8>, last: bool) {
        self.post(Message::Send { id, bytes, last });
    }

    /// Writes `bytes` to every connection that is being streamed to. One that doesn't read them
    /// holds nobody up: it is dropped when it lags too far behind.
    pub fn publish(&self, bytes: Vec<u8>) {
        self.post(Message::Publish(bytes));
    }

    /// Accepts connections from another listener, too.
    pub fn open(&self, number: usize, listener: Listener) {
        self.post(Message::Open { number, listener });
    }

    /// Accepts no more from it; connections that are open stay so.
    pub fn close(&self, number: usize) {
        self.post(Message::Close { number });
    }

    /// Accepts no more connections, though the sockets go on listening, and answers those that are
    /// open; the receiver hears when there are none left.
    pub fn drain(&self) -> Receiver<()> {
        let (done, drained) = sync_channel(1);
        self.post(Message::Drain(done));
        drained
    }

    /// [`Remote::drain`] is over.
    pub fn resume(&self) {
        self.post(Message::Resume);
    }

    /// Ends the server, after everything that was sent before.
    pub fn stop(&self) {
        self.post(Message::Stop);
    }

    fn post(&self, message: Message) {
        // A server that has ended has no connections to answer.
        if self.sender.send(message).is_ok() {
            self.alarm.ring();
        }
    }
}
