#!/bin/sh
# state_save_cmd = "~/.local/lib/pizauth/gpg.sh save";
# state_load_cmd = "~/.local/lib/pizauth/gpg.sh load";
#
# Keeps the tokens in a file that GnuPG has encrypted to your own default key.
# Saving needs the public key only. Loading asks gpg-agent, and that asks you:
# within a minute, or it is tried again later (see pizauth.conf(5)).
set -eu
umask 077

file=${2:-${XDG_STATE_HOME:-$HOME/.local/state}/pizauth/tokens.gpg}

# The state, in $state as text. If the server is killed meanwhile, it ends
# early, and must not replace the last one.
whole() {
    state=$(base64)
    bytes=$(printf "%s" "$state" | base64 -d | wc -c)
    [ "$bytes" -eq "${PIZAUTH_BYTES:-$bytes}" ] || {
        echo "only $bytes of $PIZAUTH_BYTES bytes have come" >&2
        exit 1
    }
}

case ${1:-} in
save)
    # A new file takes the old one's place in one step, and only when whole.
    whole
    mkdir -p "${file%/*}"
    printf "%s" "$state" | base64 -d |
        gpg --batch --quiet --encrypt --default-recipient-self >"$file.new"
    [ -s "$file.new" ]
    mv -f "$file.new" "$file"
    ;;
load)
    # No output and exit status 0 mean that nothing has been saved yet.
    [ -e "$file" ] || exit 0
    exec gpg --batch --quiet --decrypt "$file"
    ;;
try)
    echo try | gpg --batch --quiet --encrypt --default-recipient-self >/dev/null
    ;;
*)
    echo "usage: ${0##*/} save|load" >&2
    exit 64
    ;;
esac
