#!/bin/sh
# auth_notify_cmd: a window that asks, in KDE's looks.
# pizauth closes it when the sign-in is over or the next reminder is due.
set -eu
if kdialog --title pizauth --yes-label "Sign in" --no-label Later \
    --yesno "$PIZAUTH_ACCOUNT needs you to sign in."; then
    xdg-open "$PIZAUTH_URL"
fi
