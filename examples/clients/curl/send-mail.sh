#!/bin/sh
# Sends the mail on standard input to yourself. The option with the token comes
# from a pipe ("--config -"), where no list of processes shows it.
set -eu
token=$(pizauth show work)
exec 3<&0
printf 'oauth2-bearer = "%s"\n' "$token" |
    curl --silent --show-error --config - --user you@example.com --ssl-reqd --crlf \
        --mail-from you@example.com --mail-rcpt you@example.com \
        --upload-file /dev/fd/3 smtp://smtp.example.com:587
