//! The life of a server, as one state: what may begin in it, what has to wait, and what is refused.
//! Pure.

use std::collections::VecDeque;

use crate::serve::ConnId;

/// What a server is doing, beside answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It doesn't answer yet.
    #[default]
    Starting,
    /// Nothing else.
    Running,
    /// A configuration is being read.
    Reloading,
    /// The program that is there now is being tried, and what is under way finished.
    Restarting,
    /// Both: what a restart waits for may take a minute, and a configuration that is read meanwhile is
    /// the one that the successor gets.
    ReloadingMeanwhile,
    /// The state is on its way to a successor.
    HandingOver,
    /// It ends when it has said so.
    Stopping,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeRequest {
    /// Read the configuration again.
    Reload,
    /// Become the program that is there now.
    Restart,
    /// End.
    Stop,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It begins now.
    Begin,
    /// It begins after what is under way, together with others of its kind.
    Follow,
    /// It is under way.
    Done,
    /// It isn't possible, for this reason.
    Refuse(&'static str),
}

/// What a request means in a phase.
pub fn verdict(phase: Phase, request: LifeRequest) -> Verdict {
    use Phase::{
        HandingOver, Reloading, ReloadingMeanwhile, Restarting, Running, Starting, Stopping,
    };
    match (phase, request) {
        (Stopping, LifeRequest::Stop) => Verdict::Done,
        (Stopping, LifeRequest::Reload | LifeRequest::Restart) => {
            Verdict::Refuse("the server is stopping")
        }
        (Running, _) | (Restarting, LifeRequest::Reload) => Verdict::Begin,
        (_, LifeRequest::Stop) => Verdict::Begin,
        (Starting | Reloading, _) => Verdict::Follow,
        (ReloadingMeanwhile | HandingOver, LifeRequest::Reload) => Verdict::Follow,
        (Restarting | ReloadingMeanwhile | HandingOver, LifeRequest::Restart) => Verdict::Done,
    }
}

/// Who has asked: a client, or a signal.
pub type AskedBy = Option<ConnId>;

/// A server's life, from its start on.
#[derive(Default)]
pub struct Life {
    phase: Phase,
    waiting: VecDeque<(LifeRequest, AskedBy)>,
    /// Nothing keeps it from ending any more.
    pub over: bool,
    /// It ends by a signal: nobody hears whether it has saved the tokens.
    pub signalled: bool,
    /// It stops, and perhaps another follows, for which the service manager keeps something.
    pub leaves: bool,
}

impl Life {
    /// Takes up a request.
    pub fn ask(&mut self, request: LifeRequest, by: AskedBy) -> Verdict {
        let verdict = verdict(self.phase, request);
        self.signalled |= request == LifeRequest::Stop && by.is_none();
        match verdict {
            Verdict::Begin => self.begin(request),
            Verdict::Follow => self.waiting.push_back((request, by)),
            Verdict::Done | Verdict::Refuse(_) => {}
        }
        verdict
    }

    fn begin(&mut self, request: LifeRequest) {
        self.phase = match request {
            LifeRequest::Reload if self.phase == Phase::Restarting => Phase::ReloadingMeanwhile,
            LifeRequest::Reload => Phase::Reloading,
            LifeRequest::Restart => Phase::Restarting,
            LifeRequest::Stop => Phase::Stopping,
        };
    }

    /// The start has ended, or a reload or a restart. Returns what begins now, if anything does, and
    /// all who have asked for it.
    pub fn proceed(&mut self, ended: Option<LifeRequest>) -> Option<(LifeRequest, Vec<AskedBy>)> {
        self.phase = match (self.phase, ended) {
            (Phase::Stopping, _) => return None,
            (Phase::ReloadingMeanwhile, Some(LifeRequest::Restart)) => {
                self.phase = Phase::Reloading;
                return None;
            }
            (Phase::ReloadingMeanwhile, _) => Phase::Restarting,
            _ => Phase::Running,
        };
        let (request, _) = *self.waiting.front()?;
        let mut by = Vec::new();
        self.waiting.retain(|(other, who)| {
            let same = *other == request;
            if same {
                by.push(*who);
            }
            !same
        });
        self.begin(request);
        Some((request, by))
    }

    /// The successor's state is about to be written; false while a reload is under way.
    pub fn hand_over(&mut self) -> bool {
        let ready = self.phase == Phase::Restarting;
        if ready {
            self.phase = Phase::HandingOver;
        }
        ready
    }

    /// Whether a signal waits for a reload. Clients ask the successor again.
    pub fn owes_reload(&self) -> bool {
        self.waiting.contains(&(LifeRequest::Reload, None))
    }

    /// It may end now; with `leaves`, another server may follow.
    pub fn finish(&mut self, leaves: bool) {
        self.phase = Phase::Stopping;
        self.leaves = leaves;
        self.over = true;
    }

    /// Whether it is to end.
    pub fn is_stopping(&self) -> bool {
        self.phase == Phase::Stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_happen_when() {
        use LifeRequest::{Reload, Restart, Stop};
        use Phase::{
            HandingOver, Reloading, ReloadingMeanwhile, Restarting, Running, Starting, Stopping,
        };
        use Verdict::{Begin, Done, Follow, Refuse};
        let refused = Refuse("the server is stopping");
        for (phase, reload, restart, stop) in [
            (Starting, Follow, Follow, Begin),
            (Running, Begin, Begin, Begin),
            (Reloading, Follow, Follow, Begin),
            (Restarting, Begin, Done, Begin),
            (ReloadingMeanwhile, Follow, Done, Begin),
            (HandingOver, Follow, Done, Begin),
            (Stopping, refused, refused, Done),
        ] {
            assert_eq!(verdict(phase, Reload), reload, "{phase:?}");
            assert_eq!(verdict(phase, Restart), restart, "{phase:?}");
            assert_eq!(verdict(phase, Stop), stop, "{phase:?}");
        }
    }

    #[test]
    fn a_hundred_reloads_are_two() {
        let mut life = Life::default();
        assert_eq!(life.proceed(None), None);
        let by = |number| Some(ConnId(number));
        assert_eq!(life.ask(LifeRequest::Reload, by(0)), Verdict::Begin);
        for number in 1..100 {
            assert_eq!(life.ask(LifeRequest::Reload, by(number)), Verdict::Follow);
        }
        assert_eq!(life.ask(LifeRequest::Restart, by(100)), Verdict::Follow);
        let begun = life.proceed(Some(LifeRequest::Reload));
        let waiting = (1..100).map(by).collect();
        assert_eq!(begun, Some((LifeRequest::Reload, waiting)));
        let begun = life.proceed(Some(LifeRequest::Reload));
        assert_eq!(begun, Some((LifeRequest::Restart, vec![by(100)])));
        assert_eq!(life.phase, Phase::Restarting);
        assert_eq!(life.ask(LifeRequest::Reload, by(101)), Verdict::Begin);
        assert_eq!(life.ask(LifeRequest::Reload, None), Verdict::Follow);
        assert!(!life.hand_over());
        let begun = life.proceed(Some(LifeRequest::Reload));
        assert_eq!(begun, Some((LifeRequest::Reload, vec![None])));
        assert_eq!(life.proceed(Some(LifeRequest::Reload)), None);
        assert!(life.hand_over());
        assert_eq!(life.ask(LifeRequest::Reload, None), Verdict::Follow);
        assert!(life.owes_reload());
        assert_eq!(life.ask(LifeRequest::Stop, None), Verdict::Begin);
        assert!(life.is_stopping() && !life.over);
        assert_eq!(life.proceed(Some(LifeRequest::Reload)), None);
        life.finish(true);
        assert!(life.over && life.leaves);
    }

    #[test]
    fn a_restart_that_fails_beside_a_reload_leaves_the_reload() {
        let mut life = Life::default();
        life.proceed(None);
        assert_eq!(life.ask(LifeRequest::Restart, None), Verdict::Begin);
        assert_eq!(life.ask(LifeRequest::Reload, None), Verdict::Begin);
        assert_eq!(life.ask(LifeRequest::Reload, None), Verdict::Follow);
        assert_eq!(life.proceed(Some(LifeRequest::Restart)), None);
        assert_eq!(life.phase, Phase::Reloading);
        assert_eq!(life.ask(LifeRequest::Reload, None), Verdict::Follow);
        let begun = life.proceed(Some(LifeRequest::Reload));
        assert_eq!(begun, Some((LifeRequest::Reload, vec![None, None])));
    }
}
