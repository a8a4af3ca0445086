#!/usr/bin/env python3
"""Writes src/show.ld: which functions a `show` runs, for the linker to put side by side.

Run by `make order`, with valgrind installed. What a `show` runs comes from callgrind; what belongs
to one compiler or one build in the functions' names is left open.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading

TOKEN = b"t" * 1800

HEAD = """/* Where the functions are that `show` runs: side by side, on a sixth of the pages that they would be
 * spread over, each of which takes a page fault and counts as the process's memory. The names are
 * patterns; one that fits nothing does no harm. Written by `make order`. */
SECTIONS
{
  .text.show :
  {
"""

TAIL = """  }
}
INSERT BEFORE .text;
"""


def build():
    """The release binary, with its symbols."""
    words = ["cargo", "rustc", "--release", "--locked", "--bin", "pizauth", "--message-format=json"]
    built = subprocess.run(words + ["--", "-C", "strip=none"], stdout=subprocess.PIPE, check=True)
    found = re.findall(r'"executable":"([^"]+)"', built.stdout.decode())
    return found[-1]


def serve(path):
    """A server with one token for whoever asks."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def answer():
        while True:
            client, _ = listener.accept()
            client.recv(512)
            client.sendall(b"pizauth 1 0 %d\n" % len(TOKEN) + TOKEN)
            client.close()

    threading.Thread(target=answer, daemon=True).start()


def functions(binary, directory):
    """The mangled names of what `show` runs in the binary."""
    os.mkdir(f"{directory}/pizauth", 0o700)
    serve(f"{directory}/pizauth/pizauth.sock")
    out = f"{directory}/callgrind.out"
    options = ["--tool=callgrind", "--demangle=no", f"--callgrind-out-file={out}"]
    subprocess.run(
        ["valgrind", "--quiet", *options, binary, "show", "account"],
        env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": directory},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    # A function is named where it is mentioned first.
    mentions = (re.match(r"c?fn=\(\d+\) ([^\s']+)", line) for line in open(out))
    names = {mention[1] for mention in mentions if mention}
    # The system's libraries have none in Rust.
    return {name for name in names if re.match(r"_ZN|_R|main$", name)}


def pattern(name):
    """Without the hash that ends a name of the older kind, and the crates' of the newer kind."""
    name = re.sub(r"17h[0-9a-f]{16}E(\..*)?$", "17h*", name)
    name = re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", re.sub(r"\.\d+$", "", name))
    # A linker's script has other uses for a dollar.
    return name.replace("$", "?")


def main():
    binary = build()
    with tempfile.TemporaryDirectory() as directory:
        names = functions(binary, directory)
    patterns = sorted({pattern(name) for name in names})
    if not patterns:
        sys.exit("callgrind has seen nothing")
    with open(sys.argv[1], "w") as file:
        rows = (f"    *(.text.{each})\n" for each in patterns)
        file.write(HEAD + "".join(rows) + TAIL)


main()
