#!/bin/sh
# transient_error_if_cmd: success means "the network is at fault, try again",
# failure means "the token is at fault, sign in anew".
#
# Think twice: without such a command pizauth always tries again, and only
# asks for a sign-in when the provider says so. With it, if the provider has a
# problem for an hour, you have to sign in again.
set -eu
if command -v nm-online >/dev/null 2>&1; then
    # NetworkManager knows; -x: say what is, don't wait for it.
    online() { nm-online -q -x; }
else
    # A host that nearly always answers. Take one that suits you.
    online() { ping -c 3 "${PING_HOST:-one.one.one.one}" >/dev/null 2>&1; }
fi
! online
