#!/usr/bin/env bash
# msmtp sends, with OAUTHBEARER too, and sends nothing without a token
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs msmtp

{ hooks; account work here; } | configure
start_pizauth
{ echo defaults; echo "tls_trust_file $SSL_CERT_FILE"; example msmtp/msmtprc; } >.msmtprc

say 'without a token: an error that says what to do'
! letter 'too early' | msmtp --read-recipients 2>log || die 'msmtp succeeds without a token'
says 'authorised with URL' log

say 'XOAUTH2; the account is found by the sender'
sign_in work "$me"
letter 'by XOAUTH2' | msmtp --read-recipients --read-envelope-from
await 10 arrived here 'by XOAUTH2'

say 'OAUTHBEARER'
sed -i 's/^auth xoauth2$/auth oauthbearer/' .msmtprc
letter 'by OAUTHBEARER' | msmtp --read-recipients
await 10 arrived here 'by OAUTHBEARER'
comes_to_say "user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"

say 'TLS from the start, on the other port'
sed -i "s/^port .*/port $(at here smtps)/; s/^tls_starttls on/tls_starttls off/" .msmtprc
letter 'by smtps' | msmtp --read-recipients
await 10 arrived here 'by smtps'
fails arrived here 'too early' || die 'a mail was sent without a token'
no_secret_astray
