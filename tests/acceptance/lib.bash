# shellcheck shell=bash
# What every journey starts with: a home of its own, and words for what one does there.
# The runner has started two providers, "here" and "there": an authorization server with a mail
# server that trusts it. Whoever is named at an authorization server has a mailbox beside it.
set -euo pipefail

tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=$tests/../examples
# The providers' addresses and ports.
# shellcheck source=/dev/null
. "$WORLD/providers"

# A login for this journey alone, with a mailbox at each provider.
me=${JOURNEY,,}@example.com

unset DISPLAY WAYLAND_DISPLAY MAIL EMAIL PIZAUTH_SOCK PIZAUTH_ACCOUNT CURL_CA_BUNDLE SSL_CERT_DIR
HOME=$WORLD/journeys/$JOURNEY/home
mkdir -p "$HOME/.config"
# A socket's path has little room.
XDG_RUNTIME_DIR=$(mktemp -d "$WORLD/run.XXXXXX")
export HOME XDG_RUNTIME_DIR XDG_CONFIG_HOME=$HOME/.config XDG_STATE_HOME=$HOME/.local/state
# Where most programs, pizauth among them, look for authorities to trust.
export SSL_CERT_FILE=$WORLD/ca.pem
export SHELL=/bin/sh TERM=xterm LC_ALL=C.UTF-8
cd "$HOME"

die() {
    printf '%s: %s\n' "$JOURNEY" "$*" >&2
    [ ! -e pizauth.log ] || sed 's/^/pizauth: /' pizauth.log >&2
    exit 1
}

say() {
    printf '== %s\n' "$*"
}

# Leaves out a journey whose programs aren't there; never in CI.
left_out=''
needs() {
    local program
    for program; do
        if ! command -v "$program" >/dev/null; then
            [ -z "${CI:-}" ] || die "no $program here"
            echo "no $program here"
            left_out=yes
            exit 77
        fi
    done
}

# The same for a program that CI can't be expected to have.
if_there() {
    CI='' needs "$@"
}

# Waits until a command succeeds, for so many seconds at most.
await() {
    # A busy machine may take three times as long.
    local end=$((SECONDS + 3 * $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || {
            [ "$1" != screen_shows ] || grep . screen
            die "this did not happen in time: $*"
        }
        sleep 0.1
    done
}

# Succeeds if a command fails.
fails() {
    ! "$@"
}

# expect_status 77 command...: it ends with that status, and says nothing on stdout.
expect_status() {
    local expected=$1 status=0
    shift
    "$@" >stdout 2>stderr || status=$?
    [ "$status" -eq "$expected" ] || die "$*: exit status $status instead of $expected: $(cat stderr)"
    [ ! -s stdout ] || die "$*: prints something"
}

# says "a pattern" file: a line of it matches.
says() {
    grep -q -e "$1" "$2" || die "$2 doesn't say '$1' but: $(tail -n 20 "$2")"
}

# The same of a file that others write, when they get to it.
comes_to_say() {
    await 10 grep -q -e "$1" "$2"
}

# The value of a provider's part, as in: at here imaps.
at() {
    local name=$1_$2
    printf '%s' "${!name}"
}

# An account's block: account <name> <provider> [<more options>].
account() {
    cat <<END
account "$1" {
    auth_uri = "$(at "$2" issuer)/auth";
    token_uri = "$(at "$2" issuer)/token";
    client_id = "pizauth";
    scopes = ["openid", "offline_access"];
    auth_uri_fields = { "prompt": "consent" };
    ${3:-}
}
END
}

# Hooks that write down what the user is told, where the daemon was started: the address to open, for
# each account, and a line for each time.
hooks() {
    cat <<'END'
auth_notify_cmd = "a=$PIZAUTH_ACCOUNT; echo \"$PIZAUTH_URL\" >new-$a && mv new-$a url-$a && echo $a >>asked";
error_notify_cmd = "echo \"$PIZAUTH_ACCOUNT: $PIZAUTH_MSG\" >>errors";
token_event_cmd = "echo \"$PIZAUTH_ACCOUNT $PIZAUTH_EVENT\" >>events";
END
}

# The configuration is what stands on stdin.
configure() {
    cat >"$XDG_CONFIG_HOME/pizauth.conf"
    # An empty answer is the answer of a good file.
    pizauth check || die 'the configuration is not good'
}

# Starts the daemon, in the foreground for its log's sake, and waits until it answers.
daemon=''
start_pizauth() {
    pizauth server -dv >>pizauth.log 2>&1 &
    # shellcheck disable=SC2034
    daemon=$!
    await 20 pizauth status
}

# What is started in the background, to be ended with the journey.
helpers=()

leave() {
    local status=$?
    trap - EXIT
    # So end pizauth, msmtp and mpop, too, when they fail.
    [ "$status" -ne 77 ] || [ -n "$left_out" ] || status=1
    pizauth shutdown >/dev/null 2>&1 || :
    [ ! -S "$XDG_RUNTIME_DIR/tmux" ] || end_terminal 2>/dev/null || :
    for pid in ${helpers[@]+"${helpers[@]}"}; do
        kill "$pid" 2>/dev/null || :
    done
    wait
    exit "$status"
}
trap leave EXIT
trap 'exit 143' TERM INT HUP

# Somebody in front of a browser: browse <login> <address> [<option>...]. The page is in the file page.
browse() {
    local login=$1 address=$2
    shift 2
    timeout 90 node "$WORLD/op/browser.mjs" "$@" "$login" "$address" >page || die "the browser failed"
}

# The address that the user was told to open for an account, when the hook has told it.
url_of() {
    await 10 test -e "url-$1"
    cat "url-$1"
}

# Does what a user does who is told to sign in: opens the address and follows it to the end.
sign_in() {
    local account=$1 login=$2
    pizauth show -u "$account" >/dev/null 2>&1 || :
    browse "$login" "$(url_of "$account")"
    says "Account .$account. is authorised" page
    rm "url-$account"
}

# Registers a client that signs, with the members $2, and prints its id: its public key is that of the file
# $1.pem, to sign by $1. The issuer is $3, or else that of the world.
register_signer() {
    openssl pkey -in "$1.pem" -pubout -out public.pem
    node - "$1" >registration.json <<END
const [alg] = process.argv.slice(2);
const key = require('node:crypto').createPublicKey(require('node:fs').readFileSync('public.pem'));
console.log(JSON.stringify({
    $2,
    token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: alg,
    jwks: { keys: [{ ...key.export({ format: 'jwk' }), use: 'sig', alg }] },
}));
END
    curl --silent --show-error --fail --cacert "$WORLD/ca.pem" --json @registration.json \
        "${3:-$(at here issuer)}/reg" | sed -n 's/.*"client_id":"\([^"]*\)".*/\1/p'
}

# What a file of examples/clients says to run first: the home is empty but for ~/.config.
from_nothing() {
    sh -c "$(sed -n 's/^[#;]*   \(\(mkdir\|touch\|chmod\) .*\)/\1/p' "$examples/clients/$1")"
}

# A file of examples/clients as it is published, but for the names of account, user, servers and
# pizauth's own path.
example() {
    from_nothing "$1"
    fill "${2:-here}" "${3:-$me}" <"$examples/clients/$1"
}

# The same with what stands on stdin: fill <provider> [<user>].
fill() {
    local provider=$1 user=${2:-$me}
    sed -e "s/you@example\.com/$user/g; s/you%40example\.com/${user/@/%40}/g" \
        -e "s#\(imaps://imap\.example\.com\)\([\"' ]\|\$\)#\1:993\2#" \
        -e "s#\(pop3s://pop\.example\.com\)\([\"' ]\|\$\)#\1:995\2#; s#/usr/local/bin/pizauth#$(type -P pizauth)#" \
        -e "s/\b\(1110\|1143\|1587\|1667\)\b/${local_port:-}/g" \
        -e 's/\(imap\|pop\|smtp\)\.example\.com/localhost/g' \
        -e "s#/run/user/1000#$XDG_RUNTIME_DIR#g; s/irc\.example\.com/localhost/g; s/\b6697\b/${irc:-}/g" \
        -e "s/\(username\) you$/\1 ${JOURNEY,,}/" \
        -e "s/\b993\b/$(at "$provider" imaps)/g; s/\b995\b/$(at "$provider" pop3s)/g" \
        -e "s/\b587\b/$(at "$provider" submission)/g; s/\b465\b/$(at "$provider" smtps)/g"
}

# What an example says to put into pizauth.conf: proxy_of <example> [<provider>]. The port of its
# proxy, if it has one, is then $local_port.
proxy_of() {
    sed -n '/^#   proxy "/,/^#   }/s/^#   //p' "$examples/clients/$1" | fill "${2:-here}"
}

# The command that examples get a proxy's own password by.
own_password='a-local-password'
own_password_command() {
    mkdir bin
    printf '#!/bin/sh\n[ "$*" = "show pizauth-proxy" ] && echo %s\n' "$own_password" >bin/pass
    chmod +x bin/pass
    PATH=$PWD/bin:$PATH
}

# Starts an IRC bouncer whose users are those of the provider here; its port is then $irc.
bouncer() {
    local issuer
    irc=$(free_port) issuer=$(at here issuer)
    mkdir bouncer
    cat >bouncer/config <<END
listen ircs://127.0.0.1:$irc
tls $WORLD/cert.pem $WORLD/key.pem
hostname localhost
db sqlite3 $PWD/bouncer/db
message-store memory
auth oauth2 https://soju:soju@${issuer#https://}
enable-user-on-auth true
END
    start_bouncer
}

start_bouncer() {
    soju -config bouncer/config >bouncer/log 2>&1 &
    # shellcheck disable=SC2034
    bouncer_pid=$!
    helpers+=($!)
    comes_to_say 'server listening' bouncer/log
}

# Puts a mail with that subject into a mailbox: deliver <provider> <subject> [<user>].
deliver() {
    printf 'From: A friend <friend@example.com>\nTo: %s\nSubject: %s\nMessage-ID: <%s.%s@example.com>\n\nHello.\n' \
        "${3:-$me}" "$2" "$RANDOM$RANDOM" "$RANDOM$RANDOM" |
        curl --silent --show-error --crlf --upload-file - --mail-from friend@example.com \
            --mail-rcpt "${3:-$me}" "smtp://127.0.0.1:$(at "$1" sink)"
}

# A mail to write, on stdout: letter <subject>.
letter() {
    printf 'From: %s\nTo: %s\nSubject: %s\n\nHello.\n' "$me" "$me" "$1"
}

# Has getmail fetch mail, and not say a word.
quiet_getmail() {
    for _ in 1 2 3; do
        # On a busy machine it may miss the end of a process of its own.
        getmail --quiet >log 2>&1 || :
        grep -q 'waiting child' log || break
    done
    [ ! -s log ] || die "getmail says: $(cat log)"
}

# Whether a mail with that subject is anywhere below a directory.
has_mail() {
    grep -rqx -e "Subject: $2" "$1"
}

# Whether the mailbox at a provider has a mail with that subject: arrived <provider> <subject>.
arrived() {
    has_mail "$WORLD/$1/mail/$me" "$2"
}

# Whether a file has more lines than that: more_lines <file> <count>.
more_lines() {
    [ -e "$1" ] && [ "$(wc -l <"$1")" -gt "$2" ]
}

# The last secret of a kind that a provider has issued to this journey's login.
last_issued() {
    sed -n "s/.*\"what\":\"issued\",\"name\":\"$2\",\"secret\":\"\([^\"]*\)\",\"account\":\"$me\".*/\1/p" \
        "$WORLD/$1/op.log" | tail -n 1
}

# Whether a provider takes a token: alive <provider> <token>. Asked as its mail server asks.
alive() {
    printf 'token=%s' "$2" | curl --silent --show-error --cacert "$WORLD/ca.pem" \
        --user dovecot:dovecot --data @- "$(at "$1" issuer)/token/introspection" | grep -q '"active":true'
}

# Directories besides the home whose files must have no secret in them.
look_into=()

# Each secret that a provider was shown is one that it issued; and none of them is in a log.
no_secret_astray() {
    node "$tests/astray.mjs" "$WORLD" "$HOME" "$HOME/.." ${look_into[@]+"${look_into[@]}"} || die 'a secret went astray'
}

# A program in a terminal of its own: terminal <command>.
terminal() {
    tmux -S "$XDG_RUNTIME_DIR/tmux" -f /dev/null new-session -d -x 120 -y 40 "$1 2>terminal.err"
}

# Keys for it, as tmux calls them.
type_in() {
    tmux -S "$XDG_RUNTIME_DIR/tmux" send-keys "$@"
}

screen_shows() {
    tmux -S "$XDG_RUNTIME_DIR/tmux" capture-pane -p >screen && grep -q -e "$1" screen
}

end_terminal() {
    tmux -S "$XDG_RUNTIME_DIR/tmux" kill-server
}

# A port that nobody listens on, below those that the system hands out by itself.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
