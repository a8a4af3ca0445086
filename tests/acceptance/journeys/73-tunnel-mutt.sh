#!/usr/bin/env bash
# mutt reads a mailbox and sends, both through tunnels
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mutt tmux

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
example mutt/muttrc-tunnel >.muttrc
deliver here 'a mail for mutt'

say 'the mailbox, before the sign-in and after'
terminal mutt
# The reason stays only as long as the tunnel takes to end.
await 20 screen_shows 'Tunnel to .* returned error 77'
type_in ':exec error-history' Enter
await 10 screen_shows 'authorised with URL\|Access token unavailable'
end_terminal
sign_in work "$me"
terminal mutt
await 20 screen_shows 'a mail for mutt'
end_terminal

say 'a mail'
echo 'Hello.' | timeout 30 mutt -s 'sent by mutt' -- "$me"
await 10 arrived here 'sent by mutt'
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
comes_to_say "submission-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
