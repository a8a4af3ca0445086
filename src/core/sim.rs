//! The simulator: see the issue of that name.
