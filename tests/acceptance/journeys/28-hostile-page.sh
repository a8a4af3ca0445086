#!/usr/bin/env bash
# a web page that tries what it can on the redirect port, under every name: it gets nothing
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

{ hooks; account work here; } | configure
start_pizauth
expect_status 77 pizauth show work
before=$(url_of work)
port=$(pizauth info -j | sed -n 's/.*"http_port":"\([0-9]*\)".*/\1/p')
timeout 90 node "$WORLD/op/hostile.mjs" "$port" >tried || die 'the browser failed'

say 'on its own server it gets everything'
grep -v "on [^ ]*:$port " tried >own
[ "$(wc -l <own)" -eq 7 ] || die "tried: $(cat tried)"
fails grep ': nothing$' own || die 'the page is too tame'

say 'here it gets nothing; under a name of its own, a refusal'
grep "on [^ ]*:$port " tried >here
[ "$(wc -l <here)" -eq 35 ] || die "tried: $(cat here)"
grep -v ': nothing$' here >got || :
cat got
grep -v "^evil.example:$port .*: \(the answer 421\|basic\)$" got >too-much || :
[ ! -s too-much ] || die "it got something: $(cat too-much)"

say 'and the sign-in is where it was'
expect_status 77 pizauth show work
says 'state=' stderr
[ "$(sed -n 's/.* URL //p' stderr)" = "$before" ] || die "another address: $(cat stderr)"
sign_in work "$me"
alive here "$(pizauth show work)" || die 'that is no token'
no_secret_astray
