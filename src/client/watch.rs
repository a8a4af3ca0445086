//! `pizauth watch`: what happens, a line an event.

use jiff::tz::TimeZone;

use super::status::{moment, now};
use super::{ask, connect, is_restarting, print, read, wait_for};
use crate::error::{Exit, Failure};
use crate::secret::SecretBytes;
use crate::wire::{self, Request};
use crate::{text, time::humane, view::News};

pub(super) fn run(json: bool) -> Result<(), Failure> {
    loop {
        match watch(json) {
            // What happens while it restarts isn't missed: it says nothing meanwhile.
            Err(failure) if is_restarting(&failure) => {}
            outcome => return outcome,
        }
    }
}

fn watch(json: bool) -> Result<(), Failure> {
    // An older server would never say a word.
    ask(&Request::Info)?;
    let mut stream = connect()?;
    wire::send(&mut stream, &Request::Watch)?;
    let zone = TimeZone::system();
    let mut input = SecretBytes::default();
    while !input.is_empty() || wait_for(&stream) {
        let body = match wire::receive_next(&mut stream, &mut input) {
            Err(failure) if [wire::HUNG_UP, wire::INCOMPLETE].contains(&&*failure.what) => {
                let what = "trouble with the server: it has gone";
                return Err(Failure::new(Exit::NoServer, what));
            }
            outcome => outcome?,
        };
        let line = match json {
            true => [&body[..], b"\n"].concat(),
            false => told(&body, &zone)?.into_bytes(),
        };
        match print(&line) {
            Err(_) if !wait_for(&stream) => return Ok(()),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// An event for people.
fn told(body: &[u8], zone: &TimeZone) -> Result<String, Failure> {
    let event: News<String> = read(body)?;
    let now = now();
    let mut line = moment(event.at, now, zone);
    line.push(' ');
    if let Some(account) = &event.account {
        line.push_str(&format!("{}: ", text::sanitize(account)));
    }
    line.push_str(&text::sanitize(&event.event).replace('_', " "));
    if let Some(expires) = event.expires {
        let until = moment(expires, now, zone);
        line.push_str(&format!(", valid until {until}"));
    }
    if let Some(requester) = &event.requester {
        line.push_str(&format!(", asked for by {}", text::sanitize(requester)));
    }
    if let (Some(failures), Some(at)) = (event.refresh_failures, event.refresh_at) {
        let next = humane(at.since(now));
        line.push_str(&format!(", {failures} in a row, next try in {next}"));
    }
    if let Some(reason) = &event.reason {
        line.push_str(&format!(": {}", text::sanitize(&reason.line())));
    }
    line.push('\n');
    Ok(line)
}
