//! An account as `status` tells of it.

use super::{LiveAccount, Phase, SignIn};
use crate::{
    config::is_plain,
    core::env::Common,
    time::Now,
    view::{AccountView, Needs, RenewalView, SignInView},
};

impl LiveAccount {
    /// What `status` shows.
    pub(in crate::core) fn view(&self, now: Now, common: &Common) -> AccountView {
        let held = self.state.grant.as_ref();
        let held = held.and_then(|grant| Some((grant, grant.access.as_ref()?)));
        let valid = self.valid_access(now.instant).is_some();
        let (renewal, sign_in) = (self.renewal_view(now, common), self.sign_in_view(now));
        AccountView {
            account: self.name.to_string(),
            valid,
            needs: needs(valid, &renewal, &sign_in),
            plain_http: {
                let uris = [&self.registration.auth_uri, &self.registration.token_uri];
                uris.into_iter().flatten().any(|uri| is_plain(uri))
            },
            obtained: held.map(|(grant, _)| now.wall_at(grant.obtained.instant)),
            expires: held.and_then(|(_, access)| Some(now.wall_at(access.expires?))),
            renewal,
            sign_in,
            sign_in_end: self.shown_end(now, common),
            user: self.user.clone(),
            other_user: self.other_user().map(str::to_owned),
            discovery: self.discovery_view(common, now),
        }
    }

    fn renewal_view(&self, now: Now, common: &Common) -> RenewalView {
        if self.state.grant.is_none() {
            let lost = self.state.lost.clone();
            return match self.registration.source.is_person() {
                true => RenewalView::NoTokens { lost },
                false => RenewalView::OnRequest,
            };
        }
        let Some(phase) = self.phase() else {
            return RenewalView::Impossible;
        };
        let due = self.refresh_due(common).unwrap_or(now.instant);
        let at = now.wall_at(due.max(now.instant));
        match phase {
            Phase::Waiting | Phase::Wanted => RenewalView::Scheduled { at },
            Phase::InFlight { .. } | Phase::Probing { .. } => RenewalView::UnderWay,
            Phase::Failing { trouble, .. } => match trouble.stopped {
                None => RenewalView::Failing {
                    since: trouble.since.wall,
                    failures: trouble.failures,
                    at,
                    reason: trouble.refusal.clone(),
                },
                Some(since) => RenewalView::Parked {
                    since,
                    at,
                    reason: trouble.refusal.clone(),
                },
            },
            Phase::Rejected { refusal, since } => RenewalView::Rejected {
                since: *since,
                reason: refusal.clone(),
            },
        }
    }

    fn sign_in_view(&self, now: Now) -> SignInView {
        let failed = self.state.failed.clone();
        match &self.state.sign_in {
            SignIn::None => match failed {
                None => SignInView::None,
                Some(reason) => SignInView::Failed { reason },
            },
            SignIn::Discovering(discovering) => SignInView::Discovering {
                since: discovering.since.wall,
            },
            SignIn::Pending(pending) => SignInView::Pending {
                since: pending.since.wall,
                requester: self.state.requester.clone(),
                reminded: pending.reminded.map(|now| now.wall),
                failed,
                device: pending.device.view(now),
                paste: self.awaits_paste(),
            },
            SignIn::Exchanging(exchanging) => SignInView::Exchanging {
                since: exchanging.since.wall,
                trouble: exchanging.trouble.clone(),
            },
        }
    }
}

/// What only the user can do.
fn needs(valid: bool, renewal: &RenewalView, sign_in: &SignInView) -> Needs {
    // The user's part of it is done.
    let completing = matches!(sign_in, SignInView::Exchanging { .. });
    match renewal {
        RenewalView::Parked { .. } => Needs::Config,
        _ if completing => Needs::None,
        RenewalView::NoTokens { .. } | RenewalView::Rejected { .. } => Needs::SignIn,
        RenewalView::Impossible if !valid => Needs::SignIn,
        RenewalView::Impossible
        | RenewalView::OnRequest
        | RenewalView::Scheduled { .. }
        | RenewalView::UnderWay
        | RenewalView::Failing { .. }
        | RenewalView::Other => Needs::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{time::Wall, view::Refusal};

    #[test]
    fn what_the_user_has_to_do_is_one_word() {
        let since = Wall::from_millis(1);
        let reason = || Refusal::new("it said no");
        let rejected = RenewalView::Rejected {
            since,
            reason: reason(),
        };
        let parked = RenewalView::Parked {
            since,
            at: since,
            reason: reason(),
        };
        let none = RenewalView::NoTokens { lost: None };
        for (valid, renewal, word) in [
            (false, none, Needs::SignIn),
            (true, rejected, Needs::SignIn),
            (false, RenewalView::Impossible, Needs::SignIn),
            (true, RenewalView::Impossible, Needs::None),
            (true, parked, Needs::Config),
            (false, RenewalView::UnderWay, Needs::None),
        ] {
            let found = needs(valid, &renewal, &SignInView::None);
            assert_eq!(found, word, "{renewal:?}");
            let completing = SignInView::Exchanging {
                since,
                trouble: Some(reason()),
            };
            let rest = match word {
                Needs::Config => word,
                Needs::None | Needs::SignIn => Needs::None,
            };
            assert_eq!(needs(valid, &renewal, &completing), rest, "{renewal:?}");
        }
    }
}
