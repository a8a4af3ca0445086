#!/bin/sh
# Takes a sign-in over from oidc-agent:
#   oidc-agent.sh <account> <its account>
# oidc-gen asks for the password of its account, and prints JSON.
set -eu
oidc-gen --print="$2" | pizauth import "$1"
