#!/usr/bin/env bash
# Postfix relays, through msmtp; without a token, mail waits in its queue
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs postfix msmtp
[ -e "$WORLD/postfix" ] || { echo 'no root here, as Postfix wants it'; exit 77; }

{ hooks; account work here; } | configure
start_pizauth
{ echo defaults; echo "tls_trust_file $SSL_CERT_FILE"; example msmtp/msmtprc; } >.msmtprc

say 'a Postfix of its own'
# This journey is no login's, and has a program and an authority of its own.
example postfix/relay.sh |
    sed "s|^HOME=.*|HOME=$HOME PATH=$PATH|; s|^XDG_RUNTIME_DIR=.*|XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR|" >relay.sh
chmod 755 relay.sh
port=$(free_port)
mkdir mta
{
    sed "s/@PORT@/$port/" "$tests/mail/master.cf"
    example postfix/master.cf | sed "s|user=you|user=$(id -un)|; s|argv=[^ ]*|argv=$HOME/relay.sh|"
} >mta/master.cf
{
    example postfix/main.cf
    cat <<'END'
compatibility_level = 3.6
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
# An ordinary Postfix waits for minutes.
minimal_backoff_time = 2s
maximal_backoff_time = 2s
queue_run_delay = 2s
END
} >mta/main.cf
echo "$HOME/mta" >"$WORLD/postfix"

# Gives Postfix a mail: give <subject> [<recipient>].
give() {
    letter "$1" | curl --silent --show-error --crlf --upload-file - --mail-from "$me" \
        --mail-rcpt "${2:-$me}" "smtp://127.0.0.1:$port"
}

await 20 test -s mta/maillog
await 20 give 'before the sign-in'

say 'without a token, mail waits'
await 60 grep -q 'status=deferred' mta/maillog
fails arrived here 'before the sign-in' 2>/dev/null || die 'it was sent without a token'

say 'with one, it goes'
sign_in work "$me"
await 60 arrived here 'before the sign-in'
comes_to_say "user=<$me>, method=XOAUTH2" "$WORLD/here/dovecot.log"

say 'and after its end, with the next one'
first=$(pizauth show work)
await 60 fails alive here "$first"
give 'after the refresh'
await 30 arrived here 'after the refresh'

say 'what the server does not want yet, it gets later'
give 'not yet' "later.$me"
await 30 has_mail "$WORLD/here/mail/later.$me" 'not yet'
fails grep 'status=bounced' mta/maillog || die 'a mail was given up'

say 'whom the server does not know, the sender hears of'
give 'to nobody' 'no!body@example.com'
await 30 grep -q 'status=bounced' mta/maillog
fails grep 'state=' mta/maillog || die 'the log has an address to sign in at'
look_into+=("$HOME/mta")
no_secret_astray
