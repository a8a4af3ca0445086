#!/usr/bin/env bash
# s-nail reads a mailbox and sends
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs s-nail

{ hooks; account work here; } | configure
start_pizauth
{ example s-nail/mailrc; echo "set tls-ca-file=$SSL_CERT_FILE"; } >.mailrc
deliver here 'a mail for s-nail'

say 'without a token: an error'
fails timeout 30 s-nail -:u -H -f +INBOX >log 2>&1 || die 's-nail succeeds without a token'
says 'authorised with URL' log
sign_in work "$me"

say 'the mailbox'
timeout 30 s-nail -:u -H -f +INBOX >headers
says 'a mail for s-nail' headers

say 'a mail'
echo 'Hello.' | timeout 30 s-nail -:u -s 'sent by s-nail' "$me"
await 10 arrived here 'sent by s-nail'
comes_to_say "user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
no_secret_astray
