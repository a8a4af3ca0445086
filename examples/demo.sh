#!/bin/sh
# One sign-in from start to end, on this machine alone: an authorization server of our own, a
# pizauth beside it, and a token that is renewed while you watch. Leaves nothing behind.
#
#   make demo           a stand-in for your browser presses the button
#   make demo OPEN=1    your own browser opens, and you press it
set -eu

# How long the server's access tokens live, in seconds. pizauth renews them REFRESH_BEFORE ahead.
LIFETIME=20
REFRESH_BEFORE=8
# How long to wait for a background refresh and for a sign-in, in seconds.
REFRESH_PATIENCE=60
SIGN_IN_PATIENCE=300

if [ -t 1 ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
else
    bold='' plain=''
fi

say() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# Shows a command as the user would type it, and runs it.
run() {
    printf '$ %s\n' "$*"
    "$@"
}

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

cleanup() {
    status=$?
    trap - EXIT HUP INT TERM
    if [ -n "$serving" ]; then
        pizauth shutdown >/dev/null 2>&1 || status=1
    fi
    if [ -n "$provider" ]; then
        # It ends when its standard input closes.
        exec 3>&-
        wait "$provider" || :
    fi
    rm -rf "$dir"
    exit "$status"
}

# Asks for a token every second, for at most $2 seconds, until there is another than $1.
# (An empty $1 stands for none yet.)
await_token() {
    left=$2
    while :; do
        token=$(pizauth show -u demo 2>/dev/null) || token=$1
        [ "$token" = "$1" ] || return 0
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}

open_browser() {
    for opener in xdg-open open; do
        if command -v "$opener" >/dev/null; then
            "$opener" "$1" >/dev/null 2>&1 3>&- &
            return 0
        fi
    done
    die "no xdg-open and no open here: run it without OPEN=1"
}

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

say 'Building pizauth and a small authorization server (a minute or two, the first time)'
cargo build --locked --target-dir "$target" --bin pizauth --example demo-provider
target=$(cd "$target" && pwd)
PATH=$target/debug:$target/debug/examples:$PATH

serving='' provider=''
dir=$(mktemp -d "${TMPDIR:-/tmp}/pizauth-demo.XXXXXX")
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
# Apart from a pizauth that you may already run.
unset PIZAUTH_SOCK
export XDG_CONFIG_HOME="$dir" XDG_RUNTIME_DIR="$dir"

# Opening a FIFO waits for its other end, so that nothing here has to sleep.
mkfifo "$dir/alive" "$dir/port"
demo-provider --lifetime "$LIFETIME" <"$dir/alive" >"$dir/port" &
provider=$!
exec 3>"$dir/alive"
read -r port <"$dir/port" || die 'the authorization server did not start'
say "An authorization server listens on port $port; its access tokens live for $LIFETIME seconds"

cat >"$dir/pizauth.conf" <<END
token_event_cmd = "echo \$PIZAUTH_EVENT >>'$dir/events'";

account "demo" {
    auth_uri = "http://127.0.0.1:$port/authorize";
    token_uri = "http://127.0.0.1:$port/token";
    client_id = "pizauth demo";
    scopes = ["mail"];
    refresh_before_expiry = ${REFRESH_BEFORE}s;
}
END
say 'This is the whole configuration'
cat "$dir/pizauth.conf"

say 'The server starts, and goes to the background when it answers'
serving=yes
run pizauth server 3>&-

say 'A mail program asks for a token. There is none yet, so it learns where to sign in'
status=0
message=$(pizauth show demo 2>&1 3>&-) || status=$?
printf '$ pizauth show demo\n%s\n' "$message"
[ "$status" -eq 77 ] || die "show exits with $status instead of 77 (authorisation needed)"
url=$(printf '%s\n' "$message" | sed -n 's/.*with URL \([^ ]*\).*/\1/p')
[ -n "$url" ] || die 'show names no URL'

if [ -n "${OPEN:-}" ]; then
    say 'Your browser opens that page: press Allow there'
    open_browser "$url"
else
    say 'A stand-in for your browser opens that page and presses Allow (OPEN=1 lets you do it)'
    title=$(demo-provider --sign-in "$url") || die 'the sign-in failed'
    printf 'The last page it saw: %s\n' "$title"
fi
await_token '' "$SIGN_IN_PATIENCE" || die 'no sign-in in time'

say 'From now on the mail program gets its token, at once and every time'
run pizauth show demo
printf 'The authorization server says: '
printf '%s\n' "$token" | demo-provider --check "http://127.0.0.1:$port/check" ||
    die 'the token is not good'

say "It expires within $LIFETIME seconds. You do nothing, and a few seconds later there is a new one"
await_token "$token" "$REFRESH_PATIENCE" || die 'no refresh in time'
run pizauth show demo
printf 'The authorization server says: '
printf '%s\n' "$token" | demo-provider --check "http://127.0.0.1:$port/check" ||
    die 'the new token is not good'
run pizauth status

say 'The server stops, and its tokens are gone'
run pizauth shutdown
serving=''
if [ -e "$dir/events" ]; then
    printf 'The events that a hook was told: %s\n' "$(tr '\n' ' ' <"$dir/events")"
fi
say 'Now for your own account:'
printf '  %s\n' 'make && sudo make install' 'pizauth setup' 'pizauth show <account>'
