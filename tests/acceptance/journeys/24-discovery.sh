#!/usr/bin/env bash
# nothing but issuer, client_id and scopes; and an issuer that doesn't answer
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{
    hooks
    cat <<END
account "work" {
    issuer = "$(at here issuer)";
    client_id = "pizauth";
    scopes = ["openid", "offline_access"];
}
account "dead" {
    issuer = "https://127.0.0.1:9";
    client_id = "pizauth";
}
account "other" {
    issuer = "$(at here issuer)/other";
    client_id = "pizauth";
}
END
} | configure
start_pizauth

say 'a sign-in, by the code and by the browser'
pizauth auth work >told 2>&1 &
await 20 grep -q '[A-Z]\{4\}-[A-Z]\{4\}' told
sign_in work "$me"
wait $! || die "auth fails: $(cat told)"
first=$(pizauth show work)
alive here "$first" || die 'that is no token'
pizauth status >log
says '^work: .*endpoints of https.*: browser, device code, revocation' log

say 'an issuer that is dead, and one that is nothing'
expect_status 75 pizauth show -w 5s dead
says 'no endpoints from https://127.0.0.1:9: .*refused' stderr
expect_status 75 pizauth show -w 5s other
says 'answered 404' stderr
says 'hint: .*issuer' stderr
# In between it says that it is asking again.
fails_for() { pizauth status >log && grep -q "^$1: .*$2" log; }
await 20 fails_for dead refused
await 20 fails_for other 404

say 'revoke tells the provider'
pizauth revoke work
fails alive here "$first" || die 'the token is still good'
no_secret_astray
