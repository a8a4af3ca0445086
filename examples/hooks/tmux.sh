#!/bin/sh
# auth_notify_cmd: a message in tmux, and the address in its paste buffer
# (prefix ] inserts it). "#" and "%" would mean something in a message, so
# they are doubled; the address isn't part of one.
set -eu
printf '%s' "$PIZAUTH_URL" | tmux load-buffer -b pizauth -
name=$(printf '%s' "$PIZAUTH_ACCOUNT" | sed 's/[#%]/&&/g')
tmux list-clients -F '#{client_name}' | while IFS= read -r client; do
    tmux display-message -c "$client" -d 10000 \
        "pizauth: sign in to $name; the address is in the buffer \"pizauth\""
done
