#!/usr/bin/env bash
# fetchmail, which knows no OAuth2, fetches through a tunnel
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs fetchmail

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
{ echo 'set no bouncemail'; example fetchmail/fetchmailrc-tunnel; } >.fetchmailrc
deliver here 'a mail for fetchmail'
fetch() {
    timeout 60 fetchmail --mda 'cat >>mail' >log 2>&1
}

say 'without a token: the reason'
fails fetch || die 'fetchmail succeeds without a token'
says 'authorised with URL' log

say 'with one: the mail'
sign_in work "$me"
fetch || die "fetchmail fails: $(cat log)"
has_mail mail 'a mail for fetchmail' || die 'it was not fetched'

say 'POP3'
deliver here 'another for fetchmail'
sed -i "s|protocol imap|protocol pop3|; s|imaps://localhost:[0-9]*|pop3s://localhost:$(at here pop3s)|" .fetchmailrc
fetch || die "fetchmail fails: $(cat log)"
has_mail mail 'another for fetchmail' || die 'it was not fetched'
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
comes_to_say "pop3-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
