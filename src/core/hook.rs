//! The commands of the configuration: what the core has run, and what their ends mean.

use std::{sync::Arc, time::Duration};

use super::{AttemptId, dump::Dump};
use crate::{
    hook::{HookEnd, HookKind},
    view::{Happening, SignInWays},
};

/// A command that is to run.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Hook {
    /// Which one.
    pub kind: HookKind,
    /// Whose; words for all of them where it is about all.
    pub account: Arc<str>,
    /// To be given back with the outcome, where the core waits for one: exactly one
    /// [`super::Core::probe_outcome`], [`super::Core::secret_outcome`], [`super::Core::printed`],
    /// [`super::Core::load_outcome`] or [`super::Core::save_outcome`] answers it. Of a reminder it is
    /// the pending sign-in, and [`super::Effect::NotifyEnd`] with it ends the command.
    pub attempt: Option<AttemptId>,
    /// `$SHELL -c` it.
    pub command: String,
    /// What it is told beside whose it is.
    pub input: HookInput,
}

impl Hook {
    /// `startup_cmd`, which alone is no account's business.
    pub fn startup(command: String) -> Self {
        Hook {
            kind: HookKind::Startup,
            account: "startup".into(),
            attempt: None,
            command,
            input: HookInput::None,
        }
    }
}

/// What a command is told.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub enum HookInput {
    /// Nothing.
    None,
    /// How to sign in.
    SignIn {
        /// How to complete it; there is an address.
        ways: SignInWays,
        /// Which program has asked for a token.
        requester: Option<String>,
        /// Whether the tokens held still serve, and their sign-in will end soon.
        expiring: bool,
        /// How long the command may run: until the next reminder.
        limit: Duration,
    },
    /// What happened to a token. The commands run in order.
    Event(Happening),
    /// What went wrong: safe to show, on one line.
    Message(String),
    /// The state, on its standard input.
    State {
        /// The state.
        dump: Arc<Dump>,
        /// What it is sealed with: that takes far longer than the event.
        random: [u8; 32],
    },
}

/// What follows from a hook's end.
#[derive(Debug, PartialEq, Eq)]
pub struct HookConclusion {
    /// What is wrong with it, as words that follow the name of its option.
    pub trouble: Option<String>,
    /// Whether that is to be logged here. Otherwise it is as usual, or the core says it.
    pub logs: bool,
    /// Whether a probe says to ignore the failure that it was asked about. One that couldn't be
    /// asked costs no login.
    pub transient: bool,
}

/// Draws the conclusions from the end of a hook.
pub fn conclude(kind: HookKind, end: &HookEnd) -> HookConclusion {
    let trouble = match end {
        HookEnd::Exit(0) | HookEnd::Ended => None,
        HookEnd::Exit(status) => Some(format!("exited with status {status}")),
        HookEnd::Signal(signal) => Some(format!("was ended by signal {signal}")),
        HookEnd::TimedOut => Some("took too long and was killed".into()),
        HookEnd::NotStarted(why) => Some(format!("couldn't be started: {why}")),
        HookEnd::Lost => Some("was lost with the hook runner, which was killed".into()),
    };
    let is_usual = match kind {
        HookKind::Startup | HookKind::Event | HookKind::Error => false,
        // One that waits for a click until the next one is due has done its work.
        HookKind::Notify => *end == HookEnd::TimedOut,
        HookKind::Probe => matches!(end, HookEnd::Exit(_)),
        // The core waits for what it prints or keeps.
        HookKind::Load | HookKind::Save | HookKind::Secret | HookKind::Token => true,
        HookKind::Requester => true,
    };
    HookConclusion {
        logs: trouble.is_some() && !is_usual,
        trouble,
        transient: matches!(
            end,
            HookEnd::Exit(0) | HookEnd::Lost | HookEnd::NotStarted(_)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{HookEnd::*, HookKind::*, *};

    #[test]
    fn every_end_of_every_hook() {
        let killed = "took too long and was killed";
        let lost = "was lost with the hook runner, which was killed";
        // How it ended, in words, whether each kind logs that, and what a probe says by it.
        for (end, trouble, [action, reminder, probe, answer], transient) in [
            (Exit(0), None, [false, false, false, false], true),
            (
                Exit(1),
                Some("exited with status 1"),
                [true, true, false, false],
                false,
            ),
            (
                Exit(127),
                Some("exited with status 127"),
                [true, true, false, false],
                false,
            ),
            (Ended, None, [false, false, false, false], false),
            (
                Signal(9),
                Some("was ended by signal 9"),
                [true, true, true, false],
                false,
            ),
            (TimedOut, Some(killed), [true, false, true, false], false),
            (
                NotStarted("no shell".into()),
                Some("couldn't be started: no shell"),
                [true, true, true, false],
                true,
            ),
            (Lost, Some(lost), [true, true, true, false], true),
        ] {
            for (kind, logs) in [
                (Startup, action),
                (Event, action),
                (Error, action),
                (Notify, reminder),
                (Probe, probe),
                (Load, answer),
                (Save, answer),
                (Secret, answer),
                (Token, answer),
                (Requester, answer),
            ] {
                let expected = HookConclusion {
                    trouble: trouble.map(str::to_owned),
                    logs,
                    transient,
                };
                assert_eq!(conclude(kind, &end), expected, "{kind:?} {end:?}");
            }
        }
    }
}
