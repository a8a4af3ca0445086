#!/bin/sh
# Sign-ins in a real browser, headless: the authorisation URL is opened, the provider of the demo
# consents, and the page of a real daemon must tell each outcome. Needs Chromium; not part of
# `make check`.
#
#   make browser              says what the pages said
#   make browser SHOTS=dir    puts screenshots there, too: light and dark, wide and on a phone
set -eu

# How long the browser may take for a page, in seconds: its first start is slow.
PATIENCE=60

die() {
    printf 'browser: %s\n' "$*" >&2
    exit 1
}

cleanup() {
    status=$?
    trap - EXIT HUP INT TERM
    [ -z "$serving" ] || pizauth shutdown || status=1
    # The provider's stdin closes, and so it goes.
    exec 3>&-
    wait
    rm -rf "$dir"
    exit "$status"
}

for browser in chromium chromium-browser google-chrome ''; do
    [ -n "$browser" ] || die 'no Chromium here'
    ! command -v "$browser" >/dev/null || break
done
[ "$(id -u)" -ne 0 ] || sandbox=--no-sandbox

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --locked --target-dir "$target" --bin pizauth --example demo-provider
target=$(cd "$target" && pwd)
PATH=$target/debug:$target/debug/examples:$PATH
[ -z "${SHOTS:-}" ] || { mkdir -p "$SHOTS" && SHOTS=$(cd "$SHOTS" && pwd); }

serving=''
dir=$(mktemp -d "${TMPDIR:-/tmp}/pizauth-browser.XXXXXX")
profile=$dir/profile
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
unset PIZAUTH_SOCK
export XDG_CONFIG_HOME="$dir" XDG_RUNTIME_DIR="$dir"

mkfifo "$dir/alive" "$dir/port"
demo-provider --auto <"$dir/alive" >"$dir/port" &
exec 3>"$dir/alive"
read -r port <"$dir/port" || die 'the authorization server did not start'
for name in one two; do
    cat <<END
account "$name" {
    auth_uri = "http://127.0.0.1:$port/authorize";
    token_uri = "http://127.0.0.1:$port/token";
    client_id = "pizauth demo";
}
END
done >"$dir/pizauth.conf"
serving=yes
pizauth server 3>&-

# Opens an address with more options; prints what the page says.
browse() {
    address=$1
    shift
    timeout "$PATIENCE" "$browser" --headless ${sandbox:+"$sandbox"} --disable-gpu --disable-quic \
        --no-first-run --disable-background-networking --disable-component-update \
        --disable-sync --user-data-dir="$profile" "$@" "$address" 2>>"$dir/log" 3>&-
}

# The page at $2 must say $3; its screenshots are called $1.
page() {
    browse "$2" --virtual-time-budget=9000 --dump-dom >"$dir/page"
    grep -q -e "$3" "$dir/page" || die "$1: the page doesn't say: $3"
    printf '%s: %s\n' "$1" "$3"
    shoot "$1" "$2"
}

# Screenshots of the page at $2, called $1.
shoot() {
    [ -n "${SHOTS:-}" ] || return 0
    for scheme in light dark; do
        case $scheme in light) number=1 ;; dark) number=0 ;; esac
        for size in 1000,700 390,844; do
            browse "$2" --screenshot="$SHOTS/$1-$scheme-${size%,*}.png" \
                --window-size="$size" --virtual-time-budget=2000 \
                --blink-settings="preferredColorScheme=$number"
        done
    done
}

# Opens $1 and prints what the address bar shows in the end.
bar() {
    rm -f "$dir/profile/DevToolsActivePort"
    browse "$1" --remote-debugging-port=0 >/dev/null &
    running=$!
    tries=0
    # No sooner than it has written its port, and no longer than it may take.
    until tools=$(sed -n 1p "$dir/profile/DevToolsActivePort" 2>/dev/null) && [ -n "$tools" ] &&
        shown=$(curl -s "http://127.0.0.1:$tools/json/list" |
            sed -n 's|.*"url": "\(http://localhost:[^"]*/pizauth/[^"]*\)".*|\1|p') &&
        [ -n "$shown" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt "$((PATIENCE * 5))" ] || break
        sleep 0.2
    done
    # timeout(1) passes it on.
    kill "$running" 2>/dev/null || :
    wait "$running" 2>/dev/null || :
    printf '%s\n' "$shown"
}

sign_in_url() {
    pizauth show "$1" 2>&1 3>&- | sed -n 's/.*with URL \([^ ]*\).*/\1/p'
}

one=$(sign_in_url one)
two=$(sign_in_url two)
back=$(pizauth info -j 3>&- | sed -n 's|.*"http_port":"\([0-9]*\)".*|http://localhost:\1/|p')

page authorised "$one" 'Account “one” is authorised'
pizauth show one >/dev/null 3>&- || die 'there is no token'
page again "$back?code=x&state=${one##*state=}" 'It already was'
page other-issuer "$back?code=x&state=${two##*state=}&iss=https%3A%2F%2Fevil.example" 'another provider'
# A fragment reaches the server by the page's own script, or by the user's hands.
if command -v curl >/dev/null; then
    # As it looks without scripts, with which a headless Chromium can't do either.
    curl -s "$back" | sed 's|</*noscript>||g; s|<script>.*</script>||' >"$dir/by-hand.html"
    grep -q 'pizauth redirect' "$dir/by-hand.html" || die 'the page is no help with a fragment'
    shoot fragment-by-hand "file://$dir/by-hand.html"
fi
page refused "$back#error=access_denied&error_description=Not+today&state=${two##*state=}" \
    'Account “two” was not authorised'
page stale "$back?code=x&state=unknown" 'This link is no longer valid'
page gone "${back}pizauth/unknown" 'This page is no longer there'
page idle "$back" 'pizauth is listening'
page not-found "${back}favicon.ico" 'Not Found'
page too-long "$back?$(printf '%09000d' 0)" 'URI Too Long'
if command -v curl >/dev/null; then
    two=$(sign_in_url two)
    shown=$(bar "$two")
    case $shown in
        "${back}"pizauth/*[?=\&]* | '') die "the address bar shows: $shown" ;;
        "${back}"pizauth/*) printf 'the address bar ends with: %s\n' "$shown" ;;
    esac
fi

# A provider that ends sign-ins after a week, as Google does of an application in "Testing", and a clock
# that a week is put forward: the notification's address is opened a day before.
if command -v cc >/dev/null && [ "$(uname)" = Linux ]; then
    pizauth shutdown 3>&-
    cat >"$dir/clock.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static const volatile time_t *ahead;
static int (*original)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
    original = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    ahead = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, open(getenv("AHEAD"), O_RDONLY), 0);
}
int clock_gettime(clockid_t id, struct timespec *at) {
    int status = original(id, at);
    if (status == 0 && (id == CLOCK_REALTIME || id == CLOCK_BOOTTIME)) at->tv_sec += *ahead;
    return status;
}
END
    cc -shared -fPIC -o "$dir/clock.so" "$dir/clock.c" -ldl
    export AHEAD="$dir/ahead"
    # The browser before may take a while to end.
    profile=$dir/weekly-profile
    # Puts the clocks forward by so many seconds, 255 * 65536 at most.
    forward() {
        # shellcheck disable=SC2059
        printf "\\$(printf %03o "$(($1 & 255))")\\$(printf %03o "$(($1 >> 8 & 255))")\\$(printf %03o "$(($1 >> 16))")" |
            dd of="$AHEAD" conv=notrunc status=none
    }
    dd if=/dev/zero of="$AHEAD" bs=64 count=1 status=none
    mkfifo "$dir/weekly"
    LD_PRELOAD=$dir/clock.so demo-provider --auto --lifetime 3600 --sign-in-lasts 604800 \
        <"$dir/alive" >"$dir/weekly" 3>&- &
    read -r port <"$dir/weekly" || die 'the weekly authorization server did not start'
    {
        echo "auth_notify_cmd = \"echo \\\"\$PIZAUTH_ACCOUNT \$PIZAUTH_EVENT \$PIZAUTH_URL\\\" >>'$dir/asked'\";"
        for name in one two; do
            cat <<END
account "$name" {
    auth_uri = "http://127.0.0.1:$port/authorize";
    token_uri = "http://127.0.0.1:$port/token";
    client_id = "pizauth demo";
}
END
        done
    } >"$dir/pizauth.conf"
    LD_PRELOAD=$dir/clock.so pizauth server 3>&-
    for name in one two; do
        # shellcheck disable=SC1111
        page "weekly-$name" "$(sign_in_url "$name")" "Account “$name” is authorised"
    done
    forward $((6 * 86400 + 3600))
    pizauth refresh one 3>&-
    tries=0
    until asked=$(sed -n 's/^one sign_in_expiring //p' "$dir/asked") && [ -n "$asked" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt "$((PATIENCE * 5))" ] || die 'the end of a sign-in was not announced'
        sleep 0.2
    done
    pizauth show one >/dev/null 3>&- || die 'the tokens do not serve until then'
    page expiring "$asked" 'Account “one” is authorised'
    forward $((8 * 86400))
    pizauth refresh one 3>&- || :
    pizauth show -w 30s one >/dev/null 3>&- || die 'the sign-in of the notification does not serve'
    ! pizauth show -w 2s two >/dev/null 2>&1 3>&- || die 'who has not signed in again has tokens'
    echo 'a week: announced, signed in again, and served'
fi
