#!/usr/bin/env bash
# curl reads a mailbox and sends, and no token is seen in the list of processes
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{ hooks; account work here; } | configure
start_pizauth
sign_in work "$me"
deliver here 'a mail for curl'
example curl/read-first-mail.sh >read.sh
example curl/send-mail.sh >send.sh

say 'a mail read'
sh read.sh >mail
says '^Subject: a mail for curl' mail

say 'a mail sent'
letter 'sent by curl' | sh send.sh
await 10 arrived here 'sent by curl'
no_secret_astray
