#!/usr/bin/env bash
# senpai shows the token to soju as a password
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs senpai soju tmux

{ hooks; account work here; } | configure
start_pizauth
bouncer
from_nothing senpai/senpai.scfg
example senpai/senpai.scfg >.config/senpai/senpai.scfg

say 'before the sign-in senpai does not start'
fails timeout 20 senpai >log 2>&1 || die 'senpai starts without a token'
says 'password command: exit status 77' log

say 'signed in'
sign_in work "$me"
terminal senpai
await 20 screen_shows "Connected to the server as ${JOURNEY,,}"
type_in '/msg BouncerServ help' Enter
await 20 screen_shows 'available commands'
end_terminal
no_secret_astray
