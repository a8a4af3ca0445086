#!/bin/sh
# relay.sh <sender> <recipient>: what Postfix runs to send the mail on standard input. For msmtp's own
# file, see ../msmtp.
set -eu
uid=$(id -u)
# Postfix sets neither of these.
HOME=$(getent passwd "$uid" | cut -d: -f6)
XDG_RUNTIME_DIR=/run/user/$uid
export HOME XDG_RUNTIME_DIR

# Status 75 makes Postfix try again later; others make it give the mail up. Messages go to Postfix's
# log, which should have no sign-in address (-u).
pizauth show -u -w 30s work >/dev/null || exit 75
status=0
msmtp --from="$1" -- "$2" || status=$?
case $status in
# Done, or the server doesn't want this mail or this recipient.
0 | 65) exit $status ;;
# No network, no sign-in, a file that isn't right: temporary.
*) exit 75 ;;
esac
