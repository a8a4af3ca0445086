#!/usr/bin/env bash
# mutt reads a mailbox and sends
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mutt tmux

{ hooks; account work here; } | configure
start_pizauth
{ example mutt/muttrc; echo "set ssl_ca_certificates_file = '$SSL_CERT_FILE'"; } >.muttrc
deliver here 'a mail for mutt'

say 'the mailbox, before the sign-in and after'
terminal mutt
await 20 screen_shows 'Command returned empty string\|Unable to open mailbox'
end_terminal
sign_in work "$me"
terminal mutt
await 20 screen_shows 'a mail for mutt'
end_terminal

say 'a mail'
echo 'Hello.' | timeout 30 mutt -s 'sent by mutt' -- "$me"
await 10 arrived here 'sent by mutt'
comes_to_say "imap-login: .*user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
comes_to_say "submission-login: .*user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"

say 'OAUTHBEARER, which has room for short tokens'
sed -i 's/"xoauth2"/"oauthbearer"/' .muttrc
terminal mutt
await 20 screen_shows 'sent by mutt'
end_terminal
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
