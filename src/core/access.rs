//! Who may ask what on a restricted socket.

use crate::config::{Allowed, RestrictedSocket};

/// What a client of a restricted socket asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestrictedRequest<'a> {
    /// The access token of this account.
    Show(&'a str),
    /// A new token of this account.
    Refresh(&'a str),
    /// The state of the accounts that it may see.
    Status,
    /// Anything else: no restricted socket allows it.
    Other,
}

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

/// Whether `rules` allow `request`.
///
/// # Errors
/// Why not. What isn't allowed says nothing of the accounts that there are.
pub fn judge(rules: &RestrictedSocket, request: RestrictedRequest) -> Result<(), Denial> {
    let (needs, account) = match request {
        RestrictedRequest::Show(account) => (Allowed::Show, Some(account)),
        RestrictedRequest::Refresh(account) => (Allowed::Refresh, Some(account)),
        RestrictedRequest::Status => (Allowed::Status, None),
        RestrictedRequest::Other => return Err(Denial::Never),
    };
    if !rules.allow.contains(&needs) {
        return Err(Denial::NotHere(needs));
    }
    if account.is_some_and(|account| !sees(rules, account)) {
        return Err(Denial::NoAccount);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Allowed::*, Denial::*, RestrictedRequest as Asks, *};

    #[test]
    fn every_request_meets_every_rule() {
        let rules = |allow: &[Allowed]| RestrictedSocket {
            path: "/run/socket".into(),
            accounts: vec!["work".into(), "home".into()],
            allow: allow.to_vec(),
        };
        for (allow, request, answer) in [
            (&[Show][..], Asks::Show("work"), Ok(())),
            (&[Show], Asks::Show("home"), Ok(())),
            (&[Show], Asks::Show("club"), Err(NoAccount)),
            (&[Show], Asks::Show(""), Err(NoAccount)),
            (&[Show], Asks::Show("Work"), Err(NoAccount)),
            (&[Show], Asks::Refresh("work"), Err(NotHere(Refresh))),
            (&[Show], Asks::Refresh("club"), Err(NotHere(Refresh))),
            (&[Show], Asks::Status, Err(NotHere(Status))),
            (&[Refresh], Asks::Refresh("work"), Ok(())),
            (&[Refresh], Asks::Refresh("club"), Err(NoAccount)),
            (&[Refresh], Asks::Show("work"), Err(NotHere(Show))),
            (&[Status], Asks::Status, Ok(())),
            (&[Status], Asks::Show("work"), Err(NotHere(Show))),
            (&[Refresh, Show, Status], Asks::Status, Ok(())),
            (&[Refresh, Show, Status], Asks::Other, Err(Never)),
            (&[], Asks::Show("work"), Err(NotHere(Show))),
        ] {
            assert_eq!(
                judge(&rules(allow), request),
                answer,
                "{allow:?} {request:?}"
            );
        }
        assert!(sees(&rules(&[]), "work") && !sees(&rules(&[Show]), "club"));
    }
}
