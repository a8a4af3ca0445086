#!/usr/bin/env bash
# the provider revokes: the user is told once, signs in again, and mail flows
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync

{ hooks; account work here; } | configure
start_pizauth
example mbsync/mbsyncrc >.mbsyncrc
sign_in work "$me"
deliver here 'before the revocation'
mbsync --all 2>log
has_mail Maildir 'before the revocation' || die 'mbsync did not fetch it'
asked_before=$(wc -l <asked)

say 'somebody withdraws the consent at the provider'
refresh_token=$(last_issued here refresh_token)
curl --silent --show-error --cacert "$WORLD/ca.pem" --data "client_id=pizauth&token=$refresh_token" \
    "$(at here issuer)/token/revocation"
await 40 test -s errors
says '^work: .*invalid_grant' errors

say 'mbsync skips the account, and the user is asked to sign in, once'
await 40 fails pizauth show work
fails mbsync --all 2>log || die 'mbsync succeeds without a token'
fails mbsync --all 2>log || die 'mbsync succeeds without a token'
await 10 more_lines asked "$asked_before"
[ "$(wc -l <asked)" -eq $((asked_before + 1)) ] || die "asked $(wc -l <asked) times"
[ "$(wc -l <errors)" -eq 1 ] || die "told more than once: $(cat errors)"

say 'a new sign-in'
deliver here 'after the revocation'
sign_in work "$me"
mbsync --all 2>log
has_mail Maildir 'after the revocation' || die 'mbsync did not fetch it'
no_secret_astray
