//! Pipes. Rust has them since 1.87.

use std::{fs::File, io};

use nix::unistd;

/// The end of a pipe that is read.
pub type PipeReader = File;

/// The end of a pipe that is written to.
pub type PipeWriter = File;

/// A pipe that no program inherits.
///
/// # Errors
/// When there are no descriptors for it.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    #[cfg(not(target_vendor = "apple"))]
    let (reader, writer) = unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    #[cfg(target_vendor = "apple")]
    let (reader, writer) = unistd::pipe()?;
    #[cfg(target_vendor = "apple")]
    for end in [&reader, &writer] {
        use nix::fcntl::{FcntlArg, FdFlag, fcntl};
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((reader.into(), writer.into()))
}
