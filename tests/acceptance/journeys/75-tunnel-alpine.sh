#!/usr/bin/env bash
# Alpine reads a mailbox through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs alpine tmux

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
example alpine/pinerc >.pinerc
deliver here 'a mail for Alpine'

say 'with a token: the mail'
sign_in work "$me"
terminal 'alpine -i'
await 20 screen_shows 'Exit this greeting'
type_in E
await 30 screen_shows 'a mail for Alpine'
end_terminal
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
