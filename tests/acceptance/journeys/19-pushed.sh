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

umask 077
openssl ecparam -name prime256v1 -genkey -noout -out ES256.pem
signs=$(register_signer ES256 "application_type: 'native', grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['http://localhost/']" "https://127.0.0.1:$port")

# An account of the provider: pushing <name> <client> [<more options>].
pushing() {
    cat <<END
account "$1" {
    issuer = "https://127.0.0.1:$port";
    client_id = "$2";
    scopes = ["openid", "offline_access"];
    ${3:-}
}
END
}

{
    hooks
    pushing work pizauth
    pushing signed "$signs" 'client_key = "~/ES256.pem";'
} | configure
start_pizauth

for name in work signed; do
    say "the sign-in of $name, by the short address"
    sign_in "$name" "$me"
    [ -n "$(pizauth show "$name")" ] || die 'there is no token'
done
no_secret_astray
