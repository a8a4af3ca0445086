//! What follows from the end of a hook.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    thread,
    time::Duration,
};

use super::{
    engine::Engine,
    hook_queue::{JobOwner, Output},
};
use crate::{
    core::hook,
    lock::Lock,
    oauth::command::CommandFailure,
    secret::Secret,
    server::{
        base::{guard, log::is_detached},
        ipc::hook_messages::{HookEnd, HookKind, HookReport},
    },
};

/// How long the end of a command's output may take to arrive when the command has ended: it is in
/// the pipe then, unless something that it left behind holds that open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells the core, once the command's output is there as well. Never waits.
pub fn conclude(engine: &Arc<Engine>, report: HookReport, owner: JobOwner) {
    if owner.kind == HookKind::Requester {
        let name = crate::text::sanitize(&report.stderr);
        let requester = Some(name).filter(|name| !name.is_empty());
        engine.on(&owner.account, |it, env| it.identified(env, requester));
        return;
    }
    let received = owner.output.as_ref().map(Receiver::try_recv);
    let output = match received {
        Some(Err(TryRecvError::Empty)) => return conclude_later(engine, report, owner),
        Some(Ok(output)) => Some(output),
        Some(Err(TryRecvError::Disconnected)) | None => None,
    };
    finish(engine, &report, &owner, output);
}

/// The same in a thread, which waits for the output.
fn conclude_later(engine: &Arc<Engine>, report: HookReport, owner: JobOwner) {
    let ended = Arc::new(Lock::new(Some((report, owner))));
    let (theirs, theirs_ended) = (engine.clone(), ended.clone());
    let waiting = thread::Builder::new().name("output".into()).spawn(move || {
        guard::job("a hook's output", || {
            if let Some((report, owner)) = theirs_ended.with(Option::take) {
                let output = owner.output.as_ref();
                let output = output.and_then(|it| it.recv_timeout(OUTPUT_TIMEOUT).ok());
                finish(&theirs, &report, &owner, output);
            }
        });
    });
    if waiting.is_err() {
        if let Some((report, owner)) = ended.with(Option::take) {
            finish(engine, &report, &owner, None);
        }
    }
}

fn finish(engine: &Arc<Engine>, report: &HookReport, owner: &JobOwner, output: Option<Output>) {
    let (kind, account, option) = (owner.kind, &owner.account, owner.kind.option());
    let stderr = crate::text::sanitize(&report.stderr);
    let said = match stderr.is_empty() {
        true => stderr,
        false => format!(": {stderr}"),
    };
    let conclusion = hook::conclude(kind, &report.end);
    let trouble = conclusion
        .trouble
        .map(|how| format!("{option} {how}{said}"));
    match &trouble {
        Some(trouble) if conclusion.logs => log::error!("{account}: {trouble}"),
        // In the foreground it has been written to standard error already.
        _ if is_detached() && !said.is_empty() => log::warn!("{account}: {option} said{said}"),
        None => log::debug!("{account}: {option} has ended"),
        Some(_) => {}
    }
    let Some(attempt) = owner.attempt else {
        return;
    };
    let outcome = trouble.map_or(Ok(()), Err);
    match kind {
        HookKind::Probe => {
            let transient = conclusion.transient;
            engine.on(account, |it, env| it.probe_outcome(env, attempt, transient));
        }
        HookKind::Save => engine.with(|core, cx| core.save_outcome(cx, attempt, outcome)),
        HookKind::Load => {
            let mut output = match output {
                // It may have failed for nothing but that.
                Some(Err(_)) => printed(output),
                _ => outcome.and_then(|()| printed(output)),
            };
            let outcome = output.as_mut().map(Vec::as_mut_slice);
            let outcome = outcome.map_err(|why| why.clone());
            engine.with(|core, cx| core.load_outcome(cx, attempt, outcome));
        }
        HookKind::Secret => {
            let secret = outcome.and_then(|()| printed(output)).and_then(|bytes| {
                text(bytes).ok_or_else(|| format!("{option} printed nothing{said}"))
            });
            engine.on(account, |it, env| it.secret_outcome(env, attempt, secret));
        }
        HookKind::Token => {
            let status = match report.end {
                HookEnd::Exit(status) => Some(status),
                _ => None,
            };
            let failure = |what| CommandFailure { status, what };
            let printed = outcome.and_then(|()| printed(output)).map_err(failure);
            engine.on(account, |it, env| it.printed(env, attempt, printed));
        }
        HookKind::Notify if matches!(report.end, HookEnd::Exit(_)) => {
            engine.on(account, |it, env| it.notified(env, attempt));
        }
        HookKind::Notify | HookKind::Error | HookKind::Event | HookKind::Startup => {}
        HookKind::Requester => {}
    }
}

/// All that a command has printed which has ended.
fn printed(output: Option<Output>) -> Result<Vec<u8>, String> {
    match output {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(error)) => Err(format!("its output can't be read: {error}")),
        None => Err("something that it left behind holds its output open".into()),
    }
}

/// A command's output, unless its first line is empty.
fn text(output: Vec<u8>) -> Option<Secret> {
    let output = String::from_utf8_lossy(&output);
    let line = output.lines().next().unwrap_or_default();
    (!line.is_empty()).then(|| Secret::new(output.into_owned()))
}
