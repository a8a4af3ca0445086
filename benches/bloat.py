#!/usr/bin/env python3
"""Says which crate costs how much of a binary that still has its symbols: `make bloat`.

Counts the sizes of symbols, as nm(1) gives them, by the crate that a symbol's name begins with.
What has no symbol (string literals, unwinding tables) is in no crate's sum.
"""

import collections
import re
import subprocess
import sys

# C symbols of ring, by what their names begin with.
RING = re.compile(r"_?(ring_core|[a-z0-9_]*(x25519|p256|p384|sha512|sha256|aes|bn_|ecp_|chacha|gcm|poly1305))")


def crate(name):
    """The crate of a demangled symbol."""
    if RING.match(name):
        return "ring (C and assembler)"
    # <A as B>::method belongs to A, or to B where A is a primitive or another crate's type.
    found = re.search(r"\b([a-z_][a-z0-9_]*)::", name)
    return found.group(1) if found else "other"


def main(binary):
    listing = subprocess.run(
        ["nm", "--print-size", "--demangle", binary], check=True, capture_output=True, text=True
    ).stdout
    sums = collections.Counter()
    for line in listing.splitlines():
        words = line.split(None, 3)
        if len(words) == 4 and words[2] in "tTrRdDbBvVwW":
            sums[crate(words[3])] += int(words[1], 16)
    total = sum(sums.values())
    for name, size in sums.most_common(30):
        print(f"{size:>10} bytes {100 * size / total:5.1f} %  {name}")
    print(f"{total:>10} bytes in all")


main(sys.argv[1])
