//! The redirection endpoint's decisions: callbacks become the core's events, its answers pages.

use std::sync::Arc;

use url::Url;

use super::engine::Engine;
use crate::{
    core::{CallbackAnswer, Waiter},
    oauth::{authorization, token::Refusal},
    redirect::{self, BrowserReply, Pages, RawCallback, Scheme, SignInPage},
    secret::Secret,
    serve::{ConnId, Remote},
    time::humane,
    view::{self, AccountView, RenewalView, rfc3339},
};

/// The token holder as the redirection endpoint sees it.
pub struct Endpoint(pub Arc<Engine>);

impl redirect::CallbackHandler for Endpoint {
    fn has_host(&self, scheme: Scheme, host: &str) -> bool {
        self.any_redirect(scheme, |uri| {
            uri.host_str()
                .is_some_and(|known| known.eq_ignore_ascii_case(host))
        })
    }

    fn has_path(&self, scheme: Scheme, path: &str) -> bool {
        // Some browsers and providers add or drop the last slash.
        let bare = path.strip_suffix('/').unwrap_or(path);
        self.any_redirect(scheme, |uri| {
            let known = uri.path();
            known.strip_suffix('/').unwrap_or(known) == bare
        })
    }

    fn callback(&mut self, id: ConnId, callback: &RawCallback) -> BrowserReply {
        let response = match authorization::parse_callback(callback.params) {
            Ok(response) => response,
            Err(fault) => {
                log::warn!("a request at the redirect port was no authorization response: {fault}");
                return BrowserReply::Page(SignInPage::Stale);
            }
        };
        log::debug!("a browser brings an authorization response");
        let (scheme, host, path) = (callback.scheme.name(), callback.host, callback.path);
        let Ok(at) = Url::parse(&format!("{scheme}://{host}{path}")) else {
            return BrowserReply::Page(SignInPage::Stale);
        };
        let waiter = Waiter(id.number());
        let answer = (self.0).with(|core, cx| core.callback(cx, &at, response, waiter));
        match answer {
            CallbackAnswer::Wait { account } => BrowserReply::Wait {
                account: account.to_string(),
            },
            CallbackAnswer::Over { account, result } => {
                let account = account.to_string();
                BrowserReply::Page(match result {
                    Ok(()) => SignInPage::Authorised {
                        account,
                        remarks: vec!["It already was, so nothing has changed.".into()],
                    },
                    Err(refusal) => failed(account, &refusal),
                })
            }
            CallbackAnswer::OtherProvider { account } => {
                BrowserReply::Page(SignInPage::OtherProvider {
                    account: account.to_string(),
                })
            }
            CallbackAnswer::Stale => BrowserReply::Page(SignInPage::Stale),
        }
    }

    fn awaited(&self, account: &str) -> (Option<String>, Option<String>) {
        self.0.with(|core, _| {
            let trouble = core.exchange_trouble(account).map(Refusal::line);
            (core.provider_host(account), trouble)
        })
    }

    fn sign_in_at(&mut self, name: &str) -> Option<Result<Option<String>, SignInPage>> {
        let name = Secret::new(name.to_owned());
        let (account, way) = self.0.with(|core, cx| core.sign_in_at(cx, &name))?;
        Some(way.map_err(|refusal| failed(account.to_string(), &refusal)))
    }

    fn sign_in_again(&mut self, account: &str) -> Option<String> {
        self.0
            .on(account, |it, env| it.sign_in_again(env))
            .flatten()
    }
}

impl Endpoint {
    fn any_redirect(&self, scheme: Scheme, matches: impl Fn(&Url) -> bool) -> bool {
        let config = self.0.with(|core, _| core.config().clone());
        config.accounts.iter().any(|account| {
            let uri = &account.registration.redirect_uri;
            account.pasted_redirect.is_none() && uri.scheme() == scheme.name() && matches(uri)
        })
    }
}

fn failed(account: String, refusal: &Refusal) -> SignInPage {
    SignInPage::Refused {
        account,
        reason: refusal.text.clone(),
        hint: refusal.hint.clone(),
    }
}

/// What the user should know of tokens that have just come.
fn remarks(view: &AccountView) -> Vec<String> {
    let expires = match (view.obtained, view.expires) {
        (Some(obtained), Some(expires)) => {
            let span = humane(expires.since(obtained));
            let until = rfc3339(expires).replace('T', " ").replace('Z', " UTC");
            format!("for {span}, until {until}")
        }
        _ => "until the provider ends it".into(),
    };
    let renewal = match view.renewal {
        RenewalView::Impossible => "No refresh token came, so you have to sign in again then.",
        _ => "pizauth refreshes it by itself.",
    };
    let user = view
        .user
        .as_ref()
        .map(|user| format!("Signed in as {user}."));
    let valid = format!("The access token is valid {expires}. {renewal}");
    let other = view.other_user.as_deref().map(view::other_user);
    let warning = other.map(|other| format!("Warning: {other}."));
    [user, Some(valid), warning].into_iter().flatten().collect()
}

/// Shows the end of a sign-in to a browser that waits for it.
pub fn settle(
    remote: &Remote,
    pages: &Pages,
    Waiter(number): Waiter,
    account: &str,
    result: &Result<(), Refusal>,
    view: Option<&AccountView>,
) {
    let account = account.to_owned();
    let outcome = match result {
        Ok(()) => SignInPage::Authorised {
            account,
            remarks: view.map(remarks).unwrap_or_default(),
        },
        Err(refusal) => failed(account, refusal),
    };
    let id = ConnId::from_number(number);
    remote.send(id, pages.promise(id, &outcome), true);
}
