#!/usr/bin/env bash
# a code for another device: entered, refused, and expired
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

# An account that has nothing but the code.
code_only() {
    cat <<END
account "$1" {
    device_auth_uri = "$(at here issuer)/device/auth";
    token_uri = "$(at here issuer)/token";
    client_id = "pizauth";
    scopes = ["openid", "offline_access"];
}
END
}
{
    hooks
    account work here "device_auth_uri = \"$(at here issuer)/device/auth\";"
    code_only code
    code_only denied
    code_only late
} | configure
start_pizauth

# Starts a sign-in in the background; what it says is in the file auth-<account>.
auth() {
    pizauth auth "$1" >"auth-$1" 2>&1 &
    auth=$!
    await 10 grep -q 'user_code\|[A-Z]\{4\}-[A-Z]\{4\}' "auth-$1"
    code=$(grep -o '[A-Z]\{4\}-[A-Z]\{4\}' "auth-$1" | head -n 1)
}

say 'a code that nobody enters'
auth late
late=$auth

say 'the code, where an address would do, too'
auth work
browse "$me" "$(at here issuer)/device" --code "$code"
says 'Sign-in Success' page
wait "$auth" || die "auth fails: $(cat auth-work)"
alive here "$(pizauth show work)" || die 'that is no token'

say 'the code alone, by the address that contains it'
auth code
browse "$me" "$(url_of code)"
says 'Sign-in Success' page
wait "$auth" || die "auth fails: $(cat auth-code)"
alive here "$(pizauth show code)" || die 'that is no token'

say 'refused'
auth denied
browse "$me" "$(url_of denied)" --deny
status=0
wait "$auth" || status=$?
[ "$status" -eq 77 ] || die "auth ends with $status: $(cat auth-denied)"
says 'the person who entered the code refused (access_denied' auth-denied

say 'expired'
status=0
wait "$late" || status=$?
[ "$status" -eq 77 ] || die "auth ends with $status: $(cat auth-late)"
says 'expired' auth-late
no_secret_astray
