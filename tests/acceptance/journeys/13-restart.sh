#!/usr/bin/env bash
# restarts in place while mbsync loops: no run of it fails, and nobody has to sign in
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync

{ hooks; account work here; } | configure
start_pizauth
example mbsync/mbsyncrc >.mbsyncrc
sign_in work "$me"

# Fetches again and again, until somebody makes the file "enough".
fetch_for_ever() {
    while [ ! -e enough ]; do
        mbsync --all 2>mbsync.log || cat mbsync.log >>failures
        echo fetched >>runs
    done
}

say 'mbsync loops, and pizauth is restarted five times'
fetch_for_ever &
loop=$!
helpers+=("$loop")
await 20 more_lines runs 2
for _ in 1 2 3 4 5; do
    before=$(wc -l <runs)
    pizauth restart
    await 20 more_lines runs "$before"
done

say 'and across a refresh'
first=$(pizauth show work)
await 60 fails alive here "$first"
pizauth restart
alive here "$(pizauth show work)" || die 'the new daemon has no good token'
deliver here 'after the restarts'
before=$(wc -l <runs)
await 20 more_lines runs $((before + 1))
touch enough
wait "$loop"
[ ! -e failures ] || die "mbsync failed: $(cat failures)"
has_mail Maildir 'after the restarts' || die 'mbsync did not fetch it'
[ "$(wc -l <asked)" -eq 1 ] || die "asked $(wc -l <asked) times"
[ "$(pizauth info -j | sed -n 's/.*"restarts":\([0-9]*\).*/\1/p')" -eq 6 ] || die "restarts: $(pizauth info -j)"
no_secret_astray
