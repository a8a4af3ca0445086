#!/bin/sh
# auth_notify_cmd: a window that asks, for desktops without notifications.
# pizauth closes it when the sign-in is over or the next reminder is due.
set -eu
if zenity --question --no-markup --title=pizauth --ok-label="Sign in" \
    --cancel-label=Later --text="$PIZAUTH_ACCOUNT needs you to sign in."; then
    xdg-open "$PIZAUTH_URL"
fi
