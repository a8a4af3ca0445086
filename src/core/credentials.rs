//! The client's credentials: a secret that a command prints is fetched when it is first needed,
//! and kept.

use std::sync::Arc;

use super::{attempt::AttemptId, env::Env, hook::HookInput};
use crate::{
    config::{self, Client, ClientAuth, ClientSecret, Registration},
    hook::HookKind,
    oauth::client,
    secret::Secret,
};

/// The credentials of one account, as far as they are known.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Credentials {
    client: Arc<Client>,
    /// The registration beside which it is configured.
    under: Arc<Registration>,
    fetched: SecretState,
}

/// What `client_secret_cmd` has said.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
enum SecretState {
    Nothing,
    Asking {
        attempt: AttemptId,
        /// The requests that can't be made without it.
        waiting: Vec<AttemptId>,
    },
    Secret(Arc<Secret>),
}

impl Credentials {
    pub fn new(described: &config::Account) -> Self {
        Credentials {
            client: described.client.clone(),
            under: described.registration.clone(),
            fetched: SecretState::Nothing,
        }
    }

    /// Whether `request` has to wait for the secret, until [`Self::answered`].
    pub fn keep_waiting(&mut self, env: &mut Env, account: &Arc<str>, request: AttemptId) -> bool {
        let ClientSecret::Command(command) = &self.client.secret else {
            return false;
        };
        match &mut self.fetched {
            SecretState::Secret(_) => return false,
            SecretState::Asking { waiting, .. } => waiting.push(request),
            SecretState::Nothing => {
                let attempt = env.attempt();
                self.fetched = SecretState::Asking {
                    attempt,
                    waiting: vec![request],
                };
                let (kind, command) = (HookKind::Secret, command.clone());
                env.run(kind, account, Some(attempt), command, HookInput::None);
            }
        }
        true
    }

    /// Whether `request` waits for the secret.
    pub fn keeps(&self, request: AttemptId) -> bool {
        matches!(&self.fetched, SecretState::Asking { waiting, .. } if waiting.contains(&request))
    }

    /// What proves the client in a request; `usual` is how, where the config doesn't say.
    pub fn proof(&self, usual: ClientAuth) -> client::Credentials<'_> {
        client::Credentials {
            auth: self.client.auth.unwrap_or(usual),
            secret: match (&self.client.secret, &self.fetched) {
                (ClientSecret::Given(secret), _)
                | (ClientSecret::Command(_), SecretState::Secret(secret)) => Some(secret),
                (ClientSecret::None | ClientSecret::Command(_), _) => None,
            },
            headers: &self.client.headers,
            under: self.under.mark(),
        }
    }

    /// Whether the client proves itself by a private key.
    pub fn signs(&self) -> bool {
        self.client.auth == Some(ClientAuth::PrivateKeyJwt)
    }

    /// The command has ended: with a secret on its first line, with a key, or with nothing. Returns the
    /// requests that waited.
    pub fn answered(&mut self, attempt: AttemptId, secret: Option<Secret>) -> Vec<AttemptId> {
        match std::mem::replace(&mut self.fetched, SecretState::Nothing) {
            SecretState::Asking {
                attempt: asked,
                waiting,
            } if asked == attempt => {
                if let Some(printed) = secret {
                    let line = printed.expose().lines().next().unwrap_or_default();
                    let secret = match self.signs() {
                        true => printed,
                        false => Secret::new(line.to_owned()),
                    };
                    self.fetched = SecretState::Secret(Arc::new(secret));
                }
                waiting
            }
            other => {
                self.fetched = other;
                Vec::new()
            }
        }
    }

    /// The provider has refused it: the next request fetches it anew.
    pub fn forget(&mut self) {
        if let SecretState::Secret(_) = self.fetched {
            self.fetched = SecretState::Nothing;
        }
    }

    /// The config says it anew; the same command isn't run again. Returns the requests that waited
    /// for another one.
    pub fn reconfigure(&mut self, described: &config::Account) -> Vec<AttemptId> {
        let same = self.client.secret == described.client.secret;
        self.client = described.client.clone();
        self.under = described.registration.clone();
        if same {
            return Vec::new();
        }
        match std::mem::replace(&mut self.fetched, SecretState::Nothing) {
            SecretState::Asking { waiting, .. } => waiting,
            SecretState::Nothing | SecretState::Secret(_) => Vec::new(),
        }
    }
}
