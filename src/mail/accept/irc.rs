//! IRC (RFC 2812): PASS, and SASL PLAIN (IRCv3's "Capability Negotiation" and "SASL
//! Authentication"). Nick and user wait for the server, whose registration is open by then.

use super::{Accepted, Acceptor, FIRST, Reaction};
use crate::mail::irc::CHUNK_BYTES;

/// What a program has said of itself.
#[derive(Default)]
pub struct IrcProgram {
    /// Its last `NICK` and `USER`, for the server.
    pub nick: String,
    pub user: String,
    /// Its `PASS`, unless it signs in by SASL.
    pub password: Option<String>,
    /// It has begun a negotiation, and will end it.
    pub negotiating: bool,
    /// It wants to know of capabilities that come later, as all do that know version 302.
    pub is_notified: bool,
    /// The lines of a SASL message.
    message: String,
}

pub fn answer(acceptor: &mut Acceptor, said: Option<String>, verb: &str, rest: &str) -> Reaction {
    if verb == "AUTHENTICATE" {
        return authenticate(acceptor, said, rest);
    }
    acceptor.sasl = said;
    let irc = &mut acceptor.irc;
    match verb {
        "CAP" if rest.eq_ignore_ascii_case("END") => irc.negotiating = false,
        "CAP" => {
            irc.negotiating = true;
            let (command, wanted) = rest.split_once(' ').unwrap_or((rest, ""));
            let wanted = wanted.trim_start_matches(':').trim();
            irc.is_notified |= wanted.parse().is_ok_and(|version: u32| version >= 302);
            // Only SASL is there, until the server itself answers.
            let reply = match (command.to_ascii_uppercase().as_str(), wanted) {
                (list @ ("LS" | "LIST"), _) => format!("{list} :sasl"),
                (_, "sasl") => "ACK :sasl".into(),
                _ => format!("NAK :{wanted}"),
            };
            return (format!(":pizauth CAP * {reply}\r\n"), Accepted::More);
        }
        // What follows a colon is all of it.
        "PASS" => irc.password = Some(rest.strip_prefix(':').unwrap_or(rest).to_owned()),
        "NICK" => irc.nick = format!("NICK {rest}\r\n"),
        "USER" => irc.user = format!("USER {rest}\r\n"),
        "PING" => return (format!("PONG {rest}\r\n"), Accepted::More),
        "QUIT" => return (acceptor.bye("until then"), Accepted::End),
        _ => return acceptor.say((FIRST, "sign in first")),
    }
    // Some say the password last.
    let is_whole = !irc.negotiating && !irc.nick.is_empty() && !irc.user.is_empty();
    match irc.password.clone().filter(|_| is_whole) {
        Some(password) => acceptor.sign_in("", &password),
        None => (String::new(), Accepted::More),
    }
}

fn authenticate(acceptor: &mut Acceptor, said: Option<String>, message: &str) -> Reaction {
    acceptor.irc.password = None;
    let Some(said) = said else {
        acceptor.irc.message.clear();
        return acceptor.authenticate(message);
    };
    let whole = &mut acceptor.irc.message;
    // So an empty one looks.
    whole.push_str(if message == "+" { "" } else { message });
    if message.len() == CHUNK_BYTES {
        acceptor.sasl = Some(said);
        return (String::new(), Accepted::More);
    }
    let message = std::mem::take(whole);
    acceptor.go_on(&said, &message)
}
