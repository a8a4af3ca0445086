//! Heads of replies without the lines that aren't read: ureq takes no more than 128, and a reply that is
//! refused for a proxy's cookies would cost a code.

use std::io;

use ureq::{
    Error,
    unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport},
};

use super::{MAX_BODY_BYTES, READ_BUFFER};

/// What ureq and [`super::read`] read, in lower case.
const FIELDS: &str = "connection content-encoding content-length date location retry-after \
                      transfer-encoding www-authenticate";

/// What comes next in a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Status,
    /// Of an interim reply, which another one follows (RFC 9110, 15.2).
    InterimFields,
    Fields,
    Body,
}

impl Part {
    /// Whether this line is passed on.
    fn keeps(&mut self, line: &[u8]) -> bool {
        let is_end = matches!(line, b"\n" | b"\r\n");
        let name = line.split(|byte| *byte == b':').next();
        let name = name.unwrap_or_default().trim_ascii_end();
        let mut fields = FIELDS.split(' ').map(str::as_bytes);
        let (next, keeps) = match self {
            Part::Status | Part::InterimFields if is_end => (Part::Status, false),
            Part::Status if line.starts_with(b"HTTP/1.1 1") => (Part::InterimFields, false),
            Part::Status => (Part::Fields, true),
            Part::Fields if is_end => (Part::Body, true),
            Part::Fields => (Part::Fields, fields.any(|it| name.eq_ignore_ascii_case(it))),
            Part::InterimFields | Part::Body => return false,
        };
        *self = next;
        keeps
    }
}

/// A connection for one request.
#[derive(Debug)]
pub(super) struct ShortHead {
    inner: Box<dyn Transport>,
    head: LazyBuffers,
    next: Part,
    /// How many bytes came before that. More than the longest body has is refused.
    before: usize,
}

impl ShortHead {
    pub(super) fn new(inner: Box<dyn Transport>) -> Self {
        ShortHead {
            inner,
            head: LazyBuffers::new(READ_BUFFER, 1),
            next: Part::Status,
            before: 0,
        }
    }

    /// Whether there was a whole line.
    fn take_line(&mut self) -> Result<bool, Error> {
        let from = self.inner.buffers();
        let mut lines = from.input().split_inclusive(|byte| *byte == b'\n');
        let line = lines.next().unwrap_or_default();
        let room = self.head.input_append_buf().get_mut(..line.len());
        let Some(room) = room.filter(|_| self.before <= MAX_BODY_BYTES && line.len() < READ_BUFFER)
        else {
            return Err(io::Error::other("the head of the reply is too long").into());
        };
        let end = if line.ends_with(b"\n") { line.len() } else { 0 };
        if end > 0 && self.next.keeps(line) {
            room.copy_from_slice(line);
            self.head.input_appended(end);
        }
        self.before = self.before.saturating_add(end);
        from.input_consume(end);
        Ok(end > 0)
    }
}

impl Transport for ShortHead {
    fn buffers(&mut self) -> &mut dyn Buffers {
        match self.next {
            Part::Status | Part::Body if self.head.input().is_empty() => self.inner.buffers(),
            _ => &mut self.head,
        }
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let progress = self.inner.maybe_await_input(timeout)?;
        while progress && self.next != Part::Body && self.take_line()? {}
        Ok(progress)
    }

    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
