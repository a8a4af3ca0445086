//! The redirection endpoint's decisions: callbacks become the core's events, its answers pages.

use std::sync::Arc;

use url::Url;

use super::engine::Engine;
use crate::{
    core::{CallbackAnswer, Waiter},
    oauth::{authorization, token::Refusal},
    redirect::{self, Pages, SignInPage},
    secret::Secret,
    serve::{ConnId, Remote},
    time::humane,
    view::{self, AccountView, RenewalView, rfc3339},
};

/// The token holder as the redirection endpoint sees it.
pub struct Endpoint(pub Arc<Engine>);

impl redirect::CallbackHandler for Endpoint {
    fn has_host(&self, scheme: &str, host: &str) -> bool {
        self.any_redirect(scheme, |uri| {
            uri.host_str()
                .is_some_and(|known| known.eq_ignore_ascii_case(host))
        })
    }

    fn has_path(&self, scheme: &str, path: &str) -> bool {
        // Some browsers and providers add or drop the last slash.
        let bare = path.strip_suffix('/').unwrap_or(path);
        self.any_redirect(scheme, |uri| {
            let known = uri.path();
            known.strip_suffix('/').unwrap_or(known) == bare
        })
    }

    fn callback(&mut self, id: ConnId, at: &Url, params: &str) -> Result<String, SignInPage> {
        let response = authorization::parse_callback(params).map_err(|fault| {
            log::warn!("a request at the redirect port was no authorization response: {fault}");
            SignInPage::Stale
        })?;
        log::debug!("a browser brings an authorization response");
        let waiter = Waiter(id.0);
        let answer = (self.0).with(|core, cx| core.callback(cx, at, response, waiter));
        Err(match answer {
            CallbackAnswer::Wait { account } => return Ok(account.to_string()),
            CallbackAnswer::Over { account, result } => {
                let remark = "It already was, so nothing has changed.";
                ended(&account, &result, vec![remark.into()])
            }
            CallbackAnswer::OtherProvider { account } => SignInPage::OtherProvider {
                account: account.to_string(),
            },
            CallbackAnswer::Stale => SignInPage::Stale,
        })
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
        Some(way.map_err(|refusal| failed(&account, &refusal)))
    }

    fn sign_in_again(&mut self, account: &str) -> Option<String> {
        self.0
            .on(account, |it, env| it.sign_in_again(env))
            .flatten()
    }
}

impl Endpoint {
    fn any_redirect(&self, scheme: &str, matches: impl Fn(&Url) -> bool) -> bool {
        let config = self.0.with(|core, _| core.config().clone());
        config.accounts.iter().any(|account| {
            let uri = &account.registration.redirect_uri;
            account.pasted_redirect.is_none() && uri.scheme() == scheme && matches(uri)
        })
    }
}

/// The page about a sign-in's end.
fn ended(account: &str, result: &Result<(), Refusal>, remarks: Vec<String>) -> SignInPage {
    let account = account.to_owned();
    match result {
        Ok(()) => SignInPage::Authorised { account, remarks },
        Err(refusal) => failed(&account, refusal),
    }
}

fn failed(account: &str, refusal: &Refusal) -> SignInPage {
    SignInPage::Refused {
        account: account.to_owned(),
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
    let outcome = ended(account, result, view.map(remarks).unwrap_or_default());
    let id = ConnId(number);
    remote.send(id, pages.promise(id, &outcome), true);
}
