//! The commands that print client secrets: late, failing, and of no more use when they end.

use super::{
    promise::{Check, Invariant, Violation, fail, must},
    provider::{Asks, Fault, Form},
    setup::{MARK, NAMES},
    state::{ClientSecret, Device, Doing, Renewal, Said, SignIn},
    world::World,
};
use crate::{core::AttemptId, secret::Secret};

/// The `number`-th secret that a command printed.
fn printed(number: u64) -> String {
    format!("{MARK}printed-{number}")
}

impl World {
    /// The core wants to know the client secret of `account`.
    pub fn fetched(&mut self, account: usize, attempt: AttemptId) -> Check {
        self.fresh(attempt)?;
        let described = self.setup.accounts[account];
        let text = "a client secret that nobody keeps back";
        must(
            described.present && described.asks_for_secret(),
            Invariant::Events,
            text,
        )?;
        let secret = &mut self.state.shadows[account].secret;
        let needed = match secret {
            ClientSecret::Unknown => true,
            ClientSecret::Known { doubted, .. } => *doubted,
            ClientSecret::Fetching(_) => false,
        };
        must(
            needed,
            Invariant::Events,
            "a client secret is asked for twice",
        )?;
        *secret = ClientSecret::Fetching(attempt);
        self.state.fetches.push((account, attempt));
        Ok(())
    }

    /// A request has the secret that it must have.
    pub fn must_prove(&self, account: usize, form: &Form) -> Check {
        let described = &self.setup.accounts[account];
        let wanted = match (
            described.client_secret % 4,
            self.state.shadows[account].secret,
        ) {
            (0, _) => None,
            (3, ClientSecret::Known { number, .. }) => Some(printed(number)),
            (3, _) => {
                let text = "a request without the client secret";
                return fail(Invariant::Events, text.into());
            }
            (n, _) => Some(format!("{MARK}client-{n}")),
        };
        must(
            form.client_secret == wanted,
            Invariant::Origin,
            "a request with another client secret",
        )
    }

    /// A command ends, with the secret or without.
    pub fn secret(&mut self, pick: usize, ok: bool) -> Check {
        if self.state.fetches.is_empty() {
            return Ok(());
        }
        let (account, attempt) = self.state.fetches.remove(pick % self.state.fetches.len());
        let mut said = Said::default();
        let wanted = self.state.shadows[account].secret == ClientSecret::Fetching(attempt);
        self.state.printed += u64::from(ok);
        if wanted && ok {
            self.state.shadows[account].secret = ClientSecret::Known {
                number: self.state.printed,
                doubted: false,
            };
            self.code_can_be_asked_for(account, &mut said);
        } else if wanted {
            self.state.shadows[account].secret = ClientSecret::Unknown;
            said = self.nothing_sent(account)?;
        }
        let secret = match ok {
            true => Ok(Secret::new(printed(self.state.printed))),
            false => Err("exit status 1".into()),
        };
        self.feed(|sut, cx| sut.secret_outcome(cx, NAMES[account], attempt, secret));
        self.expect(said)?;
        self.look(Doing::Other)
    }

    /// Whatever waited for the secret of `account`, or for its endpoints, has failed, as if it couldn't
    /// be sent.
    pub fn nothing_sent(&mut self, account: usize) -> Result<Said, Violation> {
        let mut said = Said::default();
        for (asks, attempt) in self.unsent(account) {
            let flight = self.paper_flight(account, asks, attempt);
            let more = match asks {
                Asks::Refresh | Asks::Own => {
                    let class = Fault::NotSent.class(None);
                    self.refreshed(&flight, Fault::NotSent, class)
                }
                Asks::Exchange => {
                    let class = Fault::NotSent.class(None);
                    self.exchanged(&flight, Fault::NotSent, class)
                }
                Asks::Code => self.code_replied(&flight, Fault::NotSent),
                Asks::Poll => self.poll_replied(&flight, Fault::NotSent),
                Asks::Revocation => self.revocation_failed(account, attempt),
            };
            said.add(more);
        }
        Ok(said)
    }

    /// The operations that wait for the secret of `account`.
    fn unsent(&self, account: usize) -> Vec<(Asks, AttemptId)> {
        let shadow = &self.state.shadows[account];
        let mut all = Vec::new();
        if let Renewal::InFlight(attempt) = shadow.renewal {
            all.push((Asks::Refresh, attempt));
        }
        match &shadow.sign_in {
            SignIn::Exchanging {
                attempt: Some(attempt),
                ..
            } => all.push((Asks::Exchange, *attempt)),
            SignIn::Pending {
                device: Device::Asking(attempt),
                ..
            } => all.push((Asks::Code, *attempt)),
            SignIn::Pending {
                device:
                    Device::Code {
                        attempt: Some(attempt),
                        ..
                    },
                ..
            } => all.push((Asks::Poll, *attempt)),
            SignIn::None
            | SignIn::Discovering { .. }
            | SignIn::Pending { .. }
            | SignIn::Exchanging { .. } => {}
        }
        let ours = self
            .state
            .revocations
            .iter()
            .filter(|it| it.account == account);
        all.extend(ours.filter_map(|it| Some((Asks::Revocation, it.attempt?))));
        all.retain(|(_, attempt)| !self.is_flying(*attempt));
        all
    }

    /// Whether a request of that name is with an issuer.
    pub fn is_flying(&self, attempt: AttemptId) -> bool {
        self.state
            .flights
            .iter()
            .any(|flight| flight.attempt == attempt)
    }
}
