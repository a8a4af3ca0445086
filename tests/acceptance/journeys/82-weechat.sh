#!/usr/bin/env bash
# WeeChat shows the token to soju as a password, and again when it is started anew
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs weechat soju tmux

{ hooks; account work here; } | configure
start_pizauth
bouncer
mkdir -p .config/weechat
printf '[network]\ngnutls_ca_user = "%s"\n' "$SSL_CERT_FILE" >.config/weechat/weechat.conf
example weechat/commands.txt >commands
# What the example says to start it with.
start=$(sed -n 's/^#   //p' commands)
sign_in work "$me"

say 'the commands, as they are typed'
terminal sh
type_in "$start; touch left" Enter
await 20 screen_shows 'Plugins loaded'
grep -v '^#' commands | while read -r line; do
    type_in -l "$line"
    type_in Enter
done
await 20 screen_shows "Welcome to soju, ${JOURNEY,,}"
type_in /quit Enter
await 20 test -e left

say 'the next time there is nothing to type'
type_in "clear; $start" Enter
await 20 screen_shows "Welcome to soju, ${JOURNEY,,}"
end_terminal
no_secret_astray
