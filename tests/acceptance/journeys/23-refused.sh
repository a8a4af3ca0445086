#!/usr/bin/env bash
# consent is refused in the browser: the page, the error and status say so, and a new try works
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{ hooks; account work here; } | configure
start_pizauth
expect_status 77 pizauth show work
browse "$me" "$(url_of work)" --deny
says 'Account .work. was not authorised' page
await 10 test -s errors
says 'access_denied' errors
pizauth status >log
says 'access_denied' log
rm url-work
sign_in work "$me"
alive here "$(pizauth show work)" || die 'that is no token'
no_secret_astray
