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

case ${1:-} in
save)
    # The keyring keeps text.
    base64 | secret-tool store --label="pizauth tokens" application "$entry"
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
