#!/usr/bin/env bash
# msmtp, swaks, s-nail and a printer send through proxies, with TLS and without
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs msmtp swaks s-nail
own_password_command

# The printer's block, as it is published but for its address, with further changes: printer_block
# <port> [<sed script>].
printer_block() {
    fill here <"$examples/clients/printer/pizauth.conf" |
        sed -e "s/\"192\.0\.2\.1:[0-9]*\"/\"127.0.0.1:$1\"/" \
            -e "s|~/proxy\.pem|$WORLD/cert.pem|; s|~/proxy\.key|$WORLD/key.pem|" -e "${2:-}"
}
starttls=$(free_port) implicit=$(free_port) clear=$(free_port)
{
    hooks
    account work here
    proxy_of msmtp/msmtprc-proxy
    local_port=1587
    printer_block "$starttls"
    printer_block "$implicit" 's/= starttls/= implicit/'
    printer_block "$clear" '/allow_network\|certificate\|key\|tls/d'
} | configure
start_pizauth
{ echo defaults; echo "tls_trust_file $SSL_CERT_FILE"; example msmtp/msmtprc-proxy; } >.msmtprc
cat >>.msmtprc <<END

account at-port : work
socket
host localhost
tls on
passwordeval "pass show pizauth-proxy"
END
at_port() {
    msmtp --read-recipients --account=at-port --port="$1" --tls-starttls="$2"
}

say 'without a token: the reason'
! letter 'too early' | msmtp --read-recipients 2>log || die 'msmtp succeeds without a token'
says 'authorised with URL\|Access token unavailable' log
sign_in work "$me"

say 'msmtp, at the path of a socket, and at ports with STARTTLS and TLS'
letter 'by a path' | msmtp --read-recipients || die 'msmtp fails'
await 10 arrived here 'by a path'
letter 'by STARTTLS' | at_port "$starttls" on || die 'msmtp fails with STARTTLS'
await 10 arrived here 'by STARTTLS'
letter 'by TLS' | at_port "$implicit" off || die 'msmtp fails with TLS'
await 10 arrived here 'by TLS'

say 'swaks, by AUTH LOGIN behind STARTTLS'
swak() {
    timeout 60 swaks --server 127.0.0.1 --port "$starttls" --tls --auth LOGIN --auth-user me --auth-password "$1" \
        --from "$me" --to "$me" --header 'Subject: by swaks'
}
swak "$own_password" >log 2>&1 || die "swaks fails: $(cat log)"
await 10 arrived here 'by swaks'
fails swak wrong >log 2>&1 || die 'a wrong password will do'
says '535' log

say 's-nail, without TLS, to two'
echo 'Hello.' | timeout 60 s-nail -:/ -S v15-compat -S smtp-auth=plain -S "from=$me" \
    -S "mta=smtp://me:$own_password@127.0.0.1:$clear" -s 'by s-nail' "$me" "other-$me" || die 's-nail fails'
await 10 arrived here 'by s-nail'

say 'printers, which begin with HELO, EHLO or nothing, and then with AUTH LOGIN in lower case'
answer() {
    local line=-
    while [[ ${line:3:1} != ' ' ]]; do
        IFS= read -r -t 60 line <&5 || die "no answer $1"
    done
    [[ $line == "$1"* ]] || die "not $1 but: $line"
}
tell() {
    printf '%s\r\n' "$2" >&5
    answer "$1"
}
for greeting in '' 'HELO printer' 'EHLO [192.0.2.7]'; do
    exec 5<>"/dev/tcp/127.0.0.1/$clear"
    answer 220
    [ -z "$greeting" ] || tell 250 "$greeting"
    tell '334 VXNlcm5hbWU6' 'auth login'
    tell '334 UGFzc3dvcmQ6' "$(printf 'printer' | base64)"
    tell 235 "$(printf '%s' "$own_password" | base64)"
    tell 250 "mail from:<$me>"
    tell 250 "rcpt to:<$me>"
    tell 354 data
    printf 'Subject: scanned after %s.\r\n\r\nA page.\r\n' "${greeting%% *}" >&5
    tell 250 .
    tell 221 quit
    exec 5>&-
    await 10 arrived here "scanned after ${greeting%% *}."
done
fails arrived here 'too early' || die 'a mail was sent without a token'
comes_to_say "submission-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
