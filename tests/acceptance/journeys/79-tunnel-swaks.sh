#!/usr/bin/env bash
# swaks sends through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs swaks

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
example swaks/send.sh >send.sh

say 'without a token: the reason'
fails timeout 60 sh ./send.sh >log 2>&1 || die 'swaks succeeds without a token'
says 'authorised with URL' log

say 'with one'
sign_in work "$me"
timeout 60 sh ./send.sh >log 2>&1 || die "swaks fails: $(cat log)"
await 10 arrived here 'sent by swaks'
comes_to_say "submission-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
