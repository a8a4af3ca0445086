//! What any process of the server may use: fork(2) and signals, the log, clocks, a guard against
//! panics, limits, and the files of the runtime directory. It knows none of the processes.

pub mod activation;
pub mod clock;
pub mod config_file;
pub mod descriptors;
#[cfg(debug_assertions)]
#[path = "tests/drills.rs"]
pub mod drills;
pub mod error;
pub mod fork;
pub mod guard;
pub mod handlers;
pub mod limits;
pub mod log;
pub mod pipe;
pub mod places;
pub mod program;
pub mod rights;
pub mod runtime_files;
pub mod sandbox;
pub mod signals;
