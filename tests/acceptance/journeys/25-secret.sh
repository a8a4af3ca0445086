#!/usr/bin/env bash
# a client with a secret that only a command knows, sent in a header
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

printf 'a secret: 100%% of it, "quoted"\n' >secret
{
    hooks
    account work here 'client_secret_cmd = "cat secret"; client_auth = basic;' |
        sed 's/"pizauth"/"pizauth-with-secret"/'
} | configure
start_pizauth
sign_in work "$me"
first=$(pizauth show work)
alive here "$first" || die 'that is no token'
await 60 fails alive here "$first"
alive here "$(pizauth show -w 20s work)" || die 'it was not refreshed'
no_secret_astray
