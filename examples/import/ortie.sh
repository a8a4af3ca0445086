#!/bin/sh
# Takes a sign-in over from ortie, which keeps nothing itself: its configuration
# has a command, storage.read.command, that prints the tokens. Give it that one:
#   ortie.sh <account> <command> [<argument>...]
# The account's client id must be the one that ortie uses.
set -eu
account=$1
shift
"$@" | pizauth import "$account"
