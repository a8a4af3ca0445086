#!/bin/sh
# state_save_cmd = "~/.local/lib/pizauth/age.sh save";
# state_load_cmd = "~/.local/lib/pizauth/age.sh load";
#
# Keeps the tokens in a file that age has encrypted. Once:
#
#   age-keygen -o ~/.config/pizauth-age.key
#   age-keygen -y -o ~/.config/pizauth-age.pub ~/.config/pizauth-age.key
#
# Saving needs only the .pub, or the key if there is none. Loading needs the
# key, which protects nothing if it is unencrypted on the same disk. Keep it on
# another one, in hardware (age-plugin-yubikey, age-plugin-tpm), or on an
# encrypted disk.
set -eu
umask 077

key=${PIZAUTH_AGE_KEY:-$HOME/.config/pizauth-age.key}
recipients=${PIZAUTH_AGE_RECIPIENTS:-$HOME/.config/pizauth-age.pub}
file=${2:-${XDG_STATE_HOME:-$HOME/.local/state}/pizauth/tokens.age}

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
    if [ -e "$recipients" ]; then
        printf "%s" "$state" | base64 -d | age -R "$recipients" >"$file.new"
    else
        printf "%s" "$state" | base64 -d | age -e -i "$key" >"$file.new"
    fi
    [ -s "$file.new" ]
    mv -f "$file.new" "$file"
    ;;
load)
    # No output and exit status 0 mean that nothing has been saved yet.
    [ -e "$file" ] || exit 0
    exec age -d -i "$key" "$file"
    ;;
try)
    echo try | age -e -i "$key" | age -d -i "$key" >/dev/null
    ;;
*)
    echo "usage: ${0##*/} save|load" >&2
    exit 64
    ;;
esac
