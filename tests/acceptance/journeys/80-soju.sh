#!/usr/bin/env bash
# IRC: soju takes tokens from show, and from tunnels for irssi, which has no OAuth
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs soju irssi socat tmux

{ hooks; account work here; } | configure
start_pizauth
bouncer

say 'irssi, as its example says; without a token it shows the reason'
from_nothing irssi/config
example irssi/config >.irssi/config
sh -c "$(sed -n 's/^#   \(socat .*\)/exec \1/p' .irssi/config)" 2>socat.err &
helpers+=($!)
await 10 test -S "$XDG_RUNTIME_DIR/irssi"
terminal irssi
await 20 screen_shows 'Access token unavailable'
end_terminal
sign_in work "$me"

say 'show -f oauthbearer is the SASL response that soju takes'
pizauth show -f oauthbearer --host localhost --port "$irc" work >secret
# Each of these waits for what the server has written before it goes.
# shellcheck disable=SC2094
{
    printf 'CAP REQ :sasl\r\nNICK me\r\nUSER me 0 * :me\r\nAUTHENTICATE OAUTHBEARER\r\n'
    # In pieces of 400 bytes, of which the last is shorter (IRCv3).
    { tr -d '\n' <secret; echo; } | fold -w 400 | sed 's/^/AUTHENTICATE /; s/$/\r/'
    printf 'CAP END\r\n'
    comes_to_say ' 001 ' log
    printf 'QUIT\r\n'
} | timeout 20 openssl s_client -quiet -verify_return_error -CAfile "$SSL_CERT_FILE" \
    -connect "localhost:$irc" >log 2>stderr || :
says " 903 .*successful" log
says " 001 ${JOURNEY,,} :Welcome to soju" log

say 'a client without any SASL, through a tunnel'
# shellcheck disable=SC2094
{ printf 'NICK me\r\nUSER me 0 * :me\r\n'; comes_to_say ' 001 ' irc-log; printf 'QUIT\r\n'; } |
    timeout 20 pizauth tunnel work "ircs://localhost:$irc" >irc-log
says " 001 ${JOURNEY,,} :Welcome to soju" irc-log

say 'irssi, with one'
terminal irssi
await 20 screen_shows 'Welcome to soju'

say 'a refresh leaves a session alone'
pizauth refresh work
type_in '/query BouncerServ' Enter
type_in help Enter
await 20 screen_shows 'available commands'
end_terminal
no_secret_astray
