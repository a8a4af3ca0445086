#!/usr/bin/env bash
# meli reads a mailbox and sends
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs meli m4 tmux
# It gives up at a directory in the PATH that it may not open.
PATH=$WORLD/bin:/usr/bin:/bin:$WORLD/trixie/bin

{ hooks; account work here; } | configure
start_pizauth
from_nothing meli/config.toml
example meli/config.toml >.config/meli/config.toml
deliver here 'a mail for meli'

say 'before the sign-in meli does not start, and says why'
terminal 'sh -c "meli; sleep 60"'
await 20 grep -q 'exit status: 77.*authorised with URL' terminal.err
end_terminal

say 'the mailbox'
sign_in work "$me"
cat >editor <<END
#!/bin/sh
printf 'From: %s\nTo: %s\nSubject: sent by meli\n\nHello.\n' $me $me >"\$1"
END
chmod +x editor
export EDITOR=$PWD/editor
terminal meli
await 20 screen_shows 'a mail for meli'

say 'a mail'
type_in m
await 20 screen_shows 'COMPOSING MESSAGE'
type_in e
await 20 screen_shows 'Subject *sent by meli'
type_in s
await 20 screen_shows 'send mail?'
type_in Enter
await 20 arrived here 'sent by meli'
end_terminal
no_secret_astray
