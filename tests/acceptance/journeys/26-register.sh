#!/usr/bin/env bash
# from nothing but the provider's address: register prints the account, and it works
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{ hooks; pizauth register --name work --scope openid --scope offline_access "$(at here issuer)"; } | configure
start_pizauth
sign_in work "$me"
first=$(pizauth show work)
alive here "$first" || die 'that is no token'
await 60 fails alive here "$first"
alive here "$(pizauth show -w 20s work)" || die 'it was not refreshed'

say 'a provider that registers nobody'
expect_status 1 pizauth register "$(at here issuer)/other"
no_secret_astray
