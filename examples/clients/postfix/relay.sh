#!/bin/sh
# relay.sh <sender> <recipient>: what Postfix runs to send the mail on standard input. What msmtp
# needs, its file in ../msmtp says.
set -eu
uid=$(id -u)
# Postfix tells nobody where they are.
HOME=$(getent passwd "$uid" | cut -d: -f6)
XDG_RUNTIME_DIR=/run/user/$uid
export HOME XDG_RUNTIME_DIR

# Status 75 makes Postfix try again later; others make it give the mail up. What is said goes to
# Postfix's log, where an address to sign in at (-u) has no business.
pizauth show -u -w 30s work >/dev/null || exit 75
status=0
msmtp --from="$1" -- "$2" || status=$?
case $status in
# Done, or the server doesn't want this mail or this recipient.
0 | 65) exit $status ;;
# No network, no sign-in, a file that isn't right: that will pass.
*) exit 75 ;;
esac
