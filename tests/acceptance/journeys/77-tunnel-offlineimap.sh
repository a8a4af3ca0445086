#!/usr/bin/env bash
# offlineimap3 synchronises a mailbox through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs offlineimap

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
example offlineimap/offlineimaprc-tunnel >.offlineimaprc
deliver here 'a mail for offlineimap'

say 'without a token: an error'
fails timeout 60 offlineimap -o >log 2>&1 || die 'offlineimap succeeds without a token'
says 'authorised with URL' log

say 'with one: the mail'
sign_in work "$me"
timeout 60 offlineimap -o >log 2>&1 || die "offlineimap fails: $(cat log)"
has_mail Maildir 'a mail for offlineimap' || die 'it was not fetched'
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
