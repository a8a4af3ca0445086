//! What a helper can do, and what it answers. Each helper is of one kind, which has a quota and a
//! deadline of its own: configurations that hang must not keep a name from being looked up.

use std::{borrow::Cow, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    capability::{Capabilities, Capability, Key},
    line::Line,
};
use crate::{
    error::Failure,
    server::base::{config_file::ConfigText, runtime_files::FileId},
};

/// What a helper is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelperKind {
    /// Reads the configuration.
    Config,
    /// Makes and removes what is in the runtime directory, and sockets.
    Sockets,
    /// Writes token files.
    Files,
    /// Looks up names.
    Names,
    /// Tries the program that a restart would run.
    Trial,
    /// Is the process of the proxies, until it has drained or the server ends.
    Proxies,
}

impl HelperKind {
    /// How long one may live, and that of the proxies may take to begin. A file system that hangs must
    /// not leave processes behind, and no request to a provider waits longer for a name than this.
    pub fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            HelperKind::Config | HelperKind::Sockets | HelperKind::Trial | HelperKind::Proxies => {
                10
            }
            HelperKind::Files => 20,
            HelperKind::Names => 30,
        })
    }

    /// Whether it ends when it has served its request.
    pub fn is_brief(self) -> bool {
        self != HelperKind::Proxies
    }

    /// How many there may be at once: more than a server in order asks for, and few enough to leave
    /// the user processes of their own. Names are looked up by every worker at once.
    pub fn quota(self) -> usize {
        match self {
            HelperKind::Names | HelperKind::Proxies => 32,
            HelperKind::Files | HelperKind::Sockets => 8,
            HelperKind::Config | HelperKind::Trial => 4,
        }
    }
}

/// What a helper can do. Paths are as they are written in the configuration.
#[derive(Debug, Serialize, Deserialize)]
pub enum HelperRequest {
    /// Read the configuration, and make capabilities for what it names.
    ReadConfig,
    /// Make the directory of the control socket, or check the one that is there.
    Prepare,
    /// Open the lock's file.
    OpenLock,
    /// Listen on the control socket.
    ListenControl,
    /// Listen on a restricted socket.
    Listen(Arc<str>, Capability),
    /// Remove a socket's file, at this path if it still is that file: the control socket's, or that
    /// of the listening socket that comes along.
    RemoveSocket(PathBuf, FileId),
    /// Something with a token file.
    TokenFile(FileStep, Arc<str>, Capability),
    /// Look up the addresses of a host. The holder can't ask all who may know them: a resolver, a
    /// cache or a directory at a Unix socket, or files that the system has anywhere.
    LookUp(String, u16),
    /// Have the program that is there now look at the state that comes along.
    Try,
    /// Serve the proxies of the configuration, at the sockets that come along and at new ones. What
    /// counts their sessions comes back, and all of the sockets.
    Proxies,
    /// Take no more programs, and end after the last session. There is no reply.
    Drain,
}

/// What is done with a token file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileStep {
    /// Open a new file beside it.
    Write,
    /// Put that in its place.
    Replace,
    /// Remove that again.
    Discard,
    /// Remove it.
    Remove,
}

impl HelperRequest {
    /// Which helper may do it, and what it is, as the subject of an error.
    pub fn about(&self) -> (HelperKind, Cow<'static, str>) {
        use HelperKind::{Config, Files, Names, Proxies, Sockets, Trial};
        match self {
            HelperRequest::ReadConfig => (Config, "reading the configuration".into()),
            HelperRequest::Prepare => (Sockets, "making the runtime directory".into()),
            HelperRequest::OpenLock => (Sockets, "opening the lock".into()),
            HelperRequest::ListenControl => (Sockets, "making the control socket".into()),
            HelperRequest::Listen(path, _) => (Sockets, format!("making the socket {path}").into()),
            HelperRequest::RemoveSocket(..) => (Sockets, "removing a socket".into()),
            HelperRequest::TokenFile(FileStep::Remove, path, _) => {
                (Files, format!("removing {path}").into())
            }
            HelperRequest::TokenFile(_, path, _) => (Files, format!("writing {path}").into()),
            HelperRequest::LookUp(host, _) => (Names, format!("looking up {host}").into()),
            HelperRequest::Try => (Trial, "trying the new program".into()),
            HelperRequest::Proxies => (Proxies, "starting the proxies".into()),
            HelperRequest::Drain => (Proxies, "draining the proxies".into()),
        }
    }
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum HelperReply {
    /// It is done; where something was opened, its descriptor comes along.
    Done,
    /// The socket that comes along listens; this is its file.
    Listening(FileId),
    /// Another server answers there.
    Taken,
    /// The configuration. [`HelperReply::Grants`] follows.
    Config(ConfigText),
    /// The capabilities of what it names; none of what is no configuration.
    Grants(Capabilities),
    /// The addresses of a host.
    Addresses(Vec<SocketAddr>),
    /// What the program said that was tried.
    Tried(String),
}

/// A reply on its way, or why the request wasn't granted.
pub type HelperOutcome = Result<HelperReply, Failure>;

/// The holder's end of a line to a helper.
pub type RequestLine = Line<HelperRequest, HelperOutcome>;

/// The helper's end, and the monitor's as long as there is no helper.
pub type ReplyLine = Line<HelperOutcome, HelperRequest>;

/// What every helper is given.
#[derive(Clone)]
pub struct HelperContext {
    /// The program that the server was started as.
    pub program: PathBuf,
    /// The server's configuration.
    pub config_file: PathBuf,
    /// Makes capabilities, and checks them.
    pub key: Key,
}
