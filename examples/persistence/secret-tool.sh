#!/bin/sh
# state_save_cmd = "~/.local/lib/pizauth/secret-tool.sh save";
# state_load_cmd = "~/.local/lib/pizauth/secret-tool.sh load";
#
# Keeps the tokens in the desktop's keyring (GNOME Keyring, KWallet, KeePassXC:
# whatever speaks the Secret Service). It is unlocked with the session; a
# server that starts before that can't load, and tries again later (see
# pizauth.conf(5)). The keyring replaces an entry in one step.
set -eu

entry=${2:-pizauth}

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
    # The keyring keeps text.
    whole
    printf "%s\n" "$state" | secret-tool store --label="pizauth tokens" application "$entry"
    ;;
load | try)
    # An entry that isn't there is no error, and told apart by the silence.
    if text=$(secret-tool lookup application "$entry"); then
        [ "$1" = try ] || echo "$text" | base64 -d
    elif why=$(secret-tool lookup application "$entry" 2>&1 >/dev/null); [ -n "$why" ]; then
        echo "$why" >&2
        exit 1
    fi
    ;;
*)
    echo "usage: ${0##*/} save|load" >&2
    exit 64
    ;;
esac
