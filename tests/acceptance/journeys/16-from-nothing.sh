#!/usr/bin/env bash
# from nothing: the guide in an empty home, to a mail that mbsync reads, and again after a power cut
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync tmux age

rmdir .config
mkdir bin
# A desktop whose browser has somebody in front of it.
cat >bin/xdg-open <<END
#!/bin/sh
echo "\$1" >short
address=\$(curl --silent --output /dev/null --write-out '%{redirect_url}' "\$1")
node "$WORLD/op/browser.mjs" "$me" "\$address" >page
END
chmod +x bin/xdg-open
export PATH=$HOME/bin:$PATH DISPLAY=:0
deliver here 'a mail from before'

# What the user does: commands to type, and questions of the guide to answer.
commands=0 answers=0
enter() {
    commands=$((commands + 1))
    type_in -l "$1"
    type_in Enter
}

# answer <question> [<text>]: the last line of the screen asks it.
answer() {
    await 60 asks "$1"
    answers=$((answers + 1))
    type_in -l "${2:-}"
    type_in Enter
}

asks() {
    screen_shows . && grep . screen | tail -n 3 | grep -q -e "$1"
}

begun=$SECONDS
say 'the guide'
terminal 'sh'
enter "pizauth setup --name work $(at here issuer) $me"
answer 'Its mail servers' "imaps://localhost:$(at here imaps)"
answer 'Register pizauth there now'
answer 'Scopes to ask for' 'openid offline_access'
answer 'Keep the tokens over a reboot' age
await 60 asks 'Write it?\|Show a notification'
! asks 'Show a notification' || answer 'Show a notification'
answer 'Write it?'
answer 'Start the server'
answer 'Sign in now?'
answer 'Test the mail servers?'
answer 'Name one to see what it needs'
await 20 screen_shows 'Done: .pizauth show work. prints the token'
# The guide knows of the sign-in before the browser has shown the page.
await 20 test -s page
says "Account .work. is authorised" page
says '^http://localhost:[0-9]*/[A-Za-z0-9_-]*$' short
screen_shows 'signed in' || die 'the test of the mail server says nothing'

say 'the mail program, as its example says'
example mbsync/mbsyncrc >.mbsyncrc
enter 'mbsync --all'
await 30 has_mail Maildir 'a mail from before'

say 'the power fails, and is back: no sign-in'
rm page
await 20 test -s .local/state/pizauth/tokens.age
kill -KILL "$(pizauth info -j | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')"
await 20 fails pizauth status
rm -r "$XDG_RUNTIME_DIR/pizauth"
deliver here 'a mail from after'
enter 'pizauth server && mbsync --all'
await 30 has_mail Maildir 'a mail from after'
fails test -e page || die 'a sign-in was needed again'
end_terminal
say "$commands commands, $answers answers and one sign-in, in $((SECONDS - begun)) s"
[ "$commands" -le 5 ] || die "$commands commands are too many"
[ "$((SECONDS - begun))" -le 180 ] || die 'it took more than three minutes'
# shellcheck disable=SC2034
look_into=(.local/state/pizauth)
no_secret_astray
