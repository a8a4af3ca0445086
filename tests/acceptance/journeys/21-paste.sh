#!/usr/bin/env bash
# the browser is elsewhere: its address is pasted; wrong ones are refused, and cost nothing
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{
    hooks
    account work here
    account phone here 'redirect_uri = "org.example.pizauth:/callback";'
} | configure
start_pizauth

# Signs in where no redirect can come back from, and prints the address that the browser is left at.
browser_elsewhere() {
    browse "$me" "$(url_of "$1")" --elsewhere
    cat page
    rm page
}

expect_status 77 pizauth show work

say 'the page that fails to load'
address=$(browser_elsewhere work)
case $address in
http://localhost:*code=*state=*iss=*) ;;
*) die "the browser is at $address" ;;
esac

say 'wrong pastes'
# Each is refused in words, and leaves the sign-in as it is.
refuses() {
    ! printf '%s\n' "$1" | pizauth redirect >log 2>&1 || die "accepted: $1"
    says "$2" log
    expect_status 77 pizauth show work
}
refuses 'hello' 'address'
refuses "$(url_of work)" 'address'
refuses "${address%%\?*}" 'address\|code'
refuses "${address/state=/state=x}" 'address\|sign-in'
refuses "${address/iss=/iss=https%3A%2F%2Fevil.example%2F}" 'provider\|issuer'

say 'the right one'
printf '%s\n' "$address" | pizauth redirect >log 2>&1 || die "refused: $(cat log)"
alive here "$(pizauth show work)" || die 'that is no token'

say 'once more: that is no error, and the code goes nowhere'
printf '%s\n' "$address" | pizauth redirect >log 2>&1 || die "refused: $(cat log)"
says 'work: authorised' log
code=${address#*code=}
[ "$(grep -c "\"name\":\"code\",\"secret\":\"${code%%&*}\"" "$WORLD/here/op.log")" -eq 1 ] ||
    die 'the code was shown again'

say 'a private-use scheme, whose handler is pizauth redirect'
expect_status 77 pizauth show phone
pizauth redirect "$(browser_elsewhere phone)" >log 2>&1 || die "refused: $(cat log)"
alive here "$(pizauth show phone)" || die 'that is no token'
no_secret_astray
