//! The end of a sign-in, which the user is told of while the tokens serve.

use std::time::Duration;

use log::Level;

use super::{LiveAccount, Phase, Reminder, SignIn};
use crate::{
    core::{
        env::{Common, Env},
        forecast::{MAX_NOTICE_INTERVAL, MIN_LIFE, NOTICE_INTERVAL},
    },
    text::shell_word,
    time::{Instant, Now, Wall, humane},
    view::{EndsBy, Happening, SignInEnd},
};

impl LiveAccount {
    /// When the sign-in of the tokens held will end, as far as that is known.
    fn sign_in_end(&self) -> Option<SignInEnd> {
        let grant = self.state.grant.as_ref()?;
        let told = match (&grant.renewal, self.phase()) {
            (_, Some(Phase::Rejected { .. })) => return None,
            (Some(renewal), _) => renewal.ends,
            (None, _) => self.access_expires(),
        };
        // A provider that hasn't kept its word isn't believed.
        let told = told.filter(|at| *at > grant.obtained.instant);
        let told = told.map(|at| grant.obtained.wall_at(at));
        let expected = self.state.sign_ins.expected_end(grant.obtained.wall);
        let ends = [(told, EndsBy::Provider), (expected, EndsBy::Experience)].into_iter();
        let ends = ends.filter_map(|(at, by)| Some(SignInEnd { at: at?, by }));
        ends.min_by_key(|end| end.at)
    }

    /// Whether a refresh may put that off.
    fn may_slide(&self, end: &SignInEnd) -> bool {
        let renewal = self.state.grant.as_ref().and_then(|it| it.renewal.as_ref());
        end.by == EndsBy::Provider && renewal.is_some_and(|it| !it.fixed)
    }

    /// The end as it is shown: not that of an access token alone, and not one that a refresh will put
    /// off, until it should have.
    pub(super) fn shown_end(&self, now: Now, common: &Common) -> Option<SignInEnd> {
        self.phase()?;
        let end = self.sign_in_end().filter(|end| end.at > now.wall)?;
        let is_near = || (self.notice_from(common, &end)).is_some_and(|at| at <= now.wall);
        (!self.may_slide(&end) || is_near()).then_some(end)
    }

    /// From when on the user is to be told of it; never in the first half of that life.
    fn notice_from(&self, common: &Common, end: &SignInEnd) -> Option<Wall> {
        let grant = self.state.grant.as_ref()?;
        let since = match &grant.renewal {
            Some(_) if !self.may_slide(end) => self.state.sign_ins.began,
            Some(_) | None => Some(grant.obtained.wall),
        };
        let life = since.map_or(Duration::MAX, |at| end.at.since(at));
        let most = life.checked_div(2)?;
        let ahead = self.config.policy.notice_before.min(most);
        let from = end.at.before(ahead);
        let waking = common.last_waking(from);
        let waking = waking.filter(|at| end.at.since(*at) <= most);
        (life >= MIN_LIFE && !ahead.is_zero()).then_some(waking.unwrap_or(from))
    }

    /// When the user is to be told next that the sign-in will end.
    pub(super) fn notice_due(&self, common: &Common) -> Option<Instant> {
        // To refresh them it must be known where to sign in, too: that is waited for.
        self.endpoints.as_ref()?;
        let open = matches!(self.state.sign_in, SignIn::None | SignIn::Pending(_));
        // A refresh that may put the end off comes first.
        let failing = matches!(self.phase(), Some(Phase::Failing { .. }));
        let is_certain = |end: &SignInEnd| failing || !self.may_slide(end);
        let end = self.sign_in_end().filter(|end| open && is_certain(end))?;
        let from = self.notice_from(common, &end)?;
        let again = |told: Wall| {
            let waking = common.last_waking(told.after(MAX_NOTICE_INTERVAL));
            from.max(waking.unwrap_or(told.after(NOTICE_INTERVAL)))
        };
        let at = self.state.sign_ins.told.map_or(from, again);
        let obtained = self.state.grant.as_ref()?.obtained;
        (at < end.at).then(|| obtained.instant_at(at))
    }

    /// The sign-in will end, and another can be had at once: the tokens serve until it has been.
    pub(super) fn tell_of_end(&mut self, env: &mut Env) {
        let Some((end, grant)) = self.sign_in_end().zip(self.state.grant.as_ref()) else {
            return;
        };
        // By the clock as it was then: the next notice is filed by that.
        let now = grant.obtained.wall_at(env.now.instant);
        (self.state.sign_ins.told, self.state.notice) = (Some(now), true);
        let news = Happening::SignInExpiring.until(Some(end.at));
        env.news(&self.name, news);
        let (left, name) = (humane(end.at.since(now)), shell_word(&self.name));
        let ends = match end.by {
            EndsBy::Provider => "ends",
            EndsBy::Experience => "may end, as an earlier one did,",
        };
        let message =
            format!("the sign-in {ends} in {left}: sign in again with `pizauth auth {name}`");
        env.log(Level::Warn, &self.name, message);
        match self.state.sign_in {
            SignIn::Pending(_) => self.remind(env, Reminder::WithCode),
            _ => self.begin_sign_in(env),
        }
    }
}
