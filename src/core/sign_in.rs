//! A sign-in under way. Handovers carry these types as they are.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    attempt::{AttemptId, Dispatch},
    grant::Failure,
    plain, schedule,
};
use crate::{
    oauth::{authorization, device::Authorization, token::Refusal},
    secret::Secret,
    time::{Instant, Now},
    view::DeviceView,
};

/// The sign-in of one account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) enum SignIn {
    #[default]
    None,
    /// It can't begin before the issuer has named its endpoints.
    Discovering(Discovering),
    Pending(Pending),
    Exchanging(Exchanging),
}

/// A sign-in that waits for the issuer's endpoints, and begins by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Discovering {
    pub since: Now,
    /// Whether the user has been notified that it fails.
    pub told: bool,
}

/// A sign-in that waits for the user, by one channel or several: the first to finish wins.
///
/// It waits for as long as it takes. A fresh state and verifier every hour, say, would lose each
/// sign-in that began before and ended after, and guard nothing: the reminders that spread one URL
/// would spread the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub attempt: AttemptId,
    /// At least one of these two is open.
    pub browser: Option<Browser>,
    pub device: Device,
    pub since: Now,
    pub reminded: Option<Now>,
    /// Whether the command that did so has ended by itself: nothing of it waits for a click.
    pub told: bool,
}

/// An authorization request, completed by a redirect or a paste of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Browser {
    #[serde(with = "plain")]
    pub state: Arc<Secret>,
    #[serde(with = "plain")]
    pub verifier: Arc<Secret>,
    pub redirect_uri: String,
    pub uri: String,
    #[serde(default, skip_serializing_if = "Pushed::is_unneeded")]
    pub pushed: Pushed,
}

/// How far a request is that has to be left with the provider before a browser comes for it (RFC 9126).
/// It is left there when a browser comes to its short address, since it lives for a minute only.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) enum Pushed {
    /// The browser takes it along.
    #[default]
    Unneeded,
    /// It is left there when the next browser comes.
    Due,
    #[serde(skip)]
    Asking(AttemptId),
    /// The provider didn't take it, which the next browser is told.
    Refused(Refusal),
    /// It is there under this name until then.
    Done(String, Instant),
}

/// An authorization code on its way to the token endpoint. It owns everything that the exchange
/// needs, so that nothing but revoke and reload can cost it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchanging {
    pub browser: Browser,
    #[serde(with = "plain")]
    pub code: Arc<Secret>,
    pub since: Now,
    /// When it is sent again: nothing of the last request was sent, so the code is still good.
    pub dispatch: Dispatch,
    /// Why the last try failed.
    pub trouble: Option<Refusal>,
    /// Whether the user has been notified.
    pub told: bool,
}

/// The device channel of a pending sign-in (RFC 8628).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Device {
    /// The config has no endpoint for it.
    None,
    /// A code is to be asked for as soon as that is allowed; reminders wait for it.
    Wanted,
    /// The code is being asked for; reminders wait for it.
    #[serde(skip)]
    Asking(AttemptId),
    /// There is a code.
    Code(Box<Code>),
    /// There was one, or none could be had.
    Over {
        /// Whether another may be asked for, at the next reminder.
        again: bool,
    },
}

/// A code that waits for the user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    #[serde(with = "plain")]
    pub device_code: Arc<Secret>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    pub expires: Instant,
    pub interval: Duration,
    /// Polls without an answer, in a row.
    pub troubles: u32,
    /// The reply to the last poll was lost.
    pub lost: bool,
    /// The polls.
    pub dispatch: Dispatch,
}

impl Device {
    /// Whether the user may still sign in this way, now or at the next reminder.
    pub fn is_open(&self) -> bool {
        !matches!(self, Device::None | Device::Over { again: false })
    }
}

impl SignIn {
    /// The one that waits for the user.
    pub fn pending(&self) -> Option<&Pending> {
        match self {
            SignIn::Pending(pending) => Some(pending),
            SignIn::None | SignIn::Discovering(_) | SignIn::Exchanging(_) => None,
        }
    }

    /// The one whose code is being exchanged.
    pub fn exchanging(&self) -> Option<&Exchanging> {
        match self {
            SignIn::Exchanging(exchanging) => Some(exchanging),
            SignIn::None | SignIn::Discovering(_) | SignIn::Pending(_) => None,
        }
    }

    /// The device code that waits for the user.
    pub fn code_mut(&mut self) -> Option<&mut Code> {
        match self {
            SignIn::Pending(Pending {
                device: Device::Code(code),
                ..
            }) => Some(code),
            _ => None,
        }
    }

    /// What was issued to this client.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        let secrets = match self {
            SignIn::None | SignIn::Discovering(_) => [None; 2],
            SignIn::Pending(Pending {
                browser, device, ..
            }) => [
                browser.as_ref().map(|browser| &browser.verifier),
                device.code().map(|code| &code.device_code),
            ],
            SignIn::Exchanging(exchanging) => {
                [Some(&exchanging.browser.verifier), Some(&exchanging.code)]
            }
        };
        secrets.into_iter().flatten()
    }

    /// The answer to the request in flight will not arrive: it has to be sent again.
    pub fn settle(&mut self, now: Instant, is_sent: impl Fn(AttemptId) -> bool) {
        match self {
            SignIn::None | SignIn::Discovering(_) => {}
            SignIn::Exchanging(exchanging) => {
                if exchanging.dispatch.attempt().is_some_and(is_sent) {
                    exchanging.trouble = Some(Failure::unheard().refusal);
                }
                exchanging.dispatch.settle(now);
            }
            SignIn::Pending(pending) => {
                match &mut pending.device {
                    Device::Code(code) => code.dispatch.settle(now.after(code.interval)),
                    asking @ Device::Asking(_) => *asking = Device::Wanted,
                    Device::None | Device::Wanted | Device::Over { .. } => {}
                }
                let pushed = pending.browser.as_mut().map(|it| &mut it.pushed);
                if let Some(pushed @ Pushed::Asking(_)) = pushed {
                    *pushed = Pushed::Due;
                }
            }
        }
    }
}

impl Pushed {
    fn is_unneeded(&self) -> bool {
        matches!(self, Pushed::Unneeded)
    }
}

impl Browser {
    /// The attempt that leaves the request with the provider.
    pub fn pushing(&self) -> Option<AttemptId> {
        match self.pushed {
            Pushed::Asking(attempt) => Some(attempt),
            Pushed::Unneeded | Pushed::Due | Pushed::Refused(_) | Pushed::Done(..) => None,
        }
    }

    /// What the short address of this request ends with: 132 bits that only who knows the state knows,
    /// and that tell nothing of it.
    pub fn short_name(&self) -> String {
        let hash = authorization::code_challenge(&self.uri);
        hash.chars().take(22).collect()
    }
}

impl Device {
    /// When it is to be looked after; `asked` is when the account last asked for a code.
    pub fn due(&self, asked: Option<Instant>) -> Option<Instant> {
        match self {
            Device::Wanted => Some(schedule::earliest(asked, None, None)),
            Device::Code(code) => Some(code.dispatch.due()?.min(code.expires)),
            Device::None | Device::Asking(_) | Device::Over { .. } => None,
        }
    }

    /// Whether there may soon be a code, so that reminders and users wait for it.
    pub fn is_to_come(&self) -> bool {
        matches!(self, Device::Wanted | Device::Asking(_))
    }

    /// The code, if there is one.
    pub fn code(&self) -> Option<&Code> {
        match self {
            Device::Code(code) => Some(code),
            Device::None | Device::Wanted | Device::Asking(_) | Device::Over { .. } => None,
        }
    }

    /// The attempt that asks for a code.
    pub fn asking(&self) -> Option<AttemptId> {
        match self {
            Device::Asking(attempt) => Some(*attempt),
            Device::None | Device::Wanted | Device::Code(_) | Device::Over { .. } => None,
        }
    }

    /// The attempt that polls for tokens.
    pub fn polling(&self) -> Option<AttemptId> {
        self.code()?.dispatch.attempt()
    }

    /// What the user needs to know.
    pub fn view(&self, now: Now) -> Option<DeviceView> {
        let code = self.code()?;
        Some(DeviceView {
            user_code: code.user_code.clone(),
            verification_uri: code.verification_uri.clone(),
            verification_uri_complete: code.verification_uri_complete.clone(),
            expires: now.wall_at(code.expires),
        })
    }
}

impl Code {
    pub fn new(authorization: Authorization, sent: Instant) -> Self {
        Code {
            expires: sent.after(authorization.expires_in),
            interval: authorization.interval,
            troubles: 0,
            lost: false,
            dispatch: Dispatch::At(sent.after(authorization.interval)),
            device_code: authorization.device_code,
            user_code: authorization.user_code,
            verification_uri: authorization.verification_uri,
            verification_uri_complete: authorization.verification_uri_complete,
        }
    }
}
