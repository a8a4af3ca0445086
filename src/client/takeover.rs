//! `pizauth restart` where the original's daemon runs: a server of this program gets its tokens, and
//! is up but for sockets and ports before the old one is told to end. If it can't be, the old one goes
//! on.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{connect, dump, older, patience, tell};
use crate::{
    cli::{self, ServerOptions, Verb},
    error::Failure,
    paths,
    wire::Request,
};

/// How long the new server may take to read its configuration and the tokens.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the old one may take to end: it has nothing to wait for.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Programs that start again what they have started, by the names that Linux shows (15 bytes at most,
/// proc_pid_comm(5)), and how they do it.
const SUPERVISORS: [(&str, &str); 5] = [
    ("dinit", "dinitctl restart pizauth"),
    ("runsv", "sv restart pizauth"),
    ("s6-supervise", "s6-svc -wr -r SERVICE"),
    ("supervise-daemo", "rc-service pizauth restart"),
    ("supervisord", "supervisorctl restart pizauth"),
];

pub(super) fn run() -> Result<(), Failure> {
    let process = older::process(&connect()?);
    let process = process.map(|pid| PathBuf::from(format!("/proc/{pid}")));
    let old = Old::of(process.as_deref());
    if let Some(command) = &old.restarted_by {
        let what = "the older pizauth belongs to a service manager, which has to start the new one";
        return Err(Failure::other(what).hint(format!(
            "this keeps the tokens: t=$(pizauth dump | base64) && {command} && \
             echo \"$t\" | base64 -d | pizauth restore"
        )));
    }
    let dump = older::order(&Request::Dump)?;
    let heir = Heir::start(&old.options, &dump)?;
    let taken_over = older::order(&Request::Shutdown)
        .and_then(|_| has_ended())
        .and_then(|ended| {
            if ended {
                return heir.go_on();
            }
            heir.failure();
            let what = "the older pizauth has been told to end and hasn't: it goes on";
            Err(Failure::other(what).hint("its log may say why"))
        });
    // Whatever has failed, the older one may be ending: there must be a copy.
    taken_over.map_err(|failure| {
        let file = paths::runtime_dir().join("dump");
        let kept = match dump::save(&file, &dump) {
            Ok(()) => {
                let place = file.display();
                format!("its tokens are in {place}, for `pizauth restore`")
            }
            Err(error) => format!("and its tokens are not saved: {error}"),
        };
        let kept = format!("if the older pizauth has ended, {kept}");
        let known = failure.hint.iter().map(|hint| format!("{hint}; "));
        let hint = known.collect::<String>() + &kept;
        failure.hint(hint)
    })?;
    tell("an older pizauth was running here; this one has its tokens now\n");
    Ok(())
}

/// What is known of the old daemon.
struct Old {
    options: ServerOptions,
    /// By which command, if it belongs to a service manager.
    restarted_by: Option<String>,
}

impl Old {
    /// `process` is its directory (proc(5)), where there is one.
    fn of(process: Option<&Path>) -> Self {
        let text = |name: &str| {
            let bytes = process.and_then(|it| fs::read(it.join(name)).ok());
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let words = text("cmdline");
        let words = words.trim_end_matches('\0').split('\0').skip(1);
        let mut options = match cli::parse(words.map(Into::into)) {
            Ok(Verb::Server(options)) => options,
            _ => ServerOptions::default(),
        };
        // It may have been started elsewhere.
        let home = process.and_then(|it| fs::read_link(it.join("cwd")).ok());
        if let (Some(file), Some(home)) = (&mut options.config, home) {
            *file = home.join(&*file);
        }
        let status = text("status");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.map(|pid| format!("../{}/comm", pid.trim()));
        let parent = parent.map_or(String::new(), |path| text(&path));
        Old {
            restarted_by: manager(&text("cgroup"), parent.trim(), options.foreground),
            options,
        }
    }
}

/// How to restart a server of this control group, of this parent and perhaps in the foreground, if a
/// service manager has started it.
fn manager(cgroup: &str, parent: &str, foreground: bool) -> Option<String> {
    let unit = cgroup.trim().rsplit('/').next().unwrap_or_default();
    // A shell's or a session's unit is none of the server's own.
    let own = unit.contains("pizauth") || (parent == "systemd" && foreground);
    if unit.ends_with(".service") && own {
        let user = match cgroup.contains("/user@") {
            true => "--user ",
            false => "",
        };
        return Some(format!("systemctl {user}restart {unit}"));
    }
    let supervisor = SUPERVISORS.iter().find(|(name, _)| *name == parent);
    supervisor.map(|(_, command)| (*command).into())
}

/// Whether nothing listens any more where the old one did, within [`END_TIMEOUT`].
fn has_ended() -> Result<bool, Failure> {
    let address = paths::client_address()?;
    Ok(patience::tries(END_TIMEOUT).any(|()| UnixStream::connect(&address.socket).is_err()))
}

/// The new server, which has the tokens and waits for the old one's end.
struct Heir {
    line: UnixStream,
    child: Child,
}

impl Heir {
    fn start(options: &ServerOptions, dump: &[u8]) -> Result<Self, Failure> {
        let cant =
            |error: io::Error| Failure::other(format!("the new server can't be started: {error}"));
        let (line, theirs) = UnixStream::pair().map_err(cant)?;
        let program = std::env::args_os().next().unwrap_or_default();
        let mut command = Command::new(program);
        command.arg(cli::SUCCEED);
        if let Some(file) = &options.config {
            command.arg("-c").arg(file);
        }
        command.args((0..options.verbose).map(|_| "-v"));
        let streams = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let child = streams.stderr(Stdio::piped()).spawn().map_err(cant)?;
        // Its end of the line is to be its alone.
        drop(command);
        let mut heir = Heir { line, child };
        match heir.tell(dump) {
            Ok(()) => Ok(heir),
            Err(_) => Err(heir.failure()),
        }
    }

    /// Gives it the tokens; returns when it could go on.
    fn tell(&mut self, dump: &[u8]) -> io::Result<()> {
        self.line.set_read_timeout(Some(START_TIMEOUT))?;
        self.line.write_all(&(dump.len() as u64).to_le_bytes())?;
        self.line.write_all(dump)?;
        self.line.read_exact(&mut [0])
    }

    /// The old one's place is its own; returns when it answers there.
    fn go_on(mut self) -> Result<(), Failure> {
        let told = self.line.write_all(&[1]);
        match told.and_then(|()| self.child.wait()) {
            Ok(status) if status.success() => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// Why it has given up, in its own words.
    fn failure(mut self) -> Failure {
        let _ = self.line.shutdown(std::net::Shutdown::Both);
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = File::from(OwnedFd::from(stderr)).read_to_string(&mut said);
        }
        let _ = self.child.wait();
        let said = said.trim().trim_start_matches("ERROR - ");
        Failure::other(format!("the new server can't start: {said}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_from_a_session() {
        let user = "0::/user.slice/user-1000.slice/user@1000.service";
        for (cgroup, parent, foreground, command) in [
            (
                format!("{user}/app.slice/pizauth.service\n"),
                "systemd",
                false,
                Some("systemctl --user restart pizauth.service"),
            ),
            (
                format!("{user}/app.slice/tokens.service\n"),
                "systemd",
                true,
                Some("systemctl --user restart tokens.service"),
            ),
            (
                "0::/system.slice/pizauth-me.service\n".into(),
                "systemd",
                true,
                Some("systemctl restart pizauth-me.service"),
            ),
            // Started by a window manager, or from a shell.
            (
                format!("{user}/session.slice/sway.service\n"),
                "systemd",
                false,
                None,
            ),
            (
                format!("{user}/app.slice/vte-1.scope\n"),
                "bash",
                true,
                None,
            ),
            ("0::/\n".into(), "init", false, None),
            (String::new(), "", true, None),
            ("0::/\n".into(), "runsv", true, Some("sv restart pizauth")),
        ] {
            let found = manager(&cgroup, parent, foreground);
            assert_eq!(found.as_deref(), command, "{cgroup}");
        }
    }
}
