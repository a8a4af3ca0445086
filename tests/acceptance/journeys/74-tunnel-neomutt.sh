#!/usr/bin/env bash
# neomutt reads a mailbox through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs neomutt tmux

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
example neomutt/neomuttrc-tunnel >.neomuttrc
deliver here 'a mail for neomutt'

say 'the mailbox, before the sign-in and after'
terminal neomutt
await 20 screen_shows 'Unable to open mailbox'
end_terminal
sign_in work "$me"
terminal neomutt
await 20 screen_shows 'a mail for neomutt'
end_terminal

comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
