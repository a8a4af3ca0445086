// The daemon of the original pizauth, as its users have it running when they switch: as far as its
// socket, its redirect port and its dump go, and with one account. It signs in and refreshes by
// itself, and says nothing on its socket before it has seen the end of what a client says.
//
//   node original.mjs <account> <issuer> <client id>
//
// It ends when a client says so.
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';

const [name, issuer, clientId] = process.argv.slice(2);
const [authUri, tokenUri] = [`${issuer}/auth`, `${issuer}/token`];
const scopes = ['openid', 'offline_access'];
const fields = [['prompt', 'consent']];
// What everybody knows, and so can read its dumps.
const KEY = Buffer.from('66a247a85e48cfecaaed9b36eba97d5350d4286375097a44eeffb9c4546b65a3', 'hex');
const authority = fs.readFileSync(process.env.SSL_CERT_FILE);
const socket = path.join(process.env.XDG_RUNTIME_DIR, 'pizauth', 'pizauth.sock');

let tokens = null;
let pending = null;
let port = 0;

function tokenRequest(form) {
    const body = new URLSearchParams({ ...form, client_id: clientId }).toString();
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': body.length };
    return new Promise((tell, fail) => {
        const request = https.request(tokenUri, { method: 'POST', ca: authority, headers }, (reply) => {
            const parts = [];
            reply.on('data', (part) => parts.push(part)).on('end', () => {
                const json = JSON.parse(Buffer.concat(parts));
                if (!json.access_token) return fail(new Error(JSON.stringify(json)));
                const obtained = Math.floor(Date.now() / 1000);
                tell({
                    access: json.access_token, refresh: json.refresh_token,
                    obtained, expiry: obtained + json.expires_in,
                });
            });
        });
        request.on('error', fail).end(body);
    });
}

// The address at which somebody signs in.
function url() {
    if (!pending) {
        const verifier = crypto.randomBytes(32).toString('base64url');
        pending = { state: crypto.randomBytes(16).toString('base64url'), verifier };
    }
    const query = new URLSearchParams({
        client_id: clientId, response_type: 'code', scope: scopes.join(' '), state: pending.state,
        redirect_uri: `http://localhost:${port}/`, ...Object.fromEntries(fields),
        code_challenge: crypto.createHash('sha256').update(pending.verifier).digest('base64url'),
        code_challenge_method: 'S256',
    });
    return `${authUri}?${query}`;
}

async function callback(request, response) {
    const query = new URL(request.url, 'http://localhost').searchParams;
    if (!pending || query.get('state') !== pending.state) return response.writeHead(404).end();
    tokens = await tokenRequest({
        grant_type: 'authorization_code', code: query.get('code'),
        redirect_uri: `http://localhost:${port}/`, code_verifier: pending.verifier,
    });
    pending = null;
    return response.end('the original has its tokens');
}

function dump() {
    const number = (value) => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64LE(BigInt(value));
        return bytes;
    };
    const text = (value) => Buffer.concat([number(Buffer.byteLength(value)), Buffer.from(value)]);
    const time = (value) => Buffer.concat([number(value), Buffer.alloc(4)]);
    const option = (value) => (value ? Buffer.concat([Buffer.from([1]), text(value)]) : Buffer.from([0]));
    const plain = Buffer.concat([
        number(1), number(1), text(name), text(authUri),
        number(fields.length), ...fields.flat().map(text),
        text(clientId), option(null), text('http://localhost/'),
        number(scopes.length), ...scopes.map(text), text(tokenUri),
        ...(tokens
            ? [Buffer.from([1, 0, 0, 0]), text(tokens.access), time(tokens.obtained), time(tokens.expiry), option(tokens.refresh)]
            : [Buffer.alloc(4)]),
    ]);
    const nonce = crypto.randomBytes(12);
    const cipher = crypto.createCipheriv('chacha20-poly1305', KEY, nonce, { authTagLength: 16 });
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

async function answer(asked) {
    const [, command, about] = asked.match(/^([a-z]*):?(.*)$/s);
    const [how, account] = about.split(' ');
    if (['showtoken', 'refresh'].includes(command) && account !== name) return `error:No account '${account}'`;
    const unavailable = () => (how === 'withurl' ? `pending:${url()}` : 'pending:');
    switch (command) {
    case 'dump': return dump();
    case 'info': return `{"http_port":"${port}","https_port":"none","https_pub_key":""}`;
    case 'reload': case 'restore': return 'ok:';
    case 'refresh':
        if (!tokens) return unavailable();
        tokens = await tokenRequest({ grant_type: 'refresh_token', refresh_token: tokens.refresh });
        return 'scheduled:';
    case 'showtoken': return tokens ? `access_token:${tokens.access}` : unavailable();
    case 'shutdown': return '';
    case 'status':
        return `ok:${name}: ${tokens ? 'Active access token (obtained now; expires soon)' : 'No access token'}`;
    default: return `error:Unknown command '${command}'`;
    }
}

const redirects = http.createServer((request, response) => void callback(request, response));
await new Promise((ready) => redirects.listen(0, '127.0.0.1', ready));
port = redirects.address().port;

fs.mkdirSync(path.dirname(socket), { recursive: true, mode: 0o700 });
const server = net.createServer({ allowHalfOpen: true }, (client) => {
    const parts = [];
    client.on('data', (part) => parts.push(part)).on('end', async () => {
        const asked = Buffer.concat(parts).toString('latin1');
        client.end(await answer(asked), () => {
            if (asked !== 'shutdown:') return;
            // Dies of the signal that it ends by, and leaves nothing at its address.
            fs.rmSync(socket);
            process.kill(process.pid, 'SIGTERM');
        });
    });
    // Whoever has gone doesn't hear it.
    client.on('error', () => {});
});
// A socket that another daemon has left is in the way.
fs.rmSync(socket, { force: true });
server.listen(socket);
process.on('SIGHUP', () => process.kill(process.pid, 'SIGTERM'));
