//! The redirection endpoint's decisions: callbacks become the core's events, its answers pages.

use std::sync::Arc;

use url::Url;

use super::engine::Engine;
use crate::{
    core::{CallbackAnswer, Waiter},
    oauth::{authorization, token::Refusal},
    redirect::{self, BrowserReply, Pages, RawCallback, Scheme, SignInPage},
    serve::{ConnId, Remote},
    view,
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
        let (scheme, host, path) = (scheme(callback.scheme), callback.host, callback.path);
        let Ok(at) = Url::parse(&format!("{scheme}://{host}{path}")) else {
            return BrowserReply::Page(SignInPage::Stale);
        };
        let waiter = Waiter(id.number());
        let answer = (self.0).with(|core, cx| core.callback(cx, &at, response, waiter));
        match answer {
            CallbackAnswer::Wait { account } => BrowserReply::Wait {
                account: account.to_string(),
            },
            CallbackAnswer::Refused { account, refusal } => {
                BrowserReply::Page(SignInPage::Refused {
                    account: account.to_string(),
                    reason: refusal.text,
                    hint: refusal.hint,
                })
            }
            CallbackAnswer::Already { account, result } => {
                BrowserReply::Page(SignInPage::Already {
                    account: account.to_string(),
                    refused: result.err().map(|refusal| refusal.text),
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

    fn trouble(&self, account: &str) -> Option<String> {
        self.0
            .with(|core, _| core.exchange_trouble(account).map(Refusal::line))
    }
}

impl Endpoint {
    fn any_redirect(&self, scheme: Scheme, matches: impl Fn(&Url) -> bool) -> bool {
        let scheme = self::scheme(scheme);
        let config = self.0.with(|core, _| core.config().clone());
        config.accounts.iter().any(|account| {
            let uri = &account.registration.redirect_uri;
            account.pasted_redirect.is_none() && uri.scheme() == scheme && matches(uri)
        })
    }
}

/// The scheme as it stands in a URI.
fn scheme(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

/// Shows the end of a sign-in to a browser that waits for it, and who has signed in, if that is
/// another user than was expected.
pub fn settle(
    remote: &Remote,
    pages: &Pages,
    Waiter(number): Waiter,
    account: &str,
    result: &Result<(), Refusal>,
    user: Option<&str>,
) {
    let account = account.to_owned();
    let outcome = match result {
        Ok(()) => SignInPage::Authorised {
            account,
            warning: user.map(view::other_user),
        },
        Err(Refusal { text, hint }) => SignInPage::Refused {
            account,
            reason: text.clone(),
            hint: hint.clone(),
        },
    };
    remote.send(ConnId::from_number(number), pages.reply(&outcome), true);
}
