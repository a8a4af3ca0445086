#!/bin/sh
# Whether the program, its tests and its benchmark compile on the systems that have branches of their
# own in it. Types and lints only: nothing is linked or run, so no system's linker, C compiler or SDK
# is needed. What is: each target's standard library, or the library's source, from which cargo makes
# what it needs. Not part of `make check`.
#
#   make cross                                   checks them all
#   make cross TARGETS=x86_64-unknown-openbsd    checks this one
set -eu

CARGO=${CARGO:-cargo}
RUSTC=${RUSTC:-rustc}
# Each system with calls of its own; a Linux without glibc, those whose calls the filter knows by
# number, and one with 32 bits.
TARGETS=${TARGETS:-x86_64-unknown-openbsd x86_64-unknown-freebsd x86_64-unknown-netbsd \
    aarch64-apple-darwin x86_64-unknown-linux-musl aarch64-unknown-linux-gnu \
    riscv64gc-unknown-linux-gnu i686-unknown-linux-gnu}

die() {
    printf 'cross: %s\n' "$*" >&2
    exit 1
}

# A C compiler for those who want types alone: what it is asked to write is empty. It answers like
# clang when the cc crate asks what it is.
write_compiler() {
    cat >"$1" <<'EOF'
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    -E) echo '"clang"' ;;
    '-?') exit 1 ;;
    -o) : >"$2" && shift ;;
    esac
    shift
done
EOF
    chmod +x "$1"
}

# Lints one target, or only compiles it where there is no clippy.
check() {
    target=$1
    shift
    export "CC_$(echo "$target" | tr - _)=$dir/cc"
    set -- --locked --all-targets --keep-going --target "$target" --target-dir "$dir" "$@"
    if "$CARGO" clippy --version >/dev/null 2>&1; then
        "$CARGO" clippy "$@" -- -D warnings
    else
        "$CARGO" check "$@"
    fi
}

cd "$(dirname "$0")/.."
# Apart from other builds, which then find everything as they left it.
dir=${CARGO_TARGET_DIR:-target}/cross
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# Elsewhere than on a Mac, any directory will do for the SDK that nothing is taken from.
command -v xcrun >/dev/null || export SDKROOT="$dir"
write_compiler "$dir/cc"

failed=
missing=
for target in $TARGETS; do
    if [ -d "$("$RUSTC" --print target-libdir --target "$target")" ]; then
        echo "cross: $target"
        check "$target" || failed="$failed $target"
    elif [ -e "$("$RUSTC" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
        echo "cross: $target, with its standard library made from source"
        # A stable compiler makes it only when told that it may.
        (export RUSTC_BOOTSTRAP=1 && check "$target" -Zbuild-std) || failed="$failed $target"
    else
        missing="$missing $target"
    fi
done
[ -z "$failed" ] || die "broken:$failed"
[ -z "$missing" ] || die "no standard library for$missing (rustup component add rust-src brings its source)"
