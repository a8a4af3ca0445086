#!/bin/sh
# token_event_cmd = "…/persist.sh save"; and startup_cmd = "…/persist.sh load";
# keep the tokens in an encrypted file, so that they outlive the server. The
# options state_save_cmd and state_load_cmd, with the scripts of ../persistence,
# are simpler.
#
# The file only ever exists encrypted and whole: what dump prints goes through
# the cipher into a new file, which then takes the old one's place in one step.
#
# A sign-in before "load" has ended would save a state without the other
# accounts over the file that is just being read. So "save" does nothing until
# "load" has succeeded, and "load" saves what happened meanwhile.
#
# When decrypting needs a terminal, leave startup_cmd out and run
# "persist.sh load" by hand after starting the server.
set -eu
umask 077

# Which cipher: age, gpg or systemd-creds.
cipher=age

state=${XDG_STATE_HOME:-$HOME/.local/state}/pizauth
file=$state/tokens.$cipher
marker=${XDG_RUNTIME_DIR:-$state}/pizauth-loaded

# The key that can decrypt should not lie in clear beside what it protects: a
# hardware token, an agent, or a key file with a pass-phrase.
encrypt() {
    case $cipher in
    age) age -R "$HOME/.config/pizauth-age.pub" ;;
    gpg) gpg --batch --quiet --encrypt --default-recipient-self ;;
    systemd-creds) systemd-creds --user --name=pizauth encrypt - - ;;
    *) echo "unknown cipher $cipher" >&2; return 1 ;;
    esac
}

decrypt() {
    case $cipher in
    age) age -d -i "$HOME/.config/pizauth-age.key" ;;
    gpg) gpg --batch --quiet --decrypt ;;
    systemd-creds) systemd-creds --user --name=pizauth decrypt - - ;;
    *) echo "unknown cipher $cipher" >&2; return 1 ;;
    esac
}

# One save at a time, so that the later state is the one that stays. A lock
# older than any hook may run was left behind by one that was killed.
lock() {
    until mkdir "$state/lock" 2>/dev/null; do
        if [ -n "$(find "$state/lock" -prune -mmin +2 2>/dev/null)" ]; then
            rm -rf "$state/lock"
        else
            sleep 1
        fi
    done
    trap 'rm -rf "$state/lock"' EXIT
}

# A named pipe in place of "|", of which only the last command's failure would
# be seen: an incomplete dump must not replace a good file.
save() {
    lock
    mkfifo "$state/lock/dump"
    pizauth dump >"$state/lock/dump" &
    encrypt <"$state/lock/dump" >"$state/lock/new"
    wait $!
    mv -f "$state/lock/new" "$file"
}

case ${1:-} in
load)
    rm -f "$marker"
    mkdir -p "$state"
    if [ -e "$file" ]; then
        decrypt <"$file" | pizauth restore
    fi
    : >"$marker"
    save
    ;;
save)
    if [ ! -e "$marker" ]; then
        echo "not saved: the saved tokens haven't been loaded yet" >&2
        exit 1
    fi
    save
    ;;
*)
    echo "usage: persist.sh load|save" >&2
    exit 64
    ;;
esac
