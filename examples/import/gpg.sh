#!/bin/sh
# Takes a sign-in over from a program that keeps JSON encrypted with gpg, such
# as mutt_oauth2.py, which comes with NeoMutt, or oama:
#   gpg.sh <account> <its token file>
# The account's client id must be the one that the program uses.
set -eu
gpg --quiet --decrypt "$2" | pizauth import "$1"
