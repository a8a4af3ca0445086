#!/usr/bin/env bash
# the desktop's keyring keeps the tokens over a restart, by the example with secret-tool
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs dbus-run-session gnome-keyring-daemon secret-tool

# A session with an unlocked keyring of its own, around the rest of this script.
if [ -z "${IN_SESSION:-}" ]; then
    IN_SESSION=yes exec dbus-run-session -- bash "$0"
fi
eval "$(echo a password | gnome-keyring-daemon --unlock --components=secrets)"
export GNOME_KEYRING_CONTROL

{
    echo "state_save_cmd = \"$examples/persistence/secret-tool.sh save\";"
    echo "state_load_cmd = \"$examples/persistence/secret-tool.sh load\";"
    hooks
    account work here
} | configure
start_pizauth
sign_in work "$me"
pizauth shutdown
wait "$daemon"
start_pizauth
alive here "$(pizauth show work)" || die 'the token was not kept'
[ "$(wc -l <asked)" -eq 1 ] || die "asked $(wc -l <asked) times"
# shellcheck disable=SC2034
look_into=(.local/share/keyrings)
no_secret_astray
