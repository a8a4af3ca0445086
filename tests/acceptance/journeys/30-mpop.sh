#!/usr/bin/env bash
# mpop fetches by POP3, with XOAUTH2 and with OAUTHBEARER
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mpop

{ hooks; account work here; } | configure
start_pizauth
{ echo defaults; echo "tls_trust_file $SSL_CERT_FILE"; example mpop/mpoprc; } >.mpoprc
deliver here 'a mail for mpop'

say 'without a token: an error, and nothing else'
fails mpop --quiet 2>log || die 'mpop succeeds without a token'
says 'authorised with URL' log

say 'XOAUTH2'
sign_in work "$me"
mpop --quiet
has_mail Maildir 'a mail for mpop' || die 'it was not fetched'

say 'OAUTHBEARER'
deliver here 'another for mpop'
sed -i 's/^auth xoauth2$/auth oauthbearer/' .mpoprc
mpop --quiet
has_mail Maildir 'another for mpop' || die 'it was not fetched'
comes_to_say "user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"
comes_to_say "user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
