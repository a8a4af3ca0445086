#!/usr/bin/env bash
# clients that sign instead of sending a secret, each by another algorithm, fetch mail
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"

# An account whose client has the key of the file $1.pem: robot <algorithm> <id> [<more options>].
robot() {
    cat <<END
account "$1" {
    grant = "client_credentials";
    issuer = "$(at here issuer)";
    client_id = "$2";
    client_key = "~/$1.pem";
    ${3:-}
}
END
}

umask 077
{
    openssl genrsa -out RS256.pem 2048
    openssl req -x509 -newkey rsa:3072 -nodes -days 2 -subj /CN=robot -keyout PS256.pem -out certificate.pem
    openssl ecparam -name prime256v1 -genkey -noout -out ES256.pem
} 2>openssl.log
robot="grant_types: ['client_credentials'], response_types: [], redirect_uris: []"
rs=$(register_signer RS256 "$robot") ps=$(register_signer PS256 "$robot") es=$(register_signer ES256 "$robot")
{
    hooks
    robot RS256 "$rs"
    robot PS256 "$ps" 'client_certificate = "~/certificate.pem";'
    robot ES256 "$es"
} | configure
start_pizauth

# Fetches the mail of that client, whose mailbox is named after it: fetched <algorithm> <user>.
fetched() {
    pizauth show -w 20s "$1" >secret
    printf 'user = "%s@example.com:"\noauth2-bearer = "%s"\n' "$2" "$(cat secret)" |
        curl --silent --show-error --cacert "$WORLD/ca.pem" --config - \
            "imaps://localhost:$(at here imaps)/INBOX;MAILINDEX=1" >mail
    says "^Subject: for $1" mail
}

for client in "RS256 ${rs,,}" "PS256 ${ps,,}" "ES256 ${es,,}"; do
    read -r algorithm user <<<"$client"
    deliver here "for $algorithm" "$user@example.com"
    say "$algorithm"
    fetched "$algorithm" "$user"
    first=$(cat secret)
    # Each token needs an assertion of its own.
    pizauth refresh "$algorithm"
    await 20 sh -c "pizauth show $algorithm | grep -qvxF -e '$first'"
    fetched "$algorithm" "$user"
done
[ ! -e asked ] || die 'somebody was asked to sign in'

# A key that the provider doesn't know is told by its word.
openssl genrsa -out RS256.pem 2048 2>>openssl.log
refused() {
    pizauth status | grep -q invalid_client
}
pizauth restart
pizauth refresh RS256
await 30 refused
no_secret_astray
