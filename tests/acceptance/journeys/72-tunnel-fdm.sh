#!/usr/bin/env bash
# fdm 1.9, which knows no OAuth2, fetches through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs fdm

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
# It takes the home directory from the system's list of users.
{ echo "set lock-file \"$HOME/.fdm.lock\""; example fdm/fdm.conf-tunnel | sed "s|%h|$HOME|"; } >.fdm.conf
deliver here 'a mail for fdm'

say 'without a token: the reason'
# Its exit status doesn't tell.
timeout 60 fdm -f .fdm.conf fetch >log 2>&1 || :
says 'authorised with URL' log

say 'with one: the mail'
sign_in work "$me"
timeout 60 fdm -f .fdm.conf fetch >log 2>&1 || die "fdm fails: $(cat log)"
has_mail Maildir 'a mail for fdm' || die 'it was not fetched'

say 'POP3'
deliver here 'another for fdm'
sed -i "s|imap pipe \(.*\) imaps://localhost:[0-9]*\"|pop3 pipe \1 pop3s://localhost:$(at here pop3s)\" user \"me\" pass \"any\"|" .fdm.conf
timeout 60 fdm -f .fdm.conf fetch >log 2>&1 || die "fdm fails: $(cat log)"
has_mail Maildir 'another for fdm' || die 'it was not fetched'
comes_to_say "pop3-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
