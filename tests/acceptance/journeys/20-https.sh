#!/usr/bin/env bash
# a sign-in whose redirect is https, to the certificate that pizauth has made
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

# This server takes an https redirect with its port only, so the client is registered once the port is known.
register() {
    curl --silent --show-error --cacert "$WORLD/ca.pem" --header 'Content-Type: application/json' \
        --data "{\"redirect_uris\": [\"https://localhost:$1/\"], \"application_type\": \"web\",
            \"grant_types\": [\"authorization_code\", \"refresh_token\"],
            \"token_endpoint_auth_method\": \"none\"}" "$(at here issuer)/reg" |
        sed -n 's/.*"client_id":"\([^"]*\)".*/\1/p'
}

{ hooks; account work here 'redirect_uri = "https://localhost/";'; } | configure
start_pizauth
client=$(register "$(pizauth info -j | sed -n 's/.*"https_port":"\([0-9]*\)".*/\1/p')")
sed -i "s/client_id = \"pizauth\"/client_id = \"$client\"/" .config/pizauth.conf
pizauth reload
sign_in work "$me"
alive here "$(pizauth show work)" || die 'that is no token'
no_secret_astray
