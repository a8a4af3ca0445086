#!/bin/sh
# auth_notify_cmd and error_notify_cmd: a mail to the local mailbox, for
# machines without a desktop. It must not need a token itself: the mail is
# for this machine only.
set -eu
if [ -n "${PIZAUTH_URL:-}" ]; then
    subject="pizauth: sign in to $PIZAUTH_ACCOUNT"
    text=$PIZAUTH_URL
else
    subject="pizauth: trouble with $PIZAUTH_ACCOUNT"
    text=$PIZAUTH_MSG
fi
printf '%s\n' "$text" | mail -s "$subject" "$(id -un)"
