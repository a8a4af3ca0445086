#!/usr/bin/env bash
# getmail, mpop and curl fetch through proxies, to which they give a password or nothing that counts
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs getmail mpop socat
own_password_command
# What asks for tokens goes through here, so that it can fail. Whoever connects to the port while the
# front is stopped gets no answer; when it is gone, they are refused.
front=$(free_port)
start_front() {
    socat "TCP-LISTEN:$front,reuseaddr,fork" "TCP:127.0.0.1:${issuer##*:}" &
    front_pid=$!
    helpers+=("$front_pid")
    await 10 curl --silent --output gone --cacert "$SSL_CERT_FILE" "https://127.0.0.1:$front/"
}
issuer=$(at here issuer)
start_front

local_port=$(free_port)
{
    hooks
    account work here | sed "s|\(token_uri = \"https://127.0.0.1:\)[0-9]*|\1$front|"
    proxy_of getmail/getmailrc-proxy
    proxy_of mpop/mpoprc-proxy
    printf 'proxy "%s/imap" { account = "work"; server = "imaps://localhost:%s"; }\n' "$XDG_RUNTIME_DIR" "$(at here imaps)"
} | configure
start_pizauth
from_nothing getmail/getmailrc-proxy
example getmail/getmailrc-proxy | sed 's/^\[retriever\]/&\ntimeout = 60/' >.config/getmail/getmailrc
example mpop/mpoprc-proxy >.mpoprc
deliver here 'a mail for the first'

say 'without a token: the reason'
# Its exit status doesn't tell.
getmail --quiet >log 2>&1 || :
says 'authorised with URL\|Access token unavailable' log
fails mpop --quiet 2>log || die 'mpop succeeds without a token'
says 'authorised with URL\|Access token unavailable' log

say 'getmail, and not a word'
sign_in work "$me"
quiet_getmail
has_mail Maildir 'a mail for the first' || die 'it was not fetched'

say 'mpop, at the path of a socket, by USER and by AUTH'
deliver here 'a mail for mpop'
mpop --quiet || die 'mpop fails'
has_mail Maildir 'a mail for mpop' || die 'it was not fetched'
for auth in plain login; do
    deliver here "a mail by $auth"
    mpop --quiet --auth=$auth || die "mpop fails with $auth"
    has_mail Maildir "a mail by $auth" || die 'it was not fetched'
done

say 'curl, by each way to sign in, and with a wrong password'
read_by() {
    timeout 120 curl --silent --show-error --user "$me:${2-$own_password}" \
        --login-options "AUTH=$1" "imap://127.0.0.1:$local_port/INBOX;MAILINDEX=1"
}
for way in PLAIN LOGIN; do
    read_by "$way" >mail || die "curl fails with $way"
    says '^Subject: a mail for the first' mail
done
expect_status 67 read_by PLAIN 'a wrong one'
curl --silent --show-error --unix-socket "$XDG_RUNTIME_DIR/imap" --user "$me:any" \
    'imap://localhost/INBOX;MAILINDEX=1' >mail
says '^Subject: a mail for the first' mail

say 'an outage: a session that runs goes on'
coproc IDLER { exec socat - "UNIX-CONNECT:$XDG_RUNTIME_DIR/imap" 2>idler; }
# shellcheck disable=SC2154
exec 5>&"${IDLER[1]}" 6<&"${IDLER[0]}"
heard() {
    local line
    while IFS= read -r -t 60 line <&6; do
        [[ $line != $1* ]] || return 0
    done
    die "no '$1' from the session that runs"
}
printf 'a LOGIN "%s" any\r\nb SELECT INBOX\r\nc IDLE\r\n' "$me" >&5
heard +
kill "$front_pid"
await 60 fails pizauth show -u work
deliver here 'a mail in the outage'
heard '* '

say 'the next is told why'
expect_status 67 read_by PLAIN
timeout 60 curl --silent --verbose --user "$me:$own_password" "imap://127.0.0.1:$local_port/" >log 2>&1 || :
says 'NO \[UNAVAILABLE\] .*onnection refused' log

say 'or waits for the token that is on its way'
start_front
kill -STOP "$front_pid"
pizauth refresh work || :
read_by PLAIN >mail 2>log &
reader=$!
sleep 1
kill -0 "$reader" || die "it didn't wait: $(cat log)"
kill -CONT "$front_pid"
wait "$reader" || die "curl fails: $(cat log)"
says '^Subject: a mail for the first' mail
printf 'DONE\r\nd LOGOUT\r\n' >&5
heard '* BYE'
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
comes_to_say "pop3-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
