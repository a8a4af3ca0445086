//! `pizauth auth`: start a sign-in or join one, show every way to complete it, and wait for the end.

use std::os::{fd::AsFd, unix::net::UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs::File, io, io::IsTerminal};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use wait_timeout::ChildExt;

use super::{ask, complain, connect, is_terminal, may_colour, print, qr, status, stderr_is_live};
use super::{patience::Patience, programs::is_installed};
use super::{redirect, tell};
use crate::view::{DeviceView, PASTE, SignInStart, SignInWays};
use crate::wire::{self, AuthArgs, Request};
use crate::{
    cli::AuthOptions, cli::RedirectOptions, error::Exit, error::Failure, secret::SecretBytes,
};
use crate::{text::sanitize, time::humane};

/// How often to ask while the endpoints or the code are being asked for: the server answers when
/// they are there, or has waited in vain.
const MAX_ASKS: u32 = 4;

/// How long to watch whether the desktop's command fails: one that works may run on as the browser.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the line of progress is drawn anew, in milliseconds.
const TICK_MILLIS: u16 = 1000;

/// The desktop's command for opening an address.
const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

/// Signs in. With `listens`, an address may be pasted on stdin meanwhile.
pub(super) fn run(options: &AuthOptions, listens: bool) -> Result<(), Failure> {
    let has_browser = is_terminal() && has_desktop() && is_installed(OPENER);
    let opens = options.open || has_browser && !options.no_wait;
    if let SignInStart::Open(ways) = start(options, opens)? {
        let all = options.qr || !has_browser;
        print(text(&ways, all, options.qr).as_bytes())?;
        if opens {
            open(here(&ways));
        }
        if options.no_wait {
            return Ok(());
        }
    }
    if !options.no_wait {
        wait(&options.account, listens)?;
    }
    status::run_one(&options.account)
}

/// Starts or joins the sign-in, and waits for its code if there is to be one.
fn start(options: &AuthOptions, opens: bool) -> Result<SignInStart, Failure> {
    let mut start = SignInStart::AskingForCode;
    for ask_count in 0..MAX_ASKS {
        let body = ask(&Request::Auth(AuthArgs {
            account: options.account.clone(),
            // Once started, it must not be started again if it fails.
            join: ask_count > 0,
            no_wait: options.no_wait,
            opens,
        }))?;
        start = super::read(&body)?;
        if start != SignInStart::AskingForCode {
            break;
        }
    }
    Ok(start)
}

/// The address to open in a browser on this machine.
fn here(ways: &SignInWays) -> &str {
    ways.short_uri.as_deref().or(ways.uri()).unwrap_or_default()
}

/// The one to open on a phone.
fn elsewhere(ways: &SignInWays) -> &str {
    let code = ways.device.as_ref().map(DeviceView::page);
    code.or(ways.uri()).unwrap_or_default()
}

/// Every way to complete the sign-in; a browser elsewhere is one only if it is `all`.
fn text(ways: &SignInWays, all: bool, with_qr: bool) -> String {
    let mut text = String::new();
    if let Some(uri) = &ways.browser_uri {
        let (uri, here) = (line(uri), line(here(ways)));
        text.push_str(&match ways.paste {
            true => format!("Sign in with a browser; {PASTE}:\n  {uri}\n"),
            false => format!("Sign in with a browser on this machine:\n  {here}\n"),
        });
        if all && !ways.paste {
            let there = match ways.short_uri {
                Some(_) => format!(", open\n  {uri}\nand"),
                None => ",".into(),
            };
            text.push_str(&format!(
                "If it runs elsewhere{there} paste the address that it ends at here while this \
                 waits, or into `pizauth redirect`.\n"
            ));
        }
    }
    if let Some(device) = &ways.device {
        text.push_str(&format!(
            "{} on any device: open\n  {}\nand enter the code\n  {}\n",
            match ways.browser_uri {
                Some(_) => "Or",
                None => "Sign in",
            },
            line(&device.verification_uri),
            line(&device.user_code)
        ));
    }
    if with_qr {
        let coloured = may_colour();
        text.push_str(&match qr::draw(elsewhere(ways), coloured) {
            Some((drawn, side)) => missing_room(side).unwrap_or(drawn),
            None => "(the address is too long for a QR code)\n".into(),
        });
    }
    text
}

/// What to do if the terminal, if stdout is one, is too small for a QR code of so many modules.
fn missing_room(side: usize) -> Option<String> {
    let tty = File::open("/dev/tty").ok().filter(|_| is_terminal())?;
    let size = Command::new("stty").arg("size").stdin(tty).output().ok()?;
    let size = String::from_utf8(size.stdout).ok()?;
    let (lines, columns) = size.trim().split_once(' ')?;
    let needed = side.div_ceil(2);
    let fits = columns.parse::<usize>().ok()? >= side && lines.parse::<usize>().ok()? > needed;
    (!fits).then(|| {
        format!(
            "(the QR code needs {side} columns and {needed} lines, and this terminal has {columns} \
             and {lines}: make its font smaller, or send the address above to the phone)\n"
        )
    })
}

/// An address or a code, which must stay in one piece and can't be cut: the server has made sure
/// that it is harmless, and this makes sure again.
fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Whether a browser opens it. A desktop has other programs for files and for other schemes, and some
/// of those run what they are given.
fn is_web(uri: &str) -> bool {
    let scheme = uri.split_once("://").map(|it| it.0.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// Whether there is a desktop, and not that of a machine from which this one is used.
pub(super) fn has_desktop() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let shown = ["DISPLAY", "WAYLAND_DISPLAY"].into_iter().any(is_set);
    (shown || cfg!(target_os = "macos")) && !is_set("SSH_CONNECTION")
}

/// Has the desktop open an address. That it can't is a remark: the address is on the screen.
pub(super) fn open(uri: &str) {
    if !is_web(uri) {
        return tell("the address isn't opened: it isn't a web address\n");
    }
    let started = Command::new(OPENER)
        .arg(uri)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let ended = started.and_then(|mut child| child.wait_timeout(OPEN_TIMEOUT));
    let why = match ended {
        Ok(Some(status)) if !status.success() => status.to_string(),
        Ok(_) => return,
        Err(error) => error.to_string(),
    };
    tell(&format!(
        "{OPENER} failed ({why}): open the address yourself\n"
    ));
}

/// Whether stdin is for addresses that are pasted: it is a terminal, or has nothing yet. What it has
/// before anybody knows an address is for others, such as the shell's loop that this runs in.
pub(super) fn listens() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    stdin.is_terminal() || poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

/// Waits for the end of the sign-in, and shows that it does.
fn wait(account: &str, listens: bool) -> Result<(), Failure> {
    let mut pasted = listens.then(SecretBytes::default);
    // In the background, reading a terminal fails then, and stops nothing.
    let _ = SigSet::from(Signal::SIGTTIN).thread_block();
    let since = Instant::now();
    let live = stderr_is_live();
    if !live {
        tell(&format!("{}: waiting for the sign-in\n", sanitize(account)));
    }
    loop {
        let mut server = connect()?;
        let request = Request::Await(AuthArgs {
            account: account.to_owned(),
            join: true,
            ..AuthArgs::default()
        });
        wire::send(&mut server, &request)?;
        let mut patience = Patience::new();
        while !is_readable(&server, &mut pasted, account) {
            patience.look()?;
            if live {
                let waited = humane(since.elapsed());
                let account = sanitize(account);
                tell(&format!(
                    "\r\x1b[K{account}: waiting for the sign-in, {waited} (^C leaves it pending)"
                ));
            }
        }
        if live {
            tell("\r\x1b[K");
        }
        let reply = wire::receive(&mut server, &mut SecretBytes::default())?;
        if reply.as_slice() != wire::STILL_PENDING.as_bytes() {
            return Ok(());
        }
    }
}

/// Waits for an answer for a second, and hands on what is pasted meanwhile.
fn is_readable(server: &UnixStream, pasted: &mut Option<SecretBytes>, account: &str) -> bool {
    let stdin = io::stdin();
    let mut fds = vec![PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    if pasted.is_some() {
        fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
    }
    // Reading tells what is wrong.
    let ready = poll(&mut fds, PollTimeout::from(TICK_MILLIS));
    let is_ready = |fd: &PollFd| fd.any().unwrap_or(true);
    if fds.get(1).is_some_and(is_ready) {
        take_pasted(pasted, account);
    }
    match ready {
        Ok(_) => fds.first().is_some_and(is_ready),
        Err(errno) => errno != nix::errno::Errno::EINTR,
    }
}

/// Reads what stdin has, and completes the sign-in with the lines that are whole. `None` when there
/// is no more.
fn take_pasted(pasted: &mut Option<SecretBytes>, account: &str) {
    let mut input = pasted.take().unwrap_or_default();
    let mut piece = SecretBytes::new(vec![0; 4096]);
    let count = nix::unistd::read(io::stdin(), &mut piece).unwrap_or(0);
    input.extend_from_slice(piece.get(..count).unwrap_or_default());
    let end = match count {
        0 => input.len(),
        _ => input
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1),
    };
    let rest = SecretBytes::new(input.split_off(end));
    let lines = String::from_utf8_lossy(&input);
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let options = RedirectOptions {
            address: Some(line.to_owned()),
            account: Some(account.to_owned()),
        };
        match redirect(&options) {
            // That is what is waited for.
            Err(failure) if failure.exit != Exit::AuthorisationNeeded => complain(&failure),
            Err(_) | Ok(()) => {}
        }
    }
    *pasted = (count > 0 && rest.len() < wire::MAX_REQUEST_BYTES).then_some(rest);
}

#[cfg(test)]
mod tests {
    use super::is_web;

    #[test]
    fn only_what_is_a_browsers_is_opened() {
        for web in ["https://id.example/a?b=file://c", "HTTP://localhost:1/x"] {
            assert!(is_web(web), "{web}");
        }
        for other in [
            "",
            "/usr/bin/true",
            "file:///x.desktop",
            "ssh://-oProxyCommand=x/",
            "--help",
            "javascript:https://id.example/",
            "https:/x",
        ] {
            assert!(!is_web(other), "{other}");
        }
    }
}
