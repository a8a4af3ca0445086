//! What an account says is under way, for the simulator: it must agree with what is.

use std::time::Duration;

use crate::core::{
    account::{LiveAccount, Operation, SignIn},
    attempt::{AttemptId, Waiter},
};

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
    /// The user has heard that the sign-in will end.
    pub told_of_end: bool,
}

impl UnderWay {
    /// Every operation in flight.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptId> {
        let one = [self.refresh, self.exchange, self.code, self.poll];
        let others = self.revocations.iter().map(|(attempt, _)| *attempt);
        one.into_iter().flatten().chain(others)
    }
}

impl LiveAccount {
    /// A planted bug: if the sign-in has just ended, it has lived twice as long.
    pub fn learn_double(&mut self) {
        if self.state.sign_ins.began.is_none() {
            self.state.sign_ins.double_last();
        }
    }

    /// How long sign-ins lived.
    pub fn lives(&self) -> &[Duration] {
        self.state.sign_ins.lives()
    }

    pub(in crate::core) fn under_way(&self) -> UnderWay {
        let one = |wanted| {
            let mut in_flight = self.in_flight();
            let (attempt, _) = in_flight.find(|(_, operation)| *operation == wanted)?;
            Some(attempt)
        };
        let revocations = self.state.revocations.iter();
        let mut under_way = UnderWay {
            refresh: one(Operation::Refresh),
            exchange: one(Operation::Exchange),
            code: one(Operation::Code),
            poll: one(Operation::Poll),
            revocations: revocations
                .filter_map(|it| Some((it.dispatch.attempt()?, it.waiters.first().copied())))
                .collect(),
            told: self.state.revocations.len(),
            told_of_end: self.state.sign_ins.told.is_some(),
            discovering: matches!(self.state.sign_in, SignIn::Discovering(_)),
            ..UnderWay::default()
        };
        if let SignIn::Pending(pending) = &self.state.sign_in {
            let uri = pending.browser.as_ref().map(|browser| browser.uri.clone());
            under_way.pending = Some((pending.attempt, uri));
            under_way.wants_code = pending.device.is_to_come() && under_way.code.is_none();
        }
        under_way
    }
}
