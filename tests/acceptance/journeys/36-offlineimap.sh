#!/usr/bin/env bash
# offlineimap3 synchronises a mailbox
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs offlineimap

{ hooks; account work here; } | configure
start_pizauth
from_nothing offlineimap/offlineimaprc
example offlineimap/offlineimaprc | sed "s|^sslcacertfile = .*|sslcacertfile = $SSL_CERT_FILE|" >.offlineimaprc
# Here, no token lives for ten minutes.
example offlineimap/pizauth.py | sed 's/10m/2s/' >.config/offlineimap/pizauth.py
deliver here 'a mail for offlineimap'

say 'without a token: an error that says what to do'
fails timeout 60 offlineimap -o >log 2>&1 || die 'offlineimap succeeds without a token'
says 'authorised with URL' log

say 'with one: the mail'
sign_in work "$me"
timeout 60 offlineimap -o >log 2>&1 || die "offlineimap fails: $(cat log)"
has_mail Maildir 'a mail for offlineimap' || die 'it was not fetched'
comes_to_say "user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
no_secret_astray
