//! The floor under `pizauth show` for a Rust program: connect, write, read, print.
use std::{env, io::{Read, Write}, os::unix::net::UnixStream};

fn main() {
    let args: Vec<String> = env::args().collect();
    let mut socket = UnixStream::connect(&args[1]).unwrap();
    let body = format!("{{\"account\":\"{}\"}}", args[2]);
    write!(socket, "pizauth 1 show {}\n{body}", body.len()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let start = answer.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    answer.push(b'\n');
    std::io::stdout().write_all(&answer[start..]).unwrap();
}
