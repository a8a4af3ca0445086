#!/bin/sh
# auth_notify_cmd: a dialogue on macOS. The account's name is an argument of
# the script, not part of its text, so that no name can change what it does.
set -eu
answer=$(osascript - "$PIZAUTH_ACCOUNT" <<'SCRIPT'
on run argv
    set question to item 1 of argv & " needs you to sign in."
    set choice to display dialog question with title "pizauth" buttons {"Later", "Sign in"} default button "Sign in"
    return button returned of choice
end run
SCRIPT
)
if [ "$answer" = "Sign in" ]; then
    open "$PIZAUTH_URL"
fi
