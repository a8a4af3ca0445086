#!/bin/sh
# Prints the first mail of the inbox. The option comes from a pipe ("--config -"):
# on the command line, everybody could read the token in the list of processes.
set -eu
token=$(pizauth show work)
printf 'oauth2-bearer = "%s"\n' "$token" |
    curl --silent --show-error --config - --user you@example.com \
        'imaps://imap.example.com:993/INBOX;MAILINDEX=1'
