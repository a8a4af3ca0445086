#!/usr/bin/env bash
# the first mail: sign in in Chromium, mbsync fetches, msmtp sends, and both after the token's life
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync msmtp

{ hooks; account work here; } | configure
start_pizauth
example mbsync/mbsyncrc >.mbsyncrc
{ echo "defaults"; echo "tls_trust_file $SSL_CERT_FILE"; example msmtp/msmtprc; } >.msmtprc
chmod 600 .msmtprc
deliver here 'your first mail'

say 'before the sign-in: no mail, no token, and the user is asked, once'
fails mbsync --all || die 'mbsync succeeds without a token'
fails mbsync --all || die 'mbsync succeeds without a token'
await 10 test -s asked
[ "$(wc -l <asked)" -eq 1 ] || die "asked $(wc -l <asked) times"
expect_status 77 pizauth show work

say 'the sign-in, and the first mail'
sign_in work "$me"
mbsync --all
has_mail Maildir 'your first mail' || die 'mbsync did not fetch it'
letter 'your first answer' | msmtp --read-recipients
await 10 arrived here 'your first answer'

say 'again, when the first token is dead'
first=$(pizauth show work)
alive here "$first" || die 'the token is dead from the start'
await 60 fails alive here "$first"
[ "$(pizauth show work)" != "$first" ] || die 'a dead token is shown'
deliver here 'your second mail'
mbsync --all
has_mail Maildir 'your second mail' || die 'mbsync did not fetch it'
letter 'your second answer' | msmtp --read-recipients
await 10 arrived here 'your second answer'
comes_to_say '^work token_new$' events
comes_to_say '^work token_refreshed$' events
no_secret_astray
