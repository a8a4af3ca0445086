#!/usr/bin/env bash
# beyond mail: rclone gets its token by bearer_token_command, and the next one when that has ended
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs rclone

{ hooks; account work here; } | configure
start_pizauth
sign_in work "$me"

# A WebDAV server of rclone's own behind one that lets in those whom the provider knows.
port=$(free_port) inner=$(free_port)
mkdir files
echo 'a file' >files/one
rclone serve webdav --addr "127.0.0.1:$inner" files >inner.log 2>&1 &
helpers+=($!)
cat >front.mjs <<'END'
import http from 'node:http';
import https from 'node:https';
import fs from 'node:fs';
const [port, inner, issuer, ca] = process.argv.slice(2);
const isAlive = (token) => new Promise((tell) => {
    const request = https.request(`${issuer}/token/introspection`, {
        method: 'POST', auth: 'dovecot:dovecot', ca: fs.readFileSync(ca),
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    }, async (reply) => {
        let text = '';
        for await (const part of reply) text += part;
        tell(JSON.parse(text).active);
    });
    request.end(`token=${token}`);
});
http.createServer(async (request, reply) => {
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
    if (!token || !await isAlive(token)) return reply.writeHead(401).end();
    delete request.headers.authorization;
    const { method, url: path, headers } = request;
    request.pipe(http.request({ port: inner, method, path, headers }, (answer) => {
        reply.writeHead(answer.statusCode, answer.headers);
        answer.pipe(reply);
    }));
}).listen(port, '127.0.0.1', () => console.log('listening'));
END
node front.mjs "$port" "$inner" "$(at here issuer)" "$WORLD/ca.pem" >front.log 2>&1 &
helpers+=($!)
comes_to_say listening front.log
comes_to_say 'WebDav Server started' inner.log

fill here <"$examples/beyond-mail/rclone.conf" | sed "s#https://files.example.com/dav#http://127.0.0.1:$port#" >rclone.conf
dav() {
    rclone --config rclone.conf --retries 1 "$@"
}

say 'a file read and one written'
[ "$(dav cat files:one)" = 'a file' ] || die 'that is another file'
echo 'another' | dav rcat files:two
[ "$(cat files/two)" = another ] || die 'it was not written'

say 'when that token has ended'
first=$(pizauth show work)
await 60 fails alive here "$first"
[ "$(dav cat files:two)" = another ] || die 'the next token was not taken'
no_secret_astray
