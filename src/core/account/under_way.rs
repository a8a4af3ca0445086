//! What an account says is under way, for the simulator: it must agree with what is.

use super::{Account, ExchangePhase, Phase, SignIn};
use crate::core::{AttemptId, Waiter};

/// The operations in flight, and the sign-in that waits for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    pub refresh: Option<AttemptId>,
    pub exchange: Option<AttemptId>,
    pub code: Option<AttemptId>,
    pub poll: Option<AttemptId>,
    /// Each with who waits for it.
    pub revocations: Vec<(AttemptId, Option<Waiter>)>,
    /// A code is to be asked for when that is allowed.
    pub wants_code: bool,
    /// How many revocations have no end yet.
    pub told: usize,
    /// Its name, and the address to open in a browser.
    pub pending: Option<(AttemptId, Option<String>)>,
    /// A sign-in waits for the issuer to say where.
    pub discovering: bool,
}

impl UnderWay {
    /// Every operation in flight.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        let one = [self.refresh, self.exchange, self.code, self.poll];
        let others = self.revocations.iter().map(|(attempt, _)| *attempt);
        one.into_iter().flatten().chain(others)
    }
}

impl Account {
    pub fn under_way(&self) -> UnderWay {
        let mut under_way = UnderWay {
            refresh: match self.phase() {
                Some(Phase::InFlight { attempt, .. }) => Some(*attempt),
                _ => None,
            },
            revocations: self
                .revocations
                .iter()
                .filter_map(|it| Some((it.attempt()?, it.waiters.first().copied())))
                .collect(),
            told: self.revocations.len(),
            ..UnderWay::default()
        };
        match &self.sign_in {
            SignIn::None { .. } => {}
            SignIn::Discovering(_) => under_way.discovering = true,
            SignIn::Pending(pending) => {
                let uri = pending.browser.as_ref().map(|browser| browser.uri.clone());
                under_way.pending = Some((pending.attempt, uri));
                (under_way.code, under_way.poll) = pending.device.attempts();
                under_way.wants_code = pending.device.is_to_come() && under_way.code.is_none();
            }
            SignIn::Exchanging(exchanging) => {
                under_way.exchange = match exchanging.phase {
                    ExchangePhase::InFlight(attempt) => Some(attempt),
                    ExchangePhase::RetryAt(_) => None,
                };
            }
        }
        under_way
    }
}
