#!/usr/bin/env bash
# neomutt reads a mailbox and sends
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs neomutt tmux

{ hooks; account work here; } | configure
start_pizauth
from_nothing neomutt/neomuttrc
{ example neomutt/neomuttrc; echo "set ssl_ca_certificates_file = '$SSL_CERT_FILE'"; } >.config/neomutt/neomuttrc
deliver here 'a mail for neomutt'

say 'the mailbox, before the sign-in and after'
terminal neomutt
await 20 screen_shows 'Command returned empty string\|Unable to open mailbox'
end_terminal
sign_in work "$me"
terminal neomutt
await 20 screen_shows 'a mail for neomutt'
end_terminal

say 'a mail'
echo 'Hello.' | timeout 30 neomutt -s 'sent by neomutt' -- "$me"
await 10 arrived here 'sent by neomutt'
comes_to_say "imap-login: .*user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
comes_to_say "submission-login: .*user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"

say 'OAUTHBEARER, which has room for short tokens'
sed -i 's/"xoauth2"/"oauthbearer"/' .config/neomutt/neomuttrc
terminal neomutt
await 20 screen_shows 'sent by neomutt'
end_terminal
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
