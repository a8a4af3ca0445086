#!/usr/bin/env bash
# a provider that takes only pushed authorization requests: the short address leads on when they are there
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

sed 's/"tokenLife"/"pushed": true, &/' "$WORLD/here/op.json" >op.json
# It ends when nothing is left to read.
mkfifo alive said
node "$WORLD/op/server.mjs" op.json <alive >said &
helpers+=($!)
exec 4>alive
read -r port <said

{
    hooks
    cat <<END
account "work" {
    issuer = "https://127.0.0.1:$port";
    client_id = "pizauth";
    scopes = ["openid", "offline_access"];
}
END
} | configure
start_pizauth

say 'the sign-in, by the short address'
sign_in work "$me"
[ -n "$(pizauth show work)" ] || die 'there is no token'
no_secret_astray
