#!/bin/sh
# error_notify_cmd: a notification with the error. The text of a notification
# is markup, so what isn't meant as such is escaped.
set -eu
text=$(printf '%s' "$PIZAUTH_MSG" |
    sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g')
notify-send --app-name=pizauth -- "pizauth: $PIZAUTH_ACCOUNT" "$text"
