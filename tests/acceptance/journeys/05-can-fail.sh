#!/usr/bin/env bash
# the tests themselves: a secret that goes astray is noticed, wherever that is
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

mkdir -p world/here world/there home
echo '{"what": "issued", "name": "access_token", "secret": "of-here"}' >world/here/op.log
echo '{"what": "shown", "name": "token", "secret": "of-here", "to": "/introspection"}' >>world/here/op.log
: >world/there/op.log
echo 'nothing of interest' >home/log
node "$tests/astray.mjs" world home || die 'there is nothing to find'

say 'a log with a token in it'
echo 'the token is of-here, and more' >>home/log
! node "$tests/astray.mjs" world home >found || die 'not noticed'
says '^log contains a secret$' found
rm home/log

say 'a token at a server that did not issue it'
echo '{"what": "shown", "name": "token", "secret": "of-here", "to": "/introspection"}' >world/there/op.log
! node "$tests/astray.mjs" world home >found || die 'not noticed'
says '^there was shown at /introspection a token that here issued$' found

say 'a program that fails with the status of a journey that is left out'
for command in 'needs no-such-program:77' 'sh -c "exit 77":1'; do
    status=0
    JOURNEY=$JOURNEY/inner CI='' bash -c ". '$tests/lib.bash'; ${command%:*}" inner >said 2>&1 || status=$?
    [ "$status" -eq "${command##*:}" ] || die "${command%:*}: exit status $status: $(cat said)"
done
