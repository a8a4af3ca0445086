//! What the end of a hook means.

use crate::hook::HookEnd;

/// What a hook is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPurpose {
    /// For what it does: `startup_cmd`, `token_event_cmd`, `error_notify_cmd`.
    Action,
    /// To remind the user: `auth_notify_cmd`.
    Reminder,
    /// For its exit status: `transient_error_if_cmd`.
    Probe,
    /// For what it prints or keeps, which the core waits for: `client_secret_cmd`, `token_cmd`,
    /// `state_load_cmd`, `state_save_cmd`.
    Answer,
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
pub fn conclude(purpose: HookPurpose, end: &HookEnd) -> HookConclusion {
    let trouble = match end {
        HookEnd::Exit(0) | HookEnd::Ended => None,
        HookEnd::Exit(status) => Some(format!("exited with status {status}")),
        HookEnd::Signal(signal) => Some(format!("was ended by signal {signal}")),
        HookEnd::TimedOut => Some("took too long and was killed".into()),
        HookEnd::NotStarted(why) => Some(format!("couldn't be started: {why}")),
        HookEnd::Lost => Some("was lost with the hook runner, which was killed".into()),
    };
    let is_usual = match purpose {
        HookPurpose::Action => false,
        // One that waits for a click until the next one is due has done its work.
        HookPurpose::Reminder => *end == HookEnd::TimedOut,
        HookPurpose::Probe => matches!(end, HookEnd::Exit(_)),
        HookPurpose::Answer => true,
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
    use super::{HookEnd::*, HookPurpose::*, *};

    #[test]
    fn every_end_of_every_hook() {
        let killed = "took too long and was killed";
        let lost = "was lost with the hook runner, which was killed";
        // How it ended, in words, whether each purpose logs that, and what a probe says by it.
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
            for (purpose, logs) in [
                (Action, action),
                (Reminder, reminder),
                (Probe, probe),
                (Answer, answer),
            ] {
                let expected = HookConclusion {
                    trouble: trouble.map(str::to_owned),
                    logs,
                    transient,
                };
                assert_eq!(conclude(purpose, &end), expected, "{purpose:?} {end:?}");
            }
        }
    }
}
