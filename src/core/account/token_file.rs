//! Token files: what stands in them, and when they are written and removed. A file holds a valid
//! access token, or isn't there.

use std::sync::Arc;

use serde::Serialize;

use super::LiveAccount;
use crate::{
    config::{TokenFile, TokenFormat},
    core::{effect::Effect, env::Env},
    oauth::sasl,
    secret::Secret,
    time::{Instant, Wall},
};

/// What is known about an account's token file.
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub(super) enum TokenFileState {
    /// A server that was killed may have left it behind.
    #[default]
    Unknown,
    /// It isn't there.
    Nothing,
    /// It holds this.
    Token(Arc<Secret>),
}

impl LiveAccount {
    /// Brings the token file in step with the access token. To be called after every transition.
    pub(in crate::core) fn publish(&mut self, env: &mut Env) {
        let Some(file) = self.config.token_file.clone() else {
            return;
        };
        match self.valid_access(env.now.instant) {
            None if self.published == TokenFileState::Nothing => {}
            None => self.withdraw(env),
            Some(token) => {
                // The same allocation is the same token; another comparison isn't worth its time.
                if matches!(&self.published, TokenFileState::Token(old) if Arc::ptr_eq(old, &token))
                {
                    return;
                }
                let expires = self.access_expires().map(|at| env.now.wall_at(at));
                let content = content(&file, self, &token, expires);
                env.emit(Effect::TokenFile {
                    account: self.name().clone(),
                    path: file.path.clone(),
                    content: Some(Arc::new(content)),
                });
                self.published = TokenFileState::Token(token);
            }
        }
    }

    /// When the token in the file has expired.
    pub(in crate::core) fn token_file_due(&self) -> Option<Instant> {
        match self.published {
            TokenFileState::Token(_) => self.access_expires(),
            TokenFileState::Unknown | TokenFileState::Nothing => None,
        }
    }

    /// The server ends: there is to be no file any more.
    pub(in crate::core) fn close_token_file(&mut self, env: &mut Env) {
        self.withdraw(env);
        self.config.token_file = None;
    }

    /// Takes the token file away.
    pub(in crate::core) fn withdraw(&mut self, env: &mut Env) {
        let Some(file) = &self.config.token_file else {
            return;
        };
        env.emit(Effect::TokenFile {
            account: self.name().clone(),
            path: file.path.clone(),
            content: None,
        });
        self.published = TokenFileState::Nothing;
    }

    /// The token file couldn't be written or removed. The next change is the next try.
    pub fn publish_failed(&mut self, env: &mut Env, why: &str) {
        env.error(
            &self.name().clone(),
            format!("the token file could not be kept: {why}"),
        );
    }
}

/// The line in the file.
fn content(
    file: &TokenFile,
    account: &LiveAccount,
    token: &Secret,
    expires: Option<Wall>,
) -> Secret {
    let line = |text: &str| Secret::new(format!("{text}\n"));
    match &file.format {
        TokenFormat::Raw => line(token.expose()),
        TokenFormat::Xoauth2 { user } => match sasl::xoauth2(user, token) {
            Ok(response) => line(response.expose()),
            // A user that would break the message: an empty line is refused by every server.
            Err(sasl::Unfit) => line(""),
        },
        TokenFormat::Json => {
            let json = serde_json::to_string(&Json {
                account: account.name(),
                access_token: token.expose(),
                token_type: "Bearer",
                expires_at: expires.map(Wall::secs),
                scopes: &account.registration().scopes,
            });
            // A struct of strings and numbers always serialises.
            line(&json.unwrap_or_default())
        }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    account: &'a str,
    access_token: &'a str,
    token_type: &'static str,
    /// Seconds since 1970.
    expires_at: Option<i64>,
    scopes: &'a [String],
}
