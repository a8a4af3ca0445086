#!/usr/bin/env bash
# a client that asks for itself: nobody signs in, and its token is renewed ahead of its end
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

printf 'the robot: no person\n' >secret
{
    hooks
    cat <<END
account "robot" {
    grant = "client_credentials";
    issuer = "$(at here issuer)";
    client_id = "robot";
    client_secret_cmd = "cat secret";
}
END
} | configure
start_pizauth
pizauth auth robot
first=$(pizauth show robot)
alive here "$first" || die 'that is no token'
await 60 fails alive here "$first"
alive here "$(pizauth show -w 20s robot)" || die 'it was not renewed'
[ ! -e asked ] || die 'somebody was asked to sign in'
# A secret that has changed is told with the provider's word, until it is right again.
refused() {
    pizauth status | grep -q invalid_client
}
printf 'wrong\n' >secret
pizauth reload
pizauth restart
pizauth refresh robot
await 30 refused
printf 'the robot: no person\n' >secret
pizauth reload
second=$(pizauth show -w 20s robot)
alive here "$second" || die 'it was not mended'
pizauth revoke robot
fails alive here "$second" || die 'it was not revoked'
no_secret_astray
