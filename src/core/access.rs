//! Who may ask what on a restricted socket.

use crate::config::{Allowed, RestrictedSocket};
use crate::view::{AccountView, SignInView};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No restricted socket allows this.
    Never,
    /// This socket doesn't allow it.
    NotHere(Allowed),
    /// The account doesn't exist as far as the client may tell.
    NoAccount,
}

/// Whether this account exists as far as the socket's clients may tell.
pub fn sees(rules: &RestrictedSocket, account: &str) -> bool {
    rules.accounts.iter().any(|name| **name == *account)
}

/// An account without what signs somebody in, since whoever has that could sign in as another user,
/// and without what the user runs elsewhere.
pub fn without_sign_in(mut view: AccountView) -> AccountView {
    if let SignInView::Pending {
        device, requester, ..
    } = &mut view.sign_in
    {
        (*device, *requester) = (None, None);
    }
    view
}

/// Whether `rules` allow this verb, for this account as soon as it is known.
///
/// # Errors
/// Why not. What isn't allowed says nothing of the accounts that there are.
pub fn judge(rules: &RestrictedSocket, verb: &str, account: Option<&str>) -> Result<(), Denial> {
    let mut all = Allowed::ALL.into_iter();
    let wanted = all.find(|it| it.name() == verb).ok_or(Denial::Never)?;
    if !rules.allow.contains(&wanted) {
        return Err(Denial::NotHere(wanted));
    }
    match account.is_none_or(|account| sees(rules, account)) {
        true => Ok(()),
        false => Err(Denial::NoAccount),
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowed::*, Denial::*, *};
    use crate::time::Wall;
    use crate::view::{
        DeviceView, DiscoveryState, DiscoveryView, EndsBy, Needs, Refusal, RenewalView, SignInEnd,
    };

    #[test]
    fn every_request_meets_every_rule() {
        let rules = |allow: &[Allowed]| RestrictedSocket {
            path: "/run/socket".into(),
            accounts: vec!["work".into(), "home".into()],
            allow: allow.to_vec(),
        };
        for (allow, verb, account, answer) in [
            (&[Show][..], "show", Some("work"), Ok(())),
            (&[Show], "show", Some("home"), Ok(())),
            (&[Show], "show", None, Ok(())),
            (&[Show], "show", Some("club"), Err(NoAccount)),
            (&[Show], "show", Some(""), Err(NoAccount)),
            (&[Show], "show", Some("Work"), Err(NoAccount)),
            (&[Show], "refresh", Some("work"), Err(NotHere(Refresh))),
            (&[Show], "refresh", Some("club"), Err(NotHere(Refresh))),
            (&[Show], "refresh", None, Err(NotHere(Refresh))),
            (&[Show], "status", None, Err(NotHere(Status))),
            (&[Refresh], "refresh", Some("work"), Ok(())),
            (&[Refresh], "refresh", Some("club"), Err(NoAccount)),
            (&[Refresh], "show", Some("work"), Err(NotHere(Show))),
            (&[Status], "status", None, Ok(())),
            (&[Status], "show", Some("work"), Err(NotHere(Show))),
            (&[Refresh, Show, Status], "status", None, Ok(())),
            (&[Refresh, Show, Status], "revoke", Some("work"), Err(Never)),
            (&[Refresh, Show, Status], "dump", None, Err(Never)),
            (&[], "show", Some("work"), Err(NotHere(Show))),
        ] {
            assert_eq!(
                judge(&rules(allow), verb, account),
                answer,
                "{allow:?} {verb} {account:?}"
            );
        }
        assert!(sees(&rules(&[]), "work") && !sees(&rules(&[Show]), "club"));
    }

    /// All that there is of an account.
    fn whole(sign_in: SignInView) -> AccountView {
        let reason = Refusal {
            text: "no".into(),
            hint: Some("yes".into()),
        };
        AccountView {
            account: "work".into(),
            valid: true,
            needs: Needs::SignIn,
            plain_http: true,
            obtained: Some(Wall::from_millis(1)),
            expires: Some(Wall::from_millis(2)),
            renewal: RenewalView::Failing {
                since: Wall::from_millis(1),
                failures: 1,
                at: Wall::from_millis(3),
                reason,
            },
            sign_in,
            sign_in_end: Some(SignInEnd {
                at: Wall::from_millis(4),
                by: EndsBy::Provider,
            }),
            user: Some("me".into()),
            other_user: Some("other".into()),
            discovery: Some(DiscoveryView {
                issuer: "https://i.example".into(),
                state: DiscoveryState::NotYet,
            }),
        }
    }

    /// A new field doesn't compile here before somebody has said whether it signs somebody in.
    #[test]
    fn of_every_field_it_is_said_whether_it_signs_somebody_in() {
        let since = Wall::from_millis(1);
        let reason = || Refusal::new("no");
        for sign_in in [
            SignInView::None,
            SignInView::Failed { reason: reason() },
            SignInView::Discovering { since },
            SignInView::Pending {
                since,
                requester: Some("msmtp".into()),
                reminded: Some(since),
                failed: Some(reason()),
                device: Some(DeviceView {
                    user_code: "USER-1".into(),
                    verification_uri: "https://v.example".into(),
                    verification_uri_complete: None,
                    expires: since,
                }),
                paste: true,
            },
            SignInView::Exchanging {
                since,
                trouble: Some(reason()),
            },
        ] {
            let mut wanted = whole(sign_in);
            let shown = without_sign_in(wanted.clone());
            let AccountView {
                account: _,
                valid: _,
                needs: _,
                plain_http: _,
                obtained: _,
                expires: _,
                renewal: _,
                sign_in,
                sign_in_end: _,
                user: _,
                other_user: _,
                discovery: _,
            } = &mut wanted;
            match sign_in {
                SignInView::None
                | SignInView::Other
                | SignInView::Failed { reason: _ }
                | SignInView::Discovering { since: _ }
                | SignInView::Exchanging {
                    since: _,
                    trouble: _,
                } => {}
                SignInView::Pending {
                    since: _,
                    requester,
                    reminded: _,
                    failed: _,
                    device,
                    paste: _,
                } => (*device, *requester) = (None, None),
            }
            assert_eq!(shown, wanted);
        }
    }
}
