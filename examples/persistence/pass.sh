#!/bin/sh
# state_save_cmd = "~/.local/lib/pizauth/pass.sh save";
# state_load_cmd = "~/.local/lib/pizauth/pass.sh load";
#
# Keeps the tokens in the password store of pass. Loading asks gpg-agent, and
# that asks you: within a minute, or it is tried again later (see
# pizauth.conf(5)). A store that is kept in git gets a commit at every save;
# PASSWORD_STORE_DIR can name one that isn't.
set -eu

entry=${2:-pizauth}
store=${PASSWORD_STORE_DIR:-$HOME/.password-store}

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
    # The store keeps text. What pass writes may be cut off, so it goes to
    # another name first.
    whole
    printf "%s\n" "$state" | pass insert --multiline --force "$entry-new" >/dev/null
    pass mv --force "$entry-new" "$entry" >/dev/null
    ;;
load)
    # No output and exit status 0 mean that nothing has been saved yet.
    [ -e "$store/$entry.gpg" ] || exit 0
    text=$(pass show "$entry")
    echo "$text" | base64 -d
    ;;
try)
    # Without it there is no key to encrypt to.
    [ -e "$store/.gpg-id" ] || {
        echo "there is no password store: pass init makes one" >&2
        exit 1
    }
    ;;
*)
    echo "usage: ${0##*/} save|load" >&2
    exit 64
    ;;
esac
