//! Where an account's provider is: what the config says, and where that is silent, what its issuer
//! says of itself. Until that is known, whatever needs it waits here.

use std::sync::Arc;

use url::Url;

use super::{LiveAccount, Origins, Phase, SignIn};
use crate::{
    config::{self, ClientAuth, Registration},
    core::{
        attempt::AttemptId,
        discovery::Entry,
        env::{Common, Env},
    },
    oauth::{
        client::Endpoint,
        metadata::{Gaps, Metadata},
        token::Refusal,
    },
    time::Now,
    view::{DiscoveryState, DiscoveryView},
};

/// Where to ask.
#[derive(Debug)]
pub(in crate::core) struct Endpoints {
    pub auth_uri: Option<Arc<Url>>,
    pub token_uri: Arc<Url>,
    pub device_auth_uri: Option<Arc<Url>>,
    pub revocation_uri: Option<Arc<Url>>,
    /// What the issuer says of itself, if it was asked.
    pub metadata: Option<Arc<Metadata>>,
    /// Where the issuer wants tokens sent.
    pub origins: Origins,
    /// The registration that all this is for.
    under: Arc<Registration>,
    token_discovered: bool,
    revocation_discovered: bool,
}

impl Endpoints {
    /// How a client proves who it is that isn't configured to.
    pub fn client_auth(&self) -> ClientAuth {
        let metadata = self.metadata.as_ref();
        metadata.map_or_else(ClientAuth::default, |metadata| metadata.client_auth())
    }

    /// One of these, for a request.
    pub fn at<'a>(&self, url: &'a Url) -> Endpoint<'a> {
        Endpoint {
            url,
            under: self.under.mark(),
        }
    }

    /// Where authorization requests have to be left.
    pub fn push_uri(&self) -> Option<&Url> {
        self.metadata.as_ref()?.push_endpoint.as_ref()
    }

    /// Whether a refresh token that came with these origins may go to the token endpoint.
    pub fn may_refresh(&self, origins: &Origins) -> bool {
        !self.token_discovered || is_among(origins, &self.token_uri)
    }

    /// The revocation endpoint, if a token that came with these origins may go there.
    pub fn revocation_for(&self, origins: &Origins) -> Option<&Url> {
        let uri = self.revocation_uri.as_ref()?;
        (!self.revocation_discovered || is_among(origins, uri)).then_some(uri)
    }

    /// What the config says counts more than what the issuer says of itself; without either, they
    /// aren't known.
    pub fn of(config: &config::Account, said: Option<&Arc<Metadata>>) -> Option<Self> {
        let ours = &config.registration;
        if said.is_none() && ours.discovers().is_some() {
            return None;
        }
        let or = |ours: &Option<Arc<Url>>, theirs: fn(&Metadata) -> &Option<Url>| {
            let theirs = || said.and_then(|it| theirs(it).clone()).map(Arc::new);
            ours.clone().or_else(theirs)
        };
        let origins = said.map(|it| {
            let named = it.token_endpoint.iter().chain(&it.revocation_endpoint);
            let mut origins: Vec<String> = named.map(origin).collect();
            origins.dedup();
            origins.into()
        });
        Some(Endpoints {
            auth_uri: or(&ours.auth_uri, |it| &it.authorization_endpoint),
            token_uri: or(&ours.token_uri, |it| &it.token_endpoint)?,
            device_auth_uri: or(&config.device_auth_uri, |it| {
                &it.device_authorization_endpoint
            }),
            revocation_uri: or(&config.revocation_uri, |it| &it.revocation_endpoint),
            metadata: said.cloned(),
            origins,
            under: ours.clone(),
            token_discovered: ours.token_uri.is_none(),
            revocation_discovered: config.revocation_uri.is_none(),
        })
    }
}

fn origin(uri: &Url) -> String {
    uri.origin().ascii_serialization()
}

fn is_among(origins: &Origins, uri: &Url) -> bool {
    let origin = origin(uri);
    origins
        .iter()
        .flat_map(|list| list.iter())
        .any(|it| *it == origin)
}

impl LiveAccount {
    /// The endpoints, if they are known by now.
    pub(in crate::core) fn locate(&mut self, env: &mut Env) -> Option<Arc<Endpoints>> {
        if let Some(endpoints) = self.endpoints.as_ref() {
            return Some(endpoints.clone());
        }
        let issuer = self.registration.discovers()?;
        let Some(Entry::Known(metadata)) = env.common.issuers.get(issuer) else {
            return None;
        };
        let gaps = self.gaps(issuer);
        if gaps.is_some_and(|gaps| gaps.filled_by(metadata).is_err()) {
            // It was enough for others.
            env.common.issuers.forget(issuer);
            return None;
        }
        let endpoints = Arc::new(Endpoints::of(&self.config, Some(metadata))?);
        // Before the tokens are looked at, whose origins they are to have.
        self.endpoints = Some(endpoints.clone());
        self.keep_tokens_from_strangers(env);
        for attempt in std::mem::take(&mut self.unlocated) {
            self.send(env, attempt);
        }
        self.begin_discovered(env);
        Some(endpoints)
    }

    /// What it lacks that is to be in the document of this issuer, if that is its own.
    pub(in crate::core) fn gaps(&self, issuer: &Arc<str>) -> Option<Gaps> {
        let ours = self.registration.as_ref();
        let begins = ours.auth_uri.is_some() || self.config.device_auth_uri.is_some();
        (ours.discovers() == Some(issuer)).then(|| Gaps {
            token_uri: ours.token_uri.is_none(),
            beginning: ours.source.is_person() && !begins,
        })
    }

    /// The endpoints for `attempt`, which is sent again when they are known, or has failed.
    pub(super) fn locate_for(
        &mut self,
        env: &mut Env,
        attempt: AttemptId,
    ) -> Option<Arc<Endpoints>> {
        if let Some(endpoints) = self.locate(env) {
            return Some(endpoints);
        }
        let issuer = self.registration.discovers()?.clone();
        match env.want_metadata(&issuer) {
            Ok(()) => self.unlocated.push(attempt),
            Err(refusal) => self.not_sent(env, attempt, refusal),
        }
        None
    }

    /// Has the issuer asked for a sign-in that can't begin without it.
    pub(super) fn discover_for_sign_in(&mut self, env: &mut Env) {
        if let Some(issuer) = self.registration.discovers() {
            if env.want_metadata(issuer).is_err() {
                env.common.issuers.insist(issuer);
            }
        }
    }

    /// Why the endpoints aren't known, if asking for them has failed.
    pub(super) fn discovery_trouble(&self, env: &Env) -> Option<Refusal> {
        let failed = env.common.issuers.trouble(self.registration.discovers()?)?;
        Some(failed.refusal.clone())
    }

    /// Whether its issuer is being asked right now.
    pub(super) fn is_issuer_asked(&self, env: &Env) -> bool {
        let issuer = self.registration.discovers();
        let entry = issuer.and_then(|issuer| env.common.issuers.get(issuer));
        matches!(entry, Some(Entry::Wanted { .. } | Entry::Asking { .. }))
    }

    /// Whether anything can't go on without its endpoints.
    pub(in crate::core) fn waits_for_endpoints(&self) -> bool {
        !self.unlocated.is_empty() || self.sign_in_waits_for_endpoints()
    }

    /// Whether a sign-in waits for the authorization endpoint.
    pub(super) fn sign_in_waits_for_endpoints(&self) -> bool {
        matches!(self.state.sign_in, SignIn::Discovering(_))
    }

    /// Its issuer has been asked: with the endpoints goes on what waited for them, and without, it
    /// has failed.
    pub(in crate::core) fn discovered(&mut self, env: &mut Env) {
        if self.locate(env).is_some() {
            return;
        }
        let Some(refusal) = self.discovery_trouble(env) else {
            return;
        };
        for attempt in std::mem::take(&mut self.unlocated) {
            self.not_sent(env, attempt, refusal.clone());
        }
        if self.sign_in_waits_for_endpoints() {
            self.discovery_failed(env, &refusal);
        }
    }

    /// A refresh token that was issued when the issuer named another token endpoint stays here: who
    /// has taken over an issuer's document must not get the tokens of its users.
    pub(super) fn keep_tokens_from_strangers(&mut self, env: &mut Env) {
        let renewal = self.state.grant.as_ref().and_then(|it| it.renewal.as_ref());
        let (Some(endpoints), Some(renewal)) = (self.endpoints.as_ref(), renewal) else {
            return;
        };
        let is_used =
            renewal.refresh_token.is_some() && !matches!(renewal.phase, Phase::Rejected { .. });
        if !is_used || endpoints.may_refresh(&renewal.origins) {
            return;
        }
        let refusal = Refusal {
            text: format!(
                "the issuer now names the token endpoint {}, of another origin than when you \
                 signed in; the refresh token is not sent there",
                endpoints.token_uri
            ),
            hint: Some("sign in again if that is right".into()),
        };
        self.rejected(env, None, refusal);
    }

    /// What `status` says of it.
    pub(super) fn discovery_view(&self, common: &Common, now: Now) -> Option<DiscoveryView> {
        let issuer = self.registration.discovers()?;
        let state = match (self.endpoints.as_ref(), common.issuers.get(issuer)) {
            (Some(endpoints), _) => {
                let text = |uri: &Option<Arc<Url>>| uri.as_ref().map(|uri| uri.to_string());
                DiscoveryState::Done {
                    auth_uri: text(&endpoints.auth_uri),
                    token_uri: endpoints.token_uri.to_string(),
                    device_auth_uri: text(&endpoints.device_auth_uri),
                    revocation_uri: text(&endpoints.revocation_uri),
                }
            }
            (None, Some(Entry::Failed(failed))) => DiscoveryState::Failed {
                since: failed.since.wall,
                failures: failed.failures,
                at: failed.due().map(|at| now.wall_at(at.max(now.instant))),
                reason: failed.refusal.clone(),
            },
            (None, Some(Entry::Wanted { .. } | Entry::Asking { .. })) => DiscoveryState::UnderWay,
            (None, Some(Entry::Known(_)) | None) => DiscoveryState::NotYet,
        };
        Some(DiscoveryView {
            issuer: crate::text::sanitize(issuer),
            state,
        })
    }
}
