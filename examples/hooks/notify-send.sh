#!/bin/sh
# auth_notify_cmd: a notification with a button that opens the browser.
# Needs a notify-send that knows -A (libnotify 0.7.9 or later) and xdg-open.
#
# It waits for the click; pizauth ends it when the sign-in is over or the next
# reminder is due. While the browser starts, the list of processes shows the
# address, as with every program that opens one.
set -eu
urgency=critical
text='pizauth needs your consent to get a token.'
if [ "${PIZAUTH_EVENT:-}" = sign_in_expiring ]; then
    urgency=normal
    text='Your sign-in will end soon. Until then mail keeps working.'
fi
action=$(notify-send --app-name=pizauth --urgency="$urgency" \
    --action=open="Sign in" -- "Sign in to $PIZAUTH_ACCOUNT" "$text")
if [ "$action" = open ]; then
    xdg-open "$PIZAUTH_URL"
fi
