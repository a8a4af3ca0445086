//! The pizauth binary: parse, run the verb, print one error, exit.

// glibc hands every program's arguments to the standard library, with or without its own start.
#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

use pizauth::{cli, cli::Verb, client, server, sys};

/// The process's entry; see [`sys::prepare`].
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
// SAFETY: no other function of the program is called `main`.
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    sys::prepare();
    run().into()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn main() -> std::process::ExitCode {
    run().into()
}

fn run() -> u8 {
    let verb = cli::parse(std::env::args_os().skip(1));
    let outcome = verb.and_then(|verb| match verb {
        Verb::Check(options) => server::check(&options),
        Verb::Server(options) => server::start(&options, false),
        Verb::Succeed(options) => server::start(&options, true),
        Verb::TakeOver { config, handed } => server::take_over(config, handed.as_deref()),
        verb => client::run(&verb),
    });
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            client::complain(&failure);
            failure.exit.code()
        }
    }
}
