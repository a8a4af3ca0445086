//! A session at a mail server for a program that can't sign in itself: a connection, a sign-in with a
//! token, and the copying of what both say. `tunnel` and the proxies do this; `test` signs in.

pub mod dial;
pub mod end;
pub mod pump;
