//! `pizauth auth`: start a sign-in or join one, show every way to complete it, and wait for the end.

use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    process::{Command, Stdio},
    time::Instant,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::patience::Patience;
use super::{ask, connect, may_colour, print, qr, status, stderr_is_live, tell};
use crate::view::{DeviceView, PASTE, SignInStart};
use crate::wire::{self, AuthArgs, Request};
use crate::{cli::AuthOptions, error::Failure, secret::SecretBytes, text::sanitize, time::humane};

/// How often to ask while the endpoints or the code are being asked for: the server answers when
/// they are there, or has waited in vain.
const MAX_ASKS: u32 = 4;

/// How often the line of progress is drawn anew, in milliseconds.
const TICK_MILLIS: u16 = 1000;

pub(super) fn run(options: &AuthOptions) -> Result<(), Failure> {
    let is_open = match start(options)? {
        SignInStart::Open {
            browser_uri,
            device,
            paste,
        } => {
            let addresses = Addresses::new(browser_uri.as_deref(), device.as_ref(), paste);
            print(addresses.text(options.qr).as_bytes())?;
            if options.open {
                open(addresses.here);
            }
            true
        }
        SignInStart::AskingForCode | SignInStart::Exchanging | SignInStart::Over => false,
    };
    match (is_open, options.no_wait) {
        (true, true) => return Ok(()),
        (false, true) => {}
        (_, false) => wait(&options.account)?,
    }
    status::run_one(&options.account)
}

/// Starts or joins the sign-in, and waits for its code if there is to be one.
fn start(options: &AuthOptions) -> Result<SignInStart, Failure> {
    let mut start = SignInStart::AskingForCode;
    for ask_count in 0..MAX_ASKS {
        let body = ask(&Request::Auth(AuthArgs {
            account: options.account.clone(),
            // Once started, it must not be started again if it fails.
            join: ask_count > 0,
            no_wait: options.no_wait,
        }))?;
        start = super::read(&body)?;
        if start != SignInStart::AskingForCode {
            break;
        }
    }
    Ok(start)
}

/// Where to sign in.
struct Addresses<'a> {
    browser: Option<&'a str>,
    device: Option<&'a DeviceView>,
    /// Whether what the browser ends with is to be pasted.
    paste: bool,
    /// The one to open in a browser on this machine.
    here: &'a str,
    /// The one to open on a phone.
    elsewhere: &'a str,
}

impl<'a> Addresses<'a> {
    fn new(browser: Option<&'a str>, device: Option<&'a DeviceView>, paste: bool) -> Self {
        let code = device.map(|device| {
            let complete = device.verification_uri_complete.as_deref();
            complete.unwrap_or(&device.verification_uri)
        });
        Addresses {
            browser,
            device,
            paste,
            here: browser.or(code).unwrap_or_default(),
            elsewhere: code.or(browser).unwrap_or_default(),
        }
    }

    /// Every way to complete the sign-in.
    fn text(&self, with_qr: bool) -> String {
        let mut text = String::new();
        if let Some(uri) = self.browser {
            let uri = line(uri);
            text.push_str(&match self.paste {
                true => format!("Sign in with a browser; {PASTE}:\n  {uri}\n"),
                false => format!(
                    "Sign in with a browser on this machine:\n  {uri}\n\
                     If it runs elsewhere, paste the address that it ends at into `pizauth redirect`.\n"
                ),
            });
        }
        if let Some(device) = self.device {
            text.push_str(&format!(
                "{} on any device: open\n  {}\nand enter the code\n  {}\n",
                match self.browser {
                    Some(_) => "Or",
                    None => "Sign in",
                },
                line(&device.verification_uri),
                line(&device.user_code)
            ));
        }
        if with_qr {
            let coloured = may_colour();
            match qr::draw(self.elsewhere, coloured) {
                Some(drawn) => text.push_str(&drawn),
                None => text.push_str("(the address is too long for a QR code)\n"),
            }
        }
        text
    }
}

/// An address or a code, which must stay in one piece and can't be cut: the server has made sure
/// that it is harmless, and this makes sure again.
fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Whether a browser opens it. A desktop has other programs for files and for other schemes, and some
/// of those run what they are given.
fn is_web(uri: &str) -> bool {
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|it| {
        ["http", "https"]
            .iter()
            .any(|web| it.eq_ignore_ascii_case(web))
    })
}

/// Has the desktop open an address. That it can't is a remark: the address is on the screen.
pub(super) fn open(uri: &str) {
    if !is_web(uri) {
        return tell("the address isn't opened: it is none of the web\n");
    }
    const OPENER: &str = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = Command::new(OPENER)
        .arg(uri)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        tell(&format!("can't start {OPENER}: {error}\n"));
    }
}

/// Waits for the end of the sign-in, and shows that it does.
fn wait(account: &str) -> Result<(), Failure> {
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
            no_wait: false,
        });
        wire::send(&mut server, &request)?;
        let mut patience = Patience::new();
        while !is_readable(&server) {
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

/// Waits for an answer for a second.
fn is_readable(server: &UnixStream) -> bool {
    let mut fds = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(TICK_MILLIS)) {
        Ok(ready) => ready > 0,
        // Reading tells what is wrong.
        Err(errno) => errno != nix::errno::Errno::EINTR,
    }
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
