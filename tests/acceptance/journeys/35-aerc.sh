#!/usr/bin/env bash
# aerc reads a mailbox and sends
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs aerc tmux

{ hooks; account work here; } | configure
start_pizauth
from_nothing aerc/accounts.conf
example aerc/accounts.conf >.config/aerc/accounts.conf
printf '[compose]\neditor = true\naddress-book-cmd =\n' >.config/aerc/aerc.conf
deliver here 'a mail for aerc'

say 'before the sign-in aerc does not start'
fails timeout 20 aerc >log 2>&1 || die 'aerc starts without a token'
says 'exit status 77' log

say 'the mailbox'
sign_in work "$me"
terminal aerc
await 20 screen_shows 'a mail for aerc'

say 'a mail'
type_in ":compose -H \"To: $me\" -H \"Subject: sent by aerc\"" Enter
await 20 screen_shows 'Send this email'
type_in y
await 20 arrived here 'sent by aerc'
end_terminal
no_secret_astray
