//! An account as `status` tells of it.

use super::{Account, Phase, SignIn};
use crate::{
    config::is_plain,
    core::env::Common,
    time::Now,
    view::{AccessView, AccountView, RenewalView, SignInView},
};

impl Account {
    /// What `status` shows.
    pub fn view(&self, now: Now, common: &Common) -> AccountView {
        let grant = self.state.grant.as_ref();
        AccountView {
            account: self.name.to_string(),
            access: grant.and_then(|grant| {
                let access = grant.access.as_ref()?;
                Some(AccessView {
                    valid: self.valid_access(now.instant).is_some(),
                    obtained: now.wall_at(grant.obtained.instant),
                    expires: access.expires.map(|at| now.wall_at(at)),
                })
            }),
            renewal: match grant {
                None if !self.registration.source.is_person() => Some(RenewalView::OnRequest),
                grant => grant.map(|_| self.renewal_view(now, common)),
            },
            lost: self.state.lost.clone(),
            sign_in: self.sign_in_view(now),
            user: self.user.clone(),
            other_user: self.other_user().map(str::to_owned),
            plain: {
                let uris = [&self.registration.auth_uri, &self.registration.token_uri];
                uris.into_iter().flatten().any(|uri| is_plain(uri))
            },
            discovery: self.discovery_view(common, now),
        }
    }

    fn renewal_view(&self, now: Now, common: &Common) -> RenewalView {
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
            SignIn::None => SignInView::None { failed },
            SignIn::Discovering(discovering) => SignInView::Discovering {
                since: discovering.since.wall,
            },
            SignIn::Pending(pending) => SignInView::Pending {
                since: pending.since.wall,
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
