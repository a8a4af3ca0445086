#!/usr/bin/env bash
# from the original: its daemon is signed in, ours takes its place with the tokens, and mail flows
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs mbsync

original() {
    exec node "$tests/original.mjs" work "$(at here issuer)" pizauth
}

{ hooks; account work here; } | configure
example mbsync/mbsyncrc >.mbsyncrc

# What a user of the original does, whose program was exchanged while its daemon runs.
signs_in_with_the_original() {
    await 20 pizauth status
    expect_status 77 pizauth show work
    says "Access token unavailable until authorised with URL http" stderr
    browse "$me" "$(sed -n 's/.* with URL //p' stderr)"
    says 'the original has its tokens' page
}

# Mail with a token that is younger than that one, and that nobody has signed in for.
refreshed_by_itself() {
    await 60 fails alive here "$1"
    deliver here "$2"
    mbsync --all
    has_mail Maildir "$2" || die "mbsync did not fetch '$2'"
    [ ! -e asked ] || die 'somebody was asked to sign in'
}

say 'in the first minute, every command works or says what to do'
original &
helpers+=($!)
signs_in_with_the_original
deliver here 'by the original'
mbsync --all
has_mail Maildir 'by the original' || die 'no mail by the old daemon'
pizauth status >stdout 2>stderr
says '^work: Active access token ' stdout
says '^an older pizauth is running here; .pizauth restart. replaces it' stderr
expect_status 69 pizauth auth work
says 'an older pizauth is running here' stderr

say 'one command, and the tokens are ours'
token=$(pizauth show work)
pizauth restart 2>stderr
says 'this one has its tokens now' stderr
[ "$(pizauth show work)" = "$token" ] || die 'another token after the switch'
pizauth status >stdout 2>stderr
[ ! -s stderr ] || die "the old one still answers: $(cat stderr)"
refreshed_by_itself "$token" 'by the new one'
pizauth shutdown

say 'where a service manager starts it: the line that is printed keeps the tokens'
# A service's own script, as in runit(8): the program was exchanged, the daemon not yet.
mkdir bin service
cat >service/run <<'END'
#!/bin/sh
[ ! -e service/exchanged ] || exec pizauth server -dv
: >service/exchanged
exec node "$@"
END
# It is known by its name, which env(1) would take from it.
{ printf '#!%s\n' "$BASH" && cat; } >bin/runsv <<'END'
trap 'kill "$child" 2>/dev/null; exit' TERM
while :; do
    service/run "$@" >>service/log 2>&1 &
    child=$!
    echo "$child" >service/pid
    wait "$child"
done
END
# Returns when another process runs, as sv(8) does; whether it answers yet is not its business.
cat >bin/sv <<'END'
#!/bin/sh
[ "$*" = 'restart pizauth' ] && old=$(cat service/pid) && kill "$old" || exit
until [ "$(cat service/pid)" != "$old" ]; do sleep 0.1; done
END
chmod +x bin/* service/run
PATH=$PWD/bin:$PATH
runsv "$tests/original.mjs" work "$(at here issuer)" pizauth &
helpers+=($!)
signs_in_with_the_original
token=$(pizauth show work)
status=0
pizauth restart >stdout 2>stderr || status=$?
[ "$status" -ne 0 ] || die 'it takes the place of a daemon that a service manager would start again'
says 'belongs to a service manager' stderr
[ "$(pizauth show work)" = "$token" ] || die 'the old one is gone'
eval "$(sed -n 's/^hint: this keeps the tokens: //p' stderr)" 2>log || die "$(cat log stderr)"
[ "$(pizauth show work)" = "$token" ] || die 'another token after the switch'
pizauth status >stdout 2>stderr
[ ! -s stderr ] || die "the old one still answers: $(cat stderr)"
refreshed_by_itself "$token" 'by the service'
no_secret_astray
