//! An account as `status` tells of it.

use super::{Account, Grant, Held, Phase, Renewal, SignIn, reason};
use crate::{
    core::env::Common,
    time::Now,
    view::{AccessView, AccountView, RenewalView, SignInView},
};

impl Account {
    /// What `status` shows.
    pub fn view(&self, now: Now, common: &Common) -> AccountView {
        let grant = match &self.held {
            Held::Nothing { .. } => None,
            Held::Grant(grant) => Some(grant),
        };
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
            renewal: grant.map(|grant| self.renewal_view(grant, now, common)),
            lost: self.lost().map(reason),
            sign_in: self.sign_in_view(now),
            discovery: self.discovery_view(common, now),
        }
    }

    fn renewal_view(&self, grant: &Grant, now: Now, common: &Common) -> RenewalView {
        let Renewal::With { phase, .. } = &grant.renewal else {
            return RenewalView::Impossible;
        };
        let at = now.wall_at(
            self.refresh_due(common)
                .unwrap_or(now.instant)
                .max(now.instant),
        );
        match phase {
            Phase::Waiting | Phase::Wanted => RenewalView::Scheduled { at },
            Phase::InFlight { .. } | Phase::Probing { .. } => RenewalView::UnderWay,
            Phase::Failing { trouble, .. } => RenewalView::Failing {
                since: trouble.since.wall,
                failures: trouble.failures,
                at,
                reason: reason(&trouble.refusal),
            },
            Phase::Rejected { refusal, since } => RenewalView::Rejected {
                since: *since,
                reason: reason(refusal),
            },
            Phase::Parked { refusal, since } => RenewalView::Parked {
                since: *since,
                reason: reason(refusal),
            },
        }
    }

    fn sign_in_view(&self, now: Now) -> SignInView {
        match &self.sign_in {
            SignIn::None { failed } => SignInView::None {
                failed: failed.as_ref().map(reason),
            },
            SignIn::Discovering(discovering) => SignInView::Discovering {
                since: discovering.since.wall,
            },
            SignIn::Pending(pending) => SignInView::Pending {
                since: pending.since.wall,
                reminded: pending.reminded.map(|now| now.wall),
                failed: pending.failed.as_ref().map(reason),
                device: pending.device.view(now),
            },
            SignIn::Exchanging(exchanging) => SignInView::Exchanging {
                since: exchanging.since.wall,
                trouble: exchanging.trouble.as_ref().map(reason),
            },
        }
    }
}
