#!/usr/bin/env bash
# getmail6 fetches, and is quiet about it
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs getmail

{ hooks; account work here; } | configure
start_pizauth
from_nothing getmail/getmailrc
example getmail/getmailrc | sed 's/^\[retriever\]/&\ntimeout = 20/' >.config/getmail/getmailrc
deliver here 'a mail for getmail'

say 'without a token: an error'
fails getmail --quiet 2>log || die 'getmail succeeds without a token'
says 'pizauth exited with 77' log

say 'with one: a mail, and not a word'
sign_in work "$me"
quiet_getmail
has_mail Maildir 'a mail for getmail' || die 'it was not fetched'
no_secret_astray
