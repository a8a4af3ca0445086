//! The rules about code. Each is a function over files, so that its own test can plant a
//! violation; what it returns is one line for each place, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{File, code, indent, lines_of_code, shipped};

/// Which module may name which; `server` is where they all meet. Whoever adds an arrow adds it
/// here, and turns none around.
const ARROWS: [(&str, &[&str]); 26] = [
    // The leaves: words that all share.
    ("alarm", &[]),
    ("error", &[]),
    ("form", &[]),
    ("hook", &[]),
    ("lock", &[]),
    ("text", &[]),
    ("time", &[]),
    ("view", &["time"]),
    // Where its bytes are is the process's business.
    ("secret", &["sys"]),
    // Pure: texts and numbers in, texts and numbers out.
    ("config", &["error", "providers", "secret", "text", "time"]),
    ("oauth", &["config", "secret", "text", "time", "view"]),
    ("providers", &[]),
    (
        "mail",
        &["config", "oauth", "providers", "secret", "text", "time"],
    ),
    (
        "core",
        &[
            "config", "form", "hook", "oauth", "secret", "text", "time", "view",
        ],
    ),
    // HTTP, for the daemon's workers and for commands that ask a provider themselves.
    ("http", &["config", "lock", "oauth", "secret"]),
    // The client, and what both ends share.
    ("cli", &["error", "form", "text", "time", "wire"]),
    ("paths", &["error"]),
    ("wire", &["error", "form", "secret"]),
    ("relay", &["error", "http", "mail", "oauth", "secret"]),
    (
        "client",
        &[
            "cli",
            // What `setup` prints is written in its language; nobody reads one.
            "config",
            "error",
            "form",
            "http",
            "mail",
            "oauth",
            "paths",
            "providers",
            "relay",
            "secret",
            "text",
            "time",
            "view",
            "wire",
        ],
    ),
    // The servers. They know no core, and take closures.
    ("serve", &["alarm"]),
    ("control", &["error", "paths", "serve", "wire"]),
    ("redirect", &["serve", "text"]),
    (
        "server",
        &[
            "alarm", "cli", "client", "config", "control", "core", "error", "form", "hook", "http",
            "lock", "mail", "oauth", "paths", "redirect", "relay", "secret", "serve", "sys",
            "text", "time", "view", "wire",
        ],
    ),
    // The allocator, locked memory and the entry, below everything.
    ("sys", &["lock"]),
    ("main", &["cli", "client", "server", "sys"]),
];

/// Uses between modules that [`ARROWS`] has no arrow for.
pub fn arrows(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in shipped(files) {
        let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = path.split('/').next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            found.push(format!(
                "{}: a new module: say in ARROWS what it may use, so that arrows stay one-way",
                file.path
            ));
            continue;
        };
        let root = if module == "main" { "pizauth" } else { "crate" };
        let mut used = children(&file.text, root);
        if path == module || path == format!("{module}/mod") {
            used.extend(children(&file.text, "super"));
        }
        let depth = path.split('/').filter(|part| *part != "mod").count();
        for (name, line) in used {
            if name != module && !allowed.contains(&name.as_str()) {
                found.push(format!(
                    "{}:{line}: {module} must not use {name}: arrows point one way, from the \
                     shells to the core and from all to the leaves",
                    file.path
                ));
            }
        }
        if depth <= 2 && file.text.contains("super::super::") {
            found.push(format!(
                "{}: super::super:: hides an arrow: write crate::",
                file.path
            ));
        }
    }
    found
}

/// The rooms of the server, each of which is a process or what several share: which rooms it may use,
/// and which of the other modules it must not. The monitor and those that it forks have all of the
/// user's rights, and know nothing of tokens.
const ROOMS: [(&str, &[&str], &[&str]); 8] = [
    (
        "base",
        &[],
        &["core", "oauth", "http", "control", "redirect"],
    ),
    (
        "ipc",
        &["base"],
        &["core", "oauth", "http", "control", "redirect", "config"],
    ),
    (
        "monitor",
        &["base", "ipc"],
        &[
            "core", "oauth", "http", "control", "redirect", "config", "serve", "wire",
        ],
    ),
    (
        "helper",
        &["base", "ipc"],
        &[
            "core", "oauth", "http", "control", "redirect", "serve", "wire",
        ],
    ),
    (
        "runner",
        &["base", "ipc"],
        &[
            "core", "oauth", "http", "control", "redirect", "config", "serve", "wire",
        ],
    ),
    ("holder", &["base", "ipc"], &["cli", "client"]),
    // It is a client of the holder, and has no way to the core.
    (
        "proxy",
        &["base", "ipc"],
        &["core", "oauth", "control", "cli"],
    ),
    (
        "start",
        &[
            "base", "helper", "holder", "ipc", "monitor", "proxy", "runner",
        ],
        &["core", "oauth", "http", "control", "redirect"],
    ),
];

/// Uses between rooms of the server that [`ROOMS`] doesn't allow.
pub fn rooms(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in shipped(files) {
        let Some(path) = file.path.strip_prefix("src/server/") else {
            continue;
        };
        let Some((room, _)) = path.split_once('/').filter(|(room, _)| *room != "tests") else {
            // Its face names all of them, and so does what the tests need of it.
            continue;
        };
        let Some((_, rooms, never)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
            found.push(format!(
                "{}: a new room: say in ROOMS what it may use",
                file.path
            ));
            continue;
        };
        for used in paths_of(&file.text) {
            let mut parts = used.split("::");
            let (module, inner) = (parts.next().unwrap_or_default(), parts.next());
            let wrong = match (module, inner) {
                ("server", Some(other)) => other != room && !rooms.contains(&other),
                _ => never.contains(&module),
            };
            if wrong {
                found.push(format!(
                    "{}: the room {room} must not use {used}",
                    file.path
                ));
            }
        }
        // From the room's own file two steps lead out of it, and from one in a folder of it, three.
        let inside = path.strip_suffix("/mod.rs").unwrap_or(path);
        let steps = "super::".repeat(inside.matches('/').count() + 1);
        if file.text.contains(&steps) && inside.contains('/') {
            found.push(format!(
                "{}: super::super:: hides an arrow: write crate::",
                file.path
            ));
        }
    }
    found
}

/// The paths below `crate::` that a file's code has, with groups spelled out.
fn paths_of(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for at in places(code, "crate::") {
        spell_out(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

/// Adds the paths that `rest` begins with, behind `before`; returns how many bytes they took.
fn spell_out(rest: &str, before: &str, found: &mut Vec<String>) -> usize {
    let Some(group) = rest.strip_prefix('{') else {
        let name = word(rest);
        let path = format!("{before}{name}");
        let behind = rest.get(name.len()..).unwrap_or_default();
        if let Some(more) = behind.strip_prefix("::") {
            return name.len() + 2 + spell_out(more, &format!("{path}::"), found);
        }
        found.push(path);
        return name.len().max(1);
    };
    let mut at = 0;
    while let Some(char) = group.get(at..).and_then(|rest| rest.chars().next()) {
        if char == '}' {
            return at + 2;
        }
        if char.is_whitespace() || char == ',' {
            at += 1;
        } else {
            at += spell_out(&group[at..], before, found);
        }
    }
    at + 1
}

/// The names below `root`, as in `root::name` and `root::{name, other::{self, more}}`, and their
/// lines.
fn children(code: &str, root: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in places(code, &format!("{root}::")) {
        let rest = &code[at + root.len() + 2..];
        let line = 1 + code[..at].matches('\n').count();
        let Some(group) = rest.strip_prefix('{') else {
            found.push((word(rest), line));
            continue;
        };
        let mut depth = 0;
        let mut wanted = true;
        for (at, char) in group.char_indices() {
            match char {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => wanted = true,
                _ if wanted && !char.is_whitespace() => {
                    found.push((word(&group[at..]), line));
                    wanted = false;
                }
                _ => {}
            }
        }
    }
    found.retain(|(name, _)| !name.is_empty() && name != "self");
    found
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// The identifier that `rest` starts with.
fn word(rest: &str) -> String {
    rest.chars().take_while(|char| is_word(*char)).collect()
}

/// Where `pattern` stands in `code`, other than behind a part of a word.
fn places<'a>(code: &'a str, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts_word = pattern.starts_with(is_word);
    code.match_indices(pattern)
        .map(|(at, _)| at)
        .filter(move |at| !(starts_word && code[..*at].ends_with(is_word)))
}

/// Modules that decide and do nothing.
const PURE: [&str; 12] = [
    "cli",
    "config",
    "core",
    "error",
    "form",
    "mail",
    "oauth",
    "providers",
    "secret",
    "text",
    "time",
    "view",
];

/// What a pure module has no business with, below `std`.
const IMPURE_STD: [&str; 6] = ["env", "fs", "io", "os", "process", "thread"];

/// Crates and types that act.
const ACTORS: [&str; 13] = [
    "Condvar",
    "Mutex",
    "RwLock",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "getrandom::",
    "nix::",
    "rustls::",
    "sd_notify::",
    "ureq::",
    "wait_timeout::",
];

/// Input, output, threads and locks in the pure modules.
pub fn purity(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in shipped(files) {
        let path = file.path.trim_start_matches("src/").trim_end_matches(".rs");
        if !PURE.contains(&path.split('/').next().unwrap_or_default()) {
            continue;
        }
        let std = children(&file.text, "std");
        let std = std.into_iter().map(|(name, _)| name);
        let acts = std.filter(|name| IMPURE_STD.contains(&name.as_str()));
        let actors = ACTORS
            .into_iter()
            .filter(|name| places(&file.text, name).next().is_some());
        for what in acts.chain(actors.map(str::to_owned)) {
            found.push(format!(
                "{}: uses {what}: this module is pure, so that all it decides can be simulated",
                file.path
            ));
        }
    }
    found
}

/// Something that only a few files may do.
pub struct Ban {
    /// What it looks like.
    pub patterns: &'static [&'static str],
    /// Why it is banned elsewhere.
    pub why: &'static str,
    /// The files of src/ that may, and what for.
    pub only_in: &'static [(&'static str, &'static str)],
}

pub const BANS: [Ban; 7] = [
    Ban {
        patterns: &[".lock(", ".try_lock(", "RwLock"],
        why: "no input or output happens under a lock: Lock::with can't be forgotten",
        only_in: &[
            ("src/lock.rs", "the one that all others use"),
            (
                "src/server/holder/outbox.rs",
                "what follows, in order; a condition goes with it",
            ),
            (
                "src/redirect/pages.rs",
                "the pages that browsers were sent on to",
            ),
        ],
    },
    Ban {
        patterns: &[
            "Instant::now",
            ".elapsed(",
            "SystemTime",
            "UNIX_EPOCH",
            "clock_gettime",
            "Timestamp::now",
            "Zoned::now",
        ],
        why: "the time is an argument: a simulator must be able to set it",
        only_in: &[
            ("src/server/base/clock.rs", "both clocks, for the core"),
            ("src/client/auth.rs", "how long the user has been waiting"),
            (
                "src/client/patience.rs",
                "how long a client has waited for the server",
            ),
            (
                "src/serve.rs",
                "how long a peer may take, which the core never learns",
            ),
            ("src/serve/poller.rs", "how long it may sleep until then"),
            (
                "src/redirect/pages.rs",
                "how long a page is kept, which the core never learns",
            ),
            (
                "src/server/runner/mod.rs",
                "the hooks' deadlines, in a process without a core",
            ),
            (
                "src/server/base/fork.rs",
                "how long to wait for room for another process",
            ),
            (
                "src/server/monitor/mod.rs",
                "when it is to act next, in a process without a core",
            ),
            (
                "src/server/monitor/children.rs",
                "when the next runner may be started, and a helper be killed",
            ),
            (
                "src/server/holder/helpers.rs",
                "how old a helper is, which the core never learns",
            ),
            (
                "src/server/base/runtime_files.rs",
                "how long to wait for a server that is just ending",
            ),
            (
                "src/server/holder/main_thread.rs",
                "how long the last save may take",
            ),
            (
                "src/server/holder/restart.rs",
                "how long to wait for what is under way",
            ),
            (
                "src/client/restart.rs",
                "how long to wait for the server: the client has no core",
            ),
            (
                "src/server/holder/inheritance.rs",
                "how long an older server's ports may take to get free",
            ),
            (
                "src/client/show.rs",
                "what is left of a wait when the server was restarted: the client has no core",
            ),
            (
                "src/server/holder/socket_watch.rs",
                "when to look after the control socket, which the core never learns",
            ),
            (
                "src/client/status.rs",
                "how long ago: the client has no core",
            ),
            (
                "src/http/connect.rs",
                "how long an address may take to answer, which the core never learns",
            ),
            ("src/relay/dial.rs", "how long a mail server may take"),
            ("src/relay/end.rs", "how long a side of a session may take"),
            (
                "src/server/holder/proxies.rs",
                "how soon a process of the proxies was killed",
            ),
            (
                "src/server/proxy/door.rs",
                "how long a program may take to sign in",
            ),
        ],
    },
    Ban {
        patterns: &["getrandom", "rcgen", "SystemRandom", "rand::"],
        why: "randomness is an argument: a simulator must be able to repeat it",
        only_in: &[
            ("src/server/base/clock.rs", "the kernel's, for the core"),
            (
                "src/redirect/tls.rs",
                "the key of the certificate for https redirects",
            ),
            (
                "src/http/mail_exchangers.rs",
                "the id of a question to a name server, which the core never asks",
            ),
            (
                "src/http/assertion.rs",
                "signatures, and the ids of what is signed, made when a request leaves",
            ),
        ],
    },
    Ban {
        patterns: &[".expose(", "Secret::expose"],
        why: "every place where a secret leaves its wrapper is a place to check",
        only_in: &[
            (
                "src/secret.rs",
                "whether two are the same, in constant time",
            ),
            (
                "src/oauth/token.rs",
                "the form that is sent, and the check of a token's characters",
            ),
            ("src/oauth/client.rs", "the client's proof, and the form"),
            (
                "src/http/assertion.rs",
                "the key that signs, and the form with the signature",
            ),
            (
                "src/core/credentials.rs",
                "the first line of what a command printed",
            ),
            (
                "src/server/holder/sign_in.rs",
                "the pasted address, to be read",
            ),
            (
                "src/core/account/signing_in.rs",
                "the state in the authorisation URL, the verifier's hash",
            ),
            (
                "src/core/dump.rs",
                "how long a dump will be, and the check of its tokens",
            ),
            ("src/core/account/token_file.rs", "the line in a token file"),
            (
                "src/secret/plain.rs",
                "dumps, what a successor gets, and the control socket",
            ),
            (
                "src/server/holder/helpers.rs",
                "the token file, on its way to the disk",
            ),
            ("src/http.rs", "the body and headers of the request"),
            (
                "src/oauth/registration.rs",
                "the secrets of a new client, in the account that is printed",
            ),
            (
                "src/client/register.rs",
                "the account, on its way to stdout",
            ),
            (
                "src/wire.rs",
                "the token, on its way to the client; the pasted address, to the server",
            ),
            (
                "src/server/holder/show.rs",
                "the token in a header or an object",
            ),
            ("src/client/credential.rs", "the token in the answer to git"),
            (
                "src/client/setup/guide.rs",
                "the new account, to the configuration's file",
            ),
            (
                "src/client/setup/plan.rs",
                "a client secret, to the account's block",
            ),
            (
                "src/oauth/message.rs",
                "what was sent, to be cut out of the answer",
            ),
            (
                "src/oauth/authorization.rs",
                "the code, to be cut out of an error",
            ),
            ("src/client/test.rs", "how long the token is"),
            ("src/mail/sign_in.rs", "the response to a mail server"),
            (
                "src/oauth/command.rs",
                "what a command has printed, and what a token says of itself",
            ),
            ("src/oauth/lifetime.rs", "what a token says of itself"),
            ("src/mail/claims.rs", "what a token says of itself"),
            ("src/oauth/sasl.rs", "the token in a SASL response"),
        ],
    },
    Ban {
        patterns: &[
            "print!(",
            "println!(",
            "eprint!(",
            "eprintln!(",
            "stdout()",
            "stderr()",
            "Stdout",
            "Stderr",
        ],
        why: "a daemon has no terminal, and stdout belongs to the token",
        only_in: &[
            ("src/client/mod.rs", "a command's output, and its one error"),
            ("src/client/tunnel.rs", "what a server says to a program"),
            (
                "src/server/start/check.rs",
                "the warnings of `check`, which is no server",
            ),
            ("src/server/base/log.rs", "the log of `server -d`"),
            (
                "src/server/start/take_over.rs",
                "a trial's proof that it has read the state",
            ),
        ],
    },
    Ban {
        patterns: &[
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe extern",
            "allow(unsafe_code)",
        ],
        why: "what the compiler can't check, a reader must; keep it in few",
        only_in: &[
            (
                "src/server/base/descriptors.rs",
                "descriptors that arrive as numbers",
            ),
            ("src/server/base/fork.rs", "fork(2)"),
            ("src/server/base/handlers.rs", "what signals do"),
            (
                "src/server/base/rights.rs",
                "calls that only some systems have",
            ),
            ("src/main.rs", "the entry's name"),
            ("src/sys/alloc.rs", "the allocator that wipes"),
            (
                "src/sys/entry.rs",
                "what the standard library would have done",
            ),
            ("src/sys/heap.rs", "what the C library's allocator keeps"),
            (
                "src/sys/locked.rs",
                "memory that isn't swapped out, and the secrets in it",
            ),
            ("src/sys/mod.rs", "its modules"),
        ],
    },
    Ban {
        patterns: &["sleep("],
        why: "poll(2) waits for what is to happen, and wakes when it does",
        only_in: &[
            (
                "src/serve.rs",
                "a pause when descriptors have run out: no event tells when there are more",
            ),
            (
                "src/server/base/runtime_files.rs",
                "a lock of another process that is just ending: nothing tells when",
            ),
            (
                "src/client/patience.rs",
                "a server that starts, ends or becomes another program: nothing tells when",
            ),
        ],
    },
];

/// Places that do what `ban` bans, and files that may and don't: a list of exceptions must be
/// true.
pub fn banned(ban: &Ban, files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let mut using = Vec::new();
    for file in shipped(files) {
        for pattern in ban.patterns {
            for at in places(&file.text, pattern) {
                using.push(file.path.clone());
                if !ban.only_in.iter().any(|(path, _)| *path == file.path) {
                    let line = 1 + file.text[..at].matches('\n').count();
                    found.push(format!("{}:{line}: `{pattern}`: {}", file.path, ban.why));
                }
            }
        }
    }
    for (path, _) in ban.only_in {
        if !using.iter().any(|used| used == path) {
            found.push(format!(
                "{path} no longer has any of {:?}: take it off the list",
                ban.patterns
            ));
        }
    }
    found
}

/// How far above unsafe code the comment on it may stand, in lines.
const SAFETY_LINES: usize = 4;

/// Unsafe code without its `SAFETY`.
pub fn unexplained_unsafe(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in code.lines().enumerate() {
            let uses = ["unsafe {", "unsafe impl", "unsafe("];
            let explained = &lines[at.saturating_sub(SAFETY_LINES)..=at];
            if uses.iter().any(|it| places(line, it).next().is_some())
                && !explained.iter().any(|line| line.contains("// SAFETY:"))
            {
                found.push(format!(
                    "{}:{}: unsafe: say above it why it is sound: // SAFETY: ...",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// The longest function of the program, in lines.
pub const MAX_FUNCTION_LINES: usize = 60;

/// The longest function that only tests have.
pub const MAX_TEST_FUNCTION_LINES: usize = 70;

/// The longest file of the program, in lines without comments, blank ones and tests.
pub const MAX_FILE_LINES: usize = 600;

/// Functions that are longer than they may be, to be split: a list to shrink.
pub const LONG_FUNCTIONS: [(&str, &str); 0] = [];

/// The same for files.
pub const LARGE_FILES: [&str; 0] = [];

/// Functions that don't fit on a screen. A test may be longer: its table of cases is data.
pub fn long_functions(files: &[File]) -> Vec<String> {
    let shipped = shipped(files);
    let mut found = Vec::new();
    for file in &shipped {
        for (name, line, length) in functions(&file.text) {
            let listed = LONG_FUNCTIONS.contains(&(&file.path, &name));
            if length > MAX_FUNCTION_LINES && !listed {
                found.push(too_long(file, line, length, MAX_FUNCTION_LINES));
            }
        }
    }
    for file in files.iter().filter(|file| file.is_rust()) {
        for (_, line, length) in functions(&code(&file.text)) {
            if length > MAX_TEST_FUNCTION_LINES {
                found.push(too_long(file, line, length, MAX_TEST_FUNCTION_LINES));
            }
        }
    }
    found
}

fn too_long(file: &File, line: usize, length: usize, most: usize) -> String {
    format!(
        "{}:{line}: a function of {length} lines: at most {most}, so that one sees it whole",
        file.path
    )
}

/// Name, line and length of each function in `code` that isn't a test.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let mut before = lines[..at].iter().rev().take(3);
        let is_test = before.any(|it| it.trim() == "#[test]");
        let Some(start) = places(line, "fn ").next() else {
            continue;
        };
        if is_test || line.trim_end().ends_with(';') {
            continue;
        }
        let end = format!("{}}}", indent(line));
        let rest = lines[at..].iter();
        let length = 1 + rest
            .clone()
            .position(|it| it.trim_end() == end)
            .unwrap_or(0);
        let name = line[start + 3..].split(['(', '<']).next();
        found.push((name.unwrap_or_default().to_owned(), at + 1, length));
    }
    found
}

/// Files that hold more than one thing.
pub fn large_files(files: &[File]) -> Vec<String> {
    let counted = lines_of_code(files);
    let large = counted.iter().filter(|(_, lines)| *lines > MAX_FILE_LINES);
    let large: Vec<_> = large.collect();
    let stale = LARGE_FILES
        .iter()
        .filter(|path| !large.iter().any(|(known, _)| known == *path))
        .map(|path| format!("{path}: no longer too large: take it off LARGE_FILES"));
    let new = large
        .iter()
        .filter(|(path, _)| !LARGE_FILES.contains(&path.as_str()));
    let new = new.map(|(path, lines)| {
        format!(
            "{path}: {lines} lines of code: at most {MAX_FILE_LINES}, so that it is about one thing"
        )
    });
    new.chain(stale).collect()
}

/// Names that several public types share, each with the reason why it may: a list to shrink.
pub const SHARED_NAMES: [(&str, &str); 9] = [
    (
        "Client",
        "the configuration's, and a peer of the control socket",
    ),
    (
        "Endpoint",
        "a provider's, and the server's redirection endpoint",
    ),
    (
        "Next",
        "what a connection does next, and what a line brings next",
    ),
    ("Predecessor", "the file store's, and the monitor's"),
    (
        "Programs",
        "installed mail programs, and the monitor's children",
    ),
    (
        "Provider",
        "what is known of one, and the workers that ask it",
    ),
    ("Reply", "HTTP's, and the control socket's"),
    ("Request", "HTTP's, and the control socket's"),
    (
        "Verdict",
        "the token endpoint's, the revocation endpoint's and the server's life's",
    ),
];

/// Names that public types of several files share: one name, one meaning.
pub fn shared_names(files: &[File]) -> Vec<String> {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in shipped(files) {
        for line in file.text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["pub", "struct" | "enum" | "trait" | "type", name, ..] = words[..] {
                let end = name
                    .find(|c: char| !c.is_alphanumeric())
                    .unwrap_or(name.len());
                let paths = places.entry(name[..end].into()).or_default();
                paths.insert(file.path.clone());
            }
        }
    }
    places.retain(|_, paths| paths.len() > 1);
    let is_listed = |name: &str| SHARED_NAMES.iter().any(|(known, _)| *known == name);
    let new = places.iter().filter(|(name, _)| !is_listed(name));
    let new =
        new.map(|(name, paths)| format!("{name} is the name of several public types: {paths:?}"));
    let stale = SHARED_NAMES
        .iter()
        .filter(|(name, _)| !places.contains_key(*name));
    let stale =
        stale.map(|(name, _)| format!("{name} is shared no more: take it off SHARED_NAMES"));
    new.chain(stale).collect()
}

/// The longest line of code.
pub const MAX_COLUMNS: usize = 110;

/// Lines that are cut off in a window beside another. A literal alone on its line may go on, so
/// that a search finds it whole.
pub fn long_lines(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let sources = files.iter().filter(|file| file.is_rust());
    for file in sources.filter(|file| file.path.starts_with("src/")) {
        for (at, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            let literal = ["\"", "r\"", "r#\""]
                .iter()
                .any(|start| line.trim_start().starts_with(start));
            if columns > MAX_COLUMNS && !literal {
                found.push(format!(
                    "{}:{}: {columns} columns: at most {MAX_COLUMNS}, for windows side by side",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// Left-overs: what was put off, and tests that nobody runs.
pub fn leftovers(files: &[File]) -> Vec<String> {
    // In two pieces, so that this file passes.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("HA", "CK:"),
    ];
    let macros = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
    ];
    let ignored = concat!("#[ig", "nore]");
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            let mut say = |what: &str, why: &str| {
                found.push(format!("{}:{}: {what}: {why}", file.path, at + 1));
            };
            for word in words
                .iter()
                .filter(|word| places(line, word).next().is_some())
            {
                say(
                    word,
                    "do it, or open an issue; a note in the code is neither",
                );
            }
            for name in macros.iter().filter(|_| file.is_rust()) {
                if places(line, name).next().is_some() {
                    say(name, "unfinished work isn't committed");
                }
            }
            if file.is_rust() && line.contains(ignored) {
                say(
                    ignored,
                    "say why the test isn't run, as in #[ignore = \"a measurement\"]",
                );
            }
        }
    }
    found
}

/// Tests that hope that something will have happened by then.
pub fn hopeful_sleeps(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    let tests = files
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("tests/"));
    for file in tests {
        let code = code(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in code.lines().enumerate() {
            let explained = at.checked_sub(1).into_iter().chain([at]);
            let explained = explained
                .map(|at| lines[at])
                .any(|line| line.contains("// why:"));
            if places(line, "sleep(").next().is_some() && !explained {
                found.push(format!(
                    "{}:{}: sleep: wait for the condition itself (support::wait), or give the \
                     reason in a comment `// why: …`",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// What is only true of the machine that it was written on.
pub fn machine_paths(files: &[File]) -> Vec<String> {
    // In two pieces, so that this file passes.
    let places_of_one_machine = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/tmp/", "wt"),
        concat!("/tmp/", "target"),
        concat!("shared/", "reference"),
        concat!("BEHAV", "IOUR.md"),
        concat!("DES", "IGN.md"),
    ];
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            for place in places_of_one_machine
                .iter()
                .filter(|place| line.contains(**place))
            {
                found.push(format!(
                    "{}:{}: {place}: nobody else has that",
                    file.path,
                    at + 1
                ));
            }
            let foreign = line.starts_with("source = ")
                && !line.contains("//github.com/rust-lang/crates.io-index\"");
            if foreign && file.path.ends_with("Cargo.lock") {
                found.push(format!(
                    "{}:{}: crates come from crates.io",
                    file.path,
                    at + 1
                ));
            }
            if file.path.ends_with("package-lock.json") && line.contains("\"resolved\":") {
                found.push(format!(
                    "{}:{}: the registry is whoever runs npm's choice: omit-lockfile-registry-resolved",
                    file.path,
                    at + 1
                ));
            }
        }
    }
    found
}

/// Scripts that can't be run, and files that can and are no scripts.
pub fn scripts(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        let script = file.text.starts_with("#!") && !file.is_rust();
        let why = match (script, file.executable) {
            _ if file.path.ends_with(".sh") && !script => "a script starts with #!",
            (true, false) => "is not executable: run chmod +x",
            (false, true) => "is executable and no script: run chmod -x",
            _ => continue,
        };
        found.push(format!("{}: {why}", file.path));
    }
    found
}

/// Dependencies that don't say what they are for, in a comment right above.
pub fn dependencies(manifest: &File) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = "";
    let mut above = "";
    for line in manifest.text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && !line.starts_with('#')
            && line.contains('=')
            && !above.starts_with("# ")
        {
            found.push(format!(
                "{}: `{line}`: say above it which question it answers: every dependency is a risk",
                manifest.path
            ));
        }
        above = line;
    }
    found
}
