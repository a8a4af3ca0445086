#!/usr/bin/env bash
# mbsync, fetchmail, fdm, mutt and neomutt read with tokens of 5,000 bytes, by tunnels and by a proxy
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync fetchmail fdm mutt neomutt tmux
# Nowhere is a plugin but where this points.
mkdir no-plugins
export SASL_PATH=$PWD/no-plugins
own_password_command

local_port=$(free_port)
{
    hooks
    account work here | sed "s/client_id = \"pizauth\"/client_id = \"pizauth-long\"/; s/\"prompt\"/\"login_hint\": \"$me\", &/"
    proxy_of getmail/getmailrc-proxy
} | configure
start_pizauth
sign_in work "$me"
[ "$(pizauth show work | wc -c)" -gt 5000 ] || die 'the token is not so long'
mkdir Maildir
# What fetches mails, which go below Maildir: fetched <program> <way> <command>.
fetched() {
    local subject="for $1 by $2"
    deliver here "$subject"
    timeout 60 "${@:3}" >log 2>&1 || die "$1 fails: $(cat log)"
    has_mail Maildir "$subject" || die "$1 has not fetched it: $(cat log)"
}
# The same of one that shows a mailbox: shown <program> <command>.
shown() {
    terminal "$2"
    await 30 screen_shows "$1"
    end_terminal
}

say mbsync
example mbsync/mbsyncrc-tunnel >tunnelled
sed "s|^Tunnel .*|Host 127.0.0.1\nPort $local_port\nSSLType None\nAuthMechs LOGIN\nUser me\nPassCmd \"pass show pizauth-proxy\"|" \
    tunnelled >proxied
for way in tunnelled proxied; do
    fetched mbsync "$way" mbsync --config "$way" work
done

say fetchmail
touch .fetchmailrc .proxied
chmod 600 .fetchmailrc .proxied
{ echo 'set no bouncemail'; example fetchmail/fetchmailrc-tunnel; } >.fetchmailrc
fetched fetchmail tunnelled fetchmail --mda "cat >>$HOME/Maildir/fetchmail"
sed -e "/plugin/d; s/^poll .* protocol/poll 127.0.0.1 port $local_port protocol/" \
    -e "s/auth ssh user.*/auth password user \"me\" password \"$own_password\" sslproto ''/" .fetchmailrc >.proxied
fetched fetchmail proxied fetchmail --fetchmailrc .proxied --mda "cat >>$HOME/Maildir/fetchmail"

say fdm
# It takes the home directory from the system's list of users.
{ echo "set lock-file \"$HOME/.fdm.lock\""; example fdm/fdm.conf-tunnel | sed "s|%h|$HOME|"; } >.fdm.conf
fetched fdm tunnelled fdm -f .fdm.conf fetch
sed -i "s|imap pipe .*|imap server \"127.0.0.1\" port $local_port user \"me\" pass \"$own_password\"|" .fdm.conf
fetched fdm proxied fdm -f .fdm.conf fetch

for program in mutt neomutt; do
    say "$program"
    deliver here "for $program"
    example "$program/${program}rc-tunnel" >tunnelled
    shown "for $program" "$program -F tunnelled"
    cat >proxied <<END
set folder = "imap://me@127.0.0.1:$local_port/" imap_pass = "$own_password"
set spoolfile = "+INBOX" ssl_force_tls = no ssl_starttls = no
END
    shown "for $program" "$program -F proxied"
done
comes_to_say "imap-login: .*user=<$me>, method=OAUTHBEARER" "$WORLD/here/dovecot.log"
no_secret_astray
