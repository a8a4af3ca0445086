#!/usr/bin/env bash
# pizauth test signs in at Dovecot by every scheme, and says why it can't
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{ hooks; account work here; } | configure
start_pizauth
servers=(
    "imaps://localhost:$(at here imaps)" "pop3s://localhost:$(at here pop3s)"
    "smtp://localhost:$(at here submission)" "smtps://localhost:$(at here smtps)"
)

say 'without a token'
expect_status 77 pizauth test --user "$me" work "${servers[@]}"

say 'with one'
sign_in work "$me"
pizauth test -v --user "$me" work "${servers[@]}" >log
for server in "${servers[@]}"; do
    says "^$server: signed in as $me with OAUTHBEARER" log
done

say 'somebody else'
! pizauth test --user other@example.com work "${servers[0]}" >log 2>&1 || die 'it signs in as somebody else'
says 'refused the token' log
says 'hint: was it .other@example.com. who signed in' log
no_secret_astray
