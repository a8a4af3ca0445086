#!/usr/bin/env bash
# himalaya reads a mailbox and sends
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
# No Debian has it.
if_there himalaya

{ hooks; account work here; } | configure
start_pizauth
from_nothing himalaya/config.toml
example himalaya/config.toml >.config/himalaya/config.toml
deliver here 'a mail for himalaya'

say 'without a token: the reason'
fails timeout 20 himalaya envelope list >log 2>&1 || die 'himalaya succeeds without a token'
says 'Secret command error: .*authorised with URL' log

say 'the mailbox'
sign_in work "$me"
timeout 20 himalaya envelope list >log 2>&1 || die "himalaya fails: $(cat log)"
says 'a mail for himalaya' log

say 'a mail'
letter 'sent by himalaya' | timeout 20 himalaya message send >log 2>&1 || die "himalaya fails: $(cat log)"
await 10 arrived here 'sent by himalaya'
no_secret_astray
