//! What the control socket's requests mean: the core's answers as replies.

use std::sync::Arc;

use super::{
    engine::Engine,
    jobs,
    life::LifeRequest,
    replies::{failure, json, no_account, not_yet},
    restricted::Admitted,
    sign_in::{ClientAnswer, by_job},
    state::Holder,
};
use crate::{
    core::{Progress, Waiter, dump},
    error::Exit,
    secret::SecretBytes,
    serve::ConnId,
    server::base::guard,
    sys,
    view::{STATUS_FORMAT_VERSION, ServerInfo, Status},
    wire::{Reply, ShowArgs},
};

/// How many dumps and restores may be under way at once: they take memory and a thread each.
const MAX_AT_ONCE: usize = 64;

/// How many accounts are restored in one event: few enough that a `show` hardly waits for it.
const RESTORED_AT_ONCE: usize = 128;

/// Prints the state of all accounts, on a thread of its own. Others are served while it is sealed.
pub fn dump(holder: &Arc<Holder>, id: ConnId) -> ClientAnswer {
    on_its_own(holder, id, "dump", |engine| {
        let (dump, random) =
            engine.with(|core, cx| (core.unsealed_dump(cx.now), cx.entropy.bytes32()));
        Reply::Bytes(SecretBytes::new(dump::seal(&dump, random)))
    })
}

/// Takes over what a dump has, on a thread of its own.
pub fn restore(holder: &Arc<Holder>, id: ConnId, mut bytes: SecretBytes) -> ClientAnswer {
    on_its_own(holder, id, "restore", move |engine| {
        let opened = dump::open_in_place(&mut bytes);
        drop(bytes);
        let reply = match opened {
            Ok(dump) => {
                let pieces = dump.pieces(RESTORED_AT_ONCE);
                let taken: usize = pieces
                    .map(|piece| engine.with(|core, cx| core.restore(cx, piece)))
                    .sum();
                log::info!("restored the tokens of {taken} accounts");
                Reply::done()
            }
            Err(error) => failure(Exit::Other, &format!("nothing was restored: {error}")),
        };
        sys::trim();
        reply
    })
}

fn on_its_own(
    holder: &Arc<Holder>,
    id: ConnId,
    name: &'static str,
    work: impl FnOnce(&Arc<Engine>) -> Reply + Send + 'static,
) -> ClientAnswer {
    let admitted = holder.requests.with(|count| {
        let admitted = *count < MAX_AT_ONCE;
        *count = count.saturating_add(usize::from(admitted));
        admitted
    });
    if !admitted {
        return failure(Exit::TryLater, "too many dumps and restores at once").into();
    }
    let ended = |holder: &Holder| {
        holder
            .requests
            .with(|count| *count = count.saturating_sub(1));
        holder.effects.alarm.ring();
    };
    let started = holder.spawn(name, move |holder| {
        let reply = guard::job(name, || work(&holder.engine));
        let bug = || failure(Exit::Other, "it has failed by a bug");
        holder.reply(&[Some(id)], &reply.unwrap_or_else(bug));
        ended(holder);
    });
    match started {
        Ok(()) => by_job(),
        Err(error) => {
            ended(holder);
            let why = format!("no thread can be started: {error}");
            failure(Exit::TryLater, &why).into()
        }
    }
}

/// Saves the state, if there is anything to save it with.
pub fn save(engine: &Arc<Engine>, id: ConnId) -> ClientAnswer {
    match engine.with(|core, cx| core.save_now(cx, Waiter(id.0))) {
        true => by_job(),
        false => Reply::done().into(),
    }
}

/// Asks for a change of the server's life.
pub fn job(holder: &Arc<Holder>, id: ConnId, request: LifeRequest) -> ClientAnswer {
    match jobs::request(holder, request, Some(id)) {
        Some(reply) => reply.into(),
        None => by_job(),
    }
}

/// How all accounts are, as far as the client may tell.
pub fn status(holder: &Holder, admitted: &Admitted) -> Reply {
    let engine = &holder.engine;
    let all = matches!(admitted, Admitted::Fully);
    let views = engine.with(|core, cx| core.status(cx.now));
    let shown = views.into_iter().filter_map(|view| admitted.shown(view));
    let trouble = || engine.with(|core, _| core.state_trouble().map(str::to_owned));
    json(&Status {
        status_format_version: STATUS_FORMAT_VERSION,
        accounts: shown.collect(),
        proxies: if all {
            holder.proxies.views()
        } else {
            Vec::new()
        },
        state_error: all.then(trouble).flatten(),
    })
}

/// Obtains a new token.
pub fn refresh(engine: &Arc<Engine>, args: &ShowArgs) -> Reply {
    match engine.on(&args.account, |it, env| it.refresh(env)) {
        None => no_account(&args.account),
        Some(Progress::Refreshing { .. }) => Reply::done(),
        Some(progress) => not_yet(args.no_url, progress),
    }
}

/// What the server is.
pub fn info(holder: &Holder) -> Reply {
    let (hook_runner, hook_runner_losses) = holder.effects.hooks.runner();
    let (redirects, sandbox) = (&holder.redirect_info, &holder.sandbox);
    let identity = redirects.identity.as_ref();
    let port = |port: Option<u16>| port.map_or("none".into(), |port| port.to_string());
    json(&ServerInfo {
        config_file: holder.config_file.display().to_string(),
        http_port: port(redirects.ports.http),
        https_port: port(redirects.ports.https),
        https_pub_key: identity.map(|it| it.public_key.clone()),
        https_pub_key_sha256: identity.map(|it| it.public_key_sha256.clone()),
        https_fingerprint: identity.map(|it| it.certificate_sha256.clone()),
        pid: std::os::unix::process::parent_id(),
        token_holder: std::process::id(),
        restarts: holder.restarts,
        restart_failure: holder.restart.with(|restart| restart.failure.clone()),
        hook_runner,
        hook_runner_losses,
        pizauth_version: env!("CARGO_PKG_VERSION").into(),
        sandbox: sandbox.layers.iter().map(|it| (*it).into()).collect(),
        sandbox_refused: sandbox.refused.clone(),
    })
}
