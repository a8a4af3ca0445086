//! The pizauth binary: parse, run the verb, print one error, exit.

use std::process::ExitCode;

use pizauth::{cli, cli::Verb, client, daemon};

fn main() -> ExitCode {
    let verb = cli::parse(std::env::args_os().skip(1));
    let outcome = verb.and_then(|verb| match verb {
        Verb::Server(options) => daemon::start(&options),
        other => client::run(&other),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            client::complain(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}
