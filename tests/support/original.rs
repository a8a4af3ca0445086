//! A daemon as the original pizauth has it, as far as its socket goes: it says nothing before it has
//! seen the end of what a client says, serves one client after the other, and holds accounts whose
//! dump is written byte by byte as the original does it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use ring::aead;

use super::PATIENCE;
use super::wait::Watched;

/// What everybody knows.
const KEY: [u8; 32] = [
    0x66, 0xa2, 0x47, 0xa8, 0x5e, 0x48, 0xcf, 0xec, 0xaa, 0xed, 0x9b, 0x36, 0xeb, 0xa9, 0x7d, 0x53,
    0x50, 0xd4, 0x28, 0x63, 0x75, 0x09, 0x7a, 0x44, 0xee, 0xff, 0xb9, 0xc4, 0x54, 0x6b, 0x65, 0xa3,
];

/// Where somebody would sign in at it.
pub const URL: &str = "https://login.example/authorize?state=of-the-original";

/// An account that it holds, as it is in its config.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub auth_uri: String,
    pub fields: Vec<(String, String)>,
    pub client_id: String,
    pub client_secret: Option<String>,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub token_uri: String,
    pub tokens: Option<Tokens>,
}

/// What it has signed in for.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    /// Seconds since 1970.
    pub obtained: u64,
    pub expiry: u64,
    pub refresh: Option<String>,
}

/// The daemon. Dropping it ends it.
#[derive(Debug)]
pub struct Original {
    socket: PathBuf,
    state: Arc<Watched<State>>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    accounts: BTreeMap<String, Account>,
    /// What it was asked, in order.
    asked: Vec<String>,
    /// It doesn't end when it is told to.
    stays: bool,
    ended: bool,
}

impl Original {
    /// Listens at `socket`, whose directory it makes.
    pub fn start(socket: &Path, accounts: impl IntoIterator<Item = (String, Account)>) -> Self {
        let directory = socket.parent().expect("a directory");
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .expect("a directory");
        let listener = UnixListener::bind(socket).expect("a socket");
        let state = Arc::new(Watched::new(State {
            accounts: accounts.into_iter().collect(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let server = thread::spawn(move || serve(&listener, &shared));
        Original {
            socket: socket.to_owned(),
            state,
            server: Some(server),
        }
    }

    /// It won't end when it is told to.
    pub fn stay(&self) {
        self.state.change(|state| state.stays = true);
    }

    /// What it was asked until now, in order, without what was restored.
    pub fn asked(&self) -> Vec<String> {
        self.state.read(|state| state.asked.clone())
    }

    pub fn has_ended(&self) -> bool {
        self.state.read(|state| state.ended)
    }

    /// Waits until it has been told to end, and has.
    pub fn wait_end(&self) {
        let ended = |state: &mut State| state.ended.then_some(());
        self.state
            .try_wait(PATIENCE, ended)
            .expect("the original's end");
    }

    /// What it dumps.
    pub fn dump(&self) -> Vec<u8> {
        self.state.read(|state| dump(&state.accounts))
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let ended = self.state.change(|state| {
            state.stays = false;
            state.ended
        });
        if !ended {
            // Gone by the way that everybody has to end it.
            if let Ok(mut stream) = UnixStream::connect(&self.socket) {
                let _ = stream.write_all(b"shutdown:");
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn serve(listener: &UnixListener, state: &Watched<State>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let mut asked = Vec::new();
        if stream.read_to_end(&mut asked).is_err() {
            continue;
        }
        let end = state.change(|state| {
            let answer = answer(state, &asked);
            // Whoever has gone doesn't hear it.
            let _ = stream.write_all(&answer);
            asked == b"shutdown:" && !state.stays
        });
        if end {
            break;
        }
    }
    state.change(|state| state.ended = true);
}

fn answer(state: &mut State, asked: &[u8]) -> Vec<u8> {
    let colon = asked
        .iter()
        .position(|byte| *byte == b':')
        .unwrap_or(asked.len());
    let (command, about) = asked.split_at(colon);
    let command = String::from_utf8_lossy(command).into_owned();
    let about = String::from_utf8_lossy(about.get(1..).unwrap_or_default()).into_owned();
    state.asked.push(match &*command {
        "restore" => command.clone(),
        _ => String::from_utf8_lossy(asked).into_owned(),
    });
    let (url, account) = about.split_once(' ').unwrap_or_default();
    let pending = match url {
        "withurl" => format!("pending:{URL}"),
        _ => "pending:".into(),
    };
    let unknown = |account: &str| format!("error:No account '{account}'");
    let found = state.accounts.get_mut(match &*command {
        "revoke" => &*about,
        _ => account,
    });
    let text = match (&*command, found) {
        ("dump", _) => return dump(&state.accounts),
        ("info", _) => r#"{"http_port":"4001","https_port":"none","https_pub_key":"04:0A"}"#.into(),
        ("reload" | "restore", _) => "ok:".into(),
        ("refresh", Some(account)) => match account.tokens {
            Some(_) => "scheduled:".into(),
            None => pending,
        },
        ("showtoken", Some(account)) => match &account.tokens {
            Some(tokens) => format!("access_token:{}", tokens.access),
            None => pending,
        },
        ("refresh" | "showtoken", None) => unknown(account),
        ("revoke", Some(account)) => {
            account.tokens = None;
            "ok:".into()
        }
        ("revoke", None) => unknown(&about),
        ("shutdown", _) => String::new(),
        ("status", _) => status(&state.accounts),
        // Which of its words it repeats is its own business: here none of a first line's end.
        (command, _) => format!("error:Unknown command '{}'", command.trim()),
    };
    text.into_bytes()
}

fn status(accounts: &BTreeMap<String, Account>) -> String {
    let lines = accounts.iter().map(|(name, account)| match account.tokens {
        Some(_) => format!("{name}: Active access token (obtained then; expires later)"),
        None => format!("{name}: No access token"),
    });
    format!("ok:{}", lines.collect::<Vec<_>>().join("\n"))
}

fn dump(accounts: &BTreeMap<String, Account>) -> Vec<u8> {
    let mut plain = 1_u64.to_le_bytes().to_vec();
    put_count(&mut plain, accounts.len());
    for (name, account) in accounts {
        put_text(&mut plain, name);
        put_text(&mut plain, &account.auth_uri);
        put_count(&mut plain, account.fields.len());
        for (key, value) in &account.fields {
            put_text(&mut plain, key);
            put_text(&mut plain, value);
        }
        put_text(&mut plain, &account.client_id);
        put_option(&mut plain, account.client_secret.as_deref());
        put_text(&mut plain, &account.redirect_uri);
        put_count(&mut plain, account.scopes.len());
        for scope in &account.scopes {
            put_text(&mut plain, scope);
        }
        put_text(&mut plain, &account.token_uri);
        plain.extend(u32::from(account.tokens.is_some()).to_le_bytes());
        if let Some(tokens) = &account.tokens {
            put_text(&mut plain, &tokens.access);
            for secs in [tokens.obtained, tokens.expiry] {
                plain.extend(secs.to_le_bytes());
                plain.extend(0_u32.to_le_bytes());
            }
            put_option(&mut plain, tokens.refresh.as_deref());
        }
    }
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &KEY).expect("a key");
    let nonce = [9; aead::NONCE_LEN];
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::empty(),
            &mut plain,
        )
        .expect("to seal");
    [&nonce[..], &plain].concat()
}

fn put_count(plain: &mut Vec<u8>, count: usize) {
    plain.extend((count as u64).to_le_bytes());
}

fn put_text(plain: &mut Vec<u8>, text: &str) {
    put_count(plain, text.len());
    plain.extend(text.as_bytes());
}

fn put_option(plain: &mut Vec<u8>, text: Option<&str>) {
    plain.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(plain, text);
    }
}
