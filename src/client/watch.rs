//! `pizauth watch`: what happens, a line an event.

use jiff::tz::TimeZone;

use super::status::{moment, now};
use super::{ask, connect, is_restarting, print, read, wait_for};
use crate::wire::{Replies, Request};
use crate::{error::Failure, report::Event, text, time::humane};

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
    let mut replies = Replies::to(connect()?, &Request::Watch)?;
    let zone = TimeZone::system();
    while wait_for(replies.stream()) {
        replies.read()?;
        while let Some(body) = replies.next_body()? {
            let line = match json {
                true => [&body[..], b"\n"].concat(),
                false => told(&body, &zone)?.into_bytes(),
            };
            match print(&line) {
                Err(_) if !wait_for(replies.stream()) => return Ok(()),
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

/// An event for people.
fn told(body: &[u8], zone: &TimeZone) -> Result<String, Failure> {
    let event: Event = read(body)?;
    let now = now();
    let mut line = moment(event.time.unwrap_or(now), now, zone);
    line.push(' ');
    if let Some(account) = &event.account {
        line.push_str(&format!("{}: ", text::sanitize(account)));
    }
    line.push_str(&text::sanitize(&event.event).replace('_', " "));
    if let Some(expires) = event.expires {
        let until = moment(expires, now, zone);
        line.push_str(&format!(", valid until {until}"));
    }
    if let (Some(failures), Some(at)) = (event.refresh_failures, event.refresh_at) {
        let next = humane(at.since(now));
        line.push_str(&format!(", {failures} in a row, next try in {next}"));
    }
    if let Some(error) = &event.error {
        line.push_str(&format!(": {}", text::sanitize(error)));
    }
    if let Some(hint) = &event.hint {
        line.push_str(&format!(" ({})", text::sanitize(hint)));
    }
    line.push('\n');
    Ok(line)
}
