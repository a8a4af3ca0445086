#!/usr/bin/env python3
"""Which faults in the core would the tests not notice?

    tests/mutants.py [-o REPORT] [-p PROFILE] [-r ROUNDS] [-j JOBS] [FILE...]

cargo-mutants finds the places and says what to write there; it would then build once for each. Here
they are all built in at once, in a copy of the tree: a function's body becomes a match over a number
from the environment. Those that the compiler refuses count for nothing, nor do those outside
functions (the values of constants). Each of the others runs with the unit tests first,
then with the model and the simulator. The last line says how many were caught; who isn't is listed.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys

FILES = ["src/core/account.rs", "src/core/account/*.rs", "src/core/schedule.rs", "src/oauth/reply.rs"]
SWITCH = """
/// Which of the faults built in is switched on.
#[doc(hidden)]
pub fn mutant() -> usize {
    static NUMBER: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var("PIZAUTH_MUTANT").map_or(0, |text| text.parse().unwrap_or(0))
    });
    *NUMBER
}
"""
# Cheapest first; the arguments of the test harness, and after how many seconds it hangs.
ROUNDS = [
    (["core::tests", "core::account", "core::schedule", "core::dump", "core::sim::regressions"], 120),
    (["oauth::"], 120),
    (["core::model::every_order"], 300),
    (["core::sim::every_promise"], 600),
]
TREE = os.path.join("target", "mutants")


def cargo(*args, **more):
    return subprocess.run([os.environ.get("CARGO", "cargo"), *args], text=True, **more)


def offset(lines, place):
    return sum(len(line) for line in lines[: place["line"] - 1]) + place["column"] - 1


def with_mutants(text, mutants):
    """The file with all of them, and which lines of it belong to which."""
    lines = text.splitlines(keepends=True)
    at = lambda span: (offset(lines, span["start"]), offset(lines, span["end"]))
    bodies = collections.defaultdict(list)
    for number, mutant in mutants:
        bodies[at(mutant["function"]["span"])].append((number, at(mutant["span"]), mutant["replacement"]))
    owners, out, done = [], "", 0
    for (start, end), theirs in sorted(bodies.items()):
        if start < done:
            continue  # A function within a function.
        opens = min(body_start(text, start, end), *(place[0] for _, place, _ in theirs))
        opens = text.rindex("{", start, opens + 1) if text[opens] != "{" else opens
        out += text[done:opens] + "{ match crate::mutant() {\n"
        head = out.count("\n")
        for number, (first, last), replacement in theirs:
            first_line = out.count("\n") + 1
            out += f"{number} => {text[opens:first]} {replacement} {text[last:end]}\n"
            owners += [(head, head, number), (first_line, out.count("\n"), number)]
        out += f"_ => {text[opens:end]}\n}} }}"
        done = end
    return out + text[done:], owners


def body_start(text, start, end):
    """Where the body's brace is: the first at depth 0 of brackets."""
    depth = 0
    for index in range(start, end):
        depth += (text[index] in "([") - (text[index] in ")]")
        if text[index] == "{" and depth == 0:
            return index
    raise ValueError(text[start:end])


def build(mutants, sources, profile):
    """Builds with as many of them as compile; the test program, and their numbers."""
    refused = set()
    while True:
        owners = {}
        for path, text in sources.items():
            theirs = [(n, m) for n, m in mutants.items() if m["file"] == path and n not in refused]
            text, owners[path] = with_mutants(text, theirs)
            with open(os.path.join(TREE, path), "w") as file:
                file.write(text)
        shared = ["--profile", profile, "--lib", "--message-format", "json", "--locked"]
        target = ["--target-dir", os.environ.get("CARGO_TARGET_DIR", os.path.abspath("target"))]
        check = cargo("test", "--no-run", *shared, *target, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        messages = [json.loads(line) for line in check.stdout.splitlines() if line.startswith("{")]
        before = len(refused)
        for message in (m["message"] for m in messages if m["reason"] == "compiler-message"):
            if message["level"] != "error":
                continue
            for span in (span for span in message["spans"] if span["is_primary"]):
                for first, last, number in owners.get(span["file_name"], []):
                    if first <= span["line_start"] <= last:
                        refused.add(number)
        if check.returncode == 0:
            there = {number for theirs in owners.values() for *_, number in theirs}
            program = next(m["executable"] for m in messages if m.get("executable"))
            return shutil.copy(program, os.path.join("target", "mutants.program")), there
        if len(refused) == before:
            sys.exit("\n".join(m["message"]["rendered"] for m in messages if m["reason"] == "compiler-message" and m["message"]["level"] == "error"))


def run(program, number, rounds):
    """The round that notices it."""
    env = {**os.environ, "PIZAUTH_MUTANT": str(number), "RUST_BACKTRACE": "0"}
    for tests, limit in ROUNDS[:rounds]:
        try:
            result = subprocess.run(
                [os.path.abspath(program), *tests], env=env, cwd=TREE, timeout=limit,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            return f"{tests[0]} hangs"
        if result.returncode != 0:
            return tests[0]
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", default=os.path.join("target", "mutants.txt"))
    parser.add_argument("-p", "--profile", default="sim")
    parser.add_argument("-r", "--rounds", type=int, default=len(ROUNDS), help="only the first of them")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", default=FILES)
    options = parser.parse_args()
    picks = [part for file in options.files for part in ("-f", file)]
    listed = cargo("mutants", "--list", "--json", *picks, stdout=subprocess.PIPE, check=True)
    numbered = dict(enumerate(json.loads(listed.stdout), 1))
    mutants = {n: m for n, m in numbered.items() if m["function"]}
    shutil.rmtree(TREE, ignore_errors=True)
    shutil.copytree(".", TREE, symlinks=True, ignore=shutil.ignore_patterns("target", ".git"))
    with open(os.path.join(TREE, "src/lib.rs"), "a") as file:
        file.write(SWITCH)
    sources = {}
    for path in {mutant["file"] for mutant in mutants.values()}:
        with open(path) as file:
            sources[path] = file.read()
    program, there = build(mutants, sources, options.profile)
    if run(program, 0, options.rounds):
        sys.exit("the tests fail without any fault")
    tally = collections.Counter()
    with (
        open(options.output, "w") as report,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        notice = lambda number: (number, run(program, number, options.rounds))
        for number, by in pool.map(notice, sorted(there)):
            name = mutants[number]["name"]
            tally["caught" if by else "missed"] += 1
            print(f"{by or 'MISSED'}: {name}", file=report, flush=True)
            if not by:
                print(f"missed: {name}", flush=True)
    total = sum(tally.values())
    print(f"{tally['caught']} of {total} caught; {len(mutants) - total} don't compile, {len(numbered) - len(mutants)} are constants")
    sys.exit(tally["caught"] * 10 < total * 9)


if __name__ == "__main__":
    main()
