#!/bin/sh
# state_save_cmd = "~/.local/lib/pizauth/systemd-creds.sh save";
# state_load_cmd = "~/.local/lib/pizauth/systemd-creds.sh load";
#
# Keeps the tokens in a file that only this user on this machine can decrypt:
# the key is the machine's, bound to its TPM if it has one. It asks for
# nothing. Needs systemd 256 or later, for --user.
set -eu
umask 077

file=${2:-${XDG_STATE_HOME:-$HOME/.local/state}/pizauth/tokens.cred}

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
        systemd-creds --user --name=pizauth encrypt - - >"$file.new"
    [ -s "$file.new" ]
    mv -f "$file.new" "$file"
    ;;
load)
    # No output and exit status 0 mean that nothing has been saved yet.
    [ -e "$file" ] || exit 0
    exec systemd-creds --user --name=pizauth decrypt "$file" -
    ;;
try)
    echo try | systemd-creds --user --name=pizauth encrypt - - |
        systemd-creds --user --name=pizauth decrypt - - >/dev/null
    ;;
*)
    echo "usage: ${0##*/} save|load" >&2
    exit 64
    ;;
esac
