#!/usr/bin/env bash
# mbsync synchronises through a tunnel, without any plugin of Cyrus SASL
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync
# Nowhere is a plugin but where this points.
mkdir no-plugins
export SASL_PATH=$PWD/no-plugins

{ hooks; account work here; } |
    sed "s/\"prompt\"/\"login_hint\": \"$me\", &/" | configure
start_pizauth
example mbsync/mbsyncrc-tunnel >.mbsyncrc
deliver here 'a mail for mbsync'

say 'without a token: the reason'
fails timeout 60 mbsync work >log 2>&1 || die 'mbsync succeeds without a token'
says 'authorised with URL' log

say 'with one: the mail'
sign_in work "$me"
timeout 60 mbsync work >log 2>&1 || die "mbsync fails: $(cat log)"
has_mail Maildir 'a mail for mbsync' || die 'it was not fetched'

say 'another mail, while the token is refreshed'
deliver here 'another for mbsync'
pizauth refresh work
timeout 60 mbsync work
has_mail Maildir 'another for mbsync' || die 'it was not fetched'
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
