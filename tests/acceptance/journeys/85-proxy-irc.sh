#!/usr/bin/env bash
# irssi and WeeChat reach soju through proxies, again after an outage, and with a new token each time
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs soju irssi weechat tmux
own_password_command

bouncer
local_port=$(free_port)
{
    hooks
    account work here
    proxy_of irssi/config-proxy
    proxy_of weechat/commands-proxy.txt
} | configure
start_pizauth

say 'irssi, at the path of a socket; without a token it shows the reason'
from_nothing irssi/config-proxy
example irssi/config-proxy >.irssi/config
terminal irssi
await 20 screen_shows 'Access token unavailable'
end_terminal
sign_in work "$me"
terminal irssi
await 20 screen_shows 'Welcome to soju'
end_terminal

say 'irssi, at a port, with SASL, and with a wrong password'
# irssi writes its file at its end, so each run has another.
with_sasl() {
    example irssi/config-proxy |
        sed -e "s|address = .*|address = \"127.0.0.1\";|; s|port = .*|port = \"$local_port\";|; /password =/d" \
            -e "s|nick = .*;|nick = \"you\"; sasl_mechanism = \"PLAIN\"; sasl_username = \"you\"; sasl_password = \"$2\"; };|" >"$1"
    terminal "irssi --config=$1"
}
with_sasl right "$own_password"
await 20 screen_shows 'Welcome to soju'
type_in -l '/quote CAP REQ :server-time'
type_in Enter
await 20 screen_shows 'acknowledged: server-time'
end_terminal
with_sasl wrong 'a wrong one'
await 20 screen_shows 'wrong password'
end_terminal

say 'WeeChat, by the commands, as they are typed'
example weechat/commands-proxy.txt | sed "s/the-proxy's-password/$own_password/" >commands
terminal weechat
await 20 screen_shows 'Plugins loaded'
grep -v '^#' commands | while read -r line; do
    type_in -l "$line"
    type_in Enter
done
await 20 screen_shows "Welcome to soju, ${JOURNEY,,}"
# What the server has becomes available, WeeChat asks for some of it, and the server enables that.
is_enabled() {
    screen_shows "$1" && [ "$(grep -c -e "$1" screen)" -ge 3 ]
}
await 20 is_enabled server-time

say 'a refresh leaves a session alone'
pizauth refresh work
type_in -l '/query -server work BouncerServ help'
type_in Enter
await 20 screen_shows 'available commands'
type_in -l '/buffer irc.server.work'
type_in Enter
type_in -l '/buffer clear'
type_in Enter

say 'an outage of the server: the reason, and a new token when it is over'
before=$(pizauth show work)
kill -KILL "$bouncer_pid"
wait "$bouncer_pid" 2>killed || :
await 30 screen_shows 'onnection refused'
pizauth refresh work
is_new() {
    [ "$(pizauth show work)" != "$before" ]
}
# It may have been refreshed less than 10 s ago.
await 30 is_new
start_bouncer
await 60 screen_shows "Welcome to soju, ${JOURNEY,,}"
# The bouncer has asked about that one.
now=$(last_issued here access_token)
[ "$before" != "$now" ] || die 'there was no refresh'
says "\"what\":\"shown\",\"name\":\"token\",\"secret\":\"$now\"" "$WORLD/here/op.log"
end_terminal
no_secret_astray
