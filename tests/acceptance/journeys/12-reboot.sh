#!/usr/bin/env bash
# a reboot: the daemon is killed, its runtime directory gone, and with age no sign-in is needed
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync age

age-keygen -o .config/pizauth-age.key 2>log
age-keygen -y -o .config/pizauth-age.pub .config/pizauth-age.key
{
    echo "state_save_cmd = \"$examples/persistence/age.sh save\";"
    echo "state_load_cmd = \"$examples/persistence/age.sh load\";"
    hooks
    account work here
} | configure
start_pizauth
example mbsync/mbsyncrc >.mbsyncrc
sign_in work "$me"
first=$(pizauth show work)
await 10 test -s .local/state/pizauth/tokens.age

say 'the power fails'
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || :
rm -rf "$XDG_RUNTIME_DIR"
mkdir -m 700 "$XDG_RUNTIME_DIR"
expect_status 69 pizauth show work

say 'and is back: the first show has a token, and mail flows'
start_pizauth
pizauth show work >secret
deliver here 'after the reboot'
mbsync --all 2>log
has_mail Maildir 'after the reboot' || die 'mbsync did not fetch it'

say 'the refresh token has come along, too'
await 60 fails alive here "$first"
alive here "$(pizauth show -w 20s work)" || die 'there is no new token'
[ "$(wc -l <asked)" -eq 1 ] || die "asked $(wc -l <asked) times"

say 'a second time, with what was saved after the refresh'
second=$(pizauth show work)
pizauth shutdown
wait "$daemon"
start_pizauth
await 60 fails alive here "$second"
alive here "$(pizauth show -w 20s work)" || die 'there is no new token'
[ "$(wc -l <asked)" -eq 1 ] || die "asked $(wc -l <asked) times"
# shellcheck disable=SC2034
look_into=(.local/state/pizauth)
no_secret_astray
