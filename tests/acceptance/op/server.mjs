// An authorization server that we did not write, oidc-provider, over TLS on a loopback port.
//
//   node server.mjs <settings.json>
//
// It writes its port to stdout as one line once it answers, and goes when its stdin closes. Into
// the file `log` of the settings it writes every secret that it issues and every one that it is
// shown, a JSON object a line, so that the journeys can tell whether a secret went astray.
import fs from 'node:fs';
import https from 'node:https';
import { Provider } from 'oidc-provider';

// {cert, key, log, tokenLife, deviceCodeLife}: files, and seconds.
const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
// It talks; and nobody reads stdout but for the port.
console.info = console.error;
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const HOUR = 3600;
// How much of a token is random, in bits, of which a character holds six: 43 characters, as is usual,
// and 5,000, as those of Microsoft may be.
const TOKEN_BITS = 256;
const LONG_TOKEN_BITS = 30_000;

const clients = [
    {
        // What pizauth is for most journeys: a native app without a secret (RFC 8252).
        client_id: 'pizauth',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token', DEVICE_GRANT],
        redirect_uris: ['http://localhost/', 'http://127.0.0.1/', 'org.example.pizauth:/callback'],
    },
    {
        // The same, and its access tokens are long.
        client_id: 'pizauth-long',
        application_type: 'native',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: ['http://localhost/'],
    },
    {
        client_id: 'pizauth-with-secret',
        client_secret: 'a secret: 100% of it, "quoted"',
        application_type: 'native',
        token_endpoint_auth_method: 'client_secret_basic',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: ['http://localhost/'],
    },
    {
        // A program on a server: nobody signs in.
        client_id: 'robot',
        client_secret: 'the robot: no person',
        token_endpoint_auth_method: 'client_secret_basic',
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
    },
    {
        // The mail server, which asks about the tokens that it is shown (RFC 7662).
        client_id: 'dovecot',
        client_secret: 'dovecot',
        grant_types: [],
        response_types: [],
        redirect_uris: [],
    },
    {
        // The IRC bouncer, likewise.
        client_id: 'soju',
        client_secret: 'soju',
        grant_types: [],
        response_types: [],
        redirect_uris: [],
    },
];

// The parameters and headers in which a client can show a secret.
const SHOWN = ['code', 'refresh_token', 'token', 'device_code'];
const ISSUED = ['access_token', 'client_credentials', 'refresh_token', 'authorization_code', 'device_code'];

function record(entry) {
    fs.appendFileSync(settings.log, JSON.stringify({ at: Date.now(), ...entry }) + '\n');
}

function configuration() {
    return {
        clients,
        // Whoever signs in is whom he says he is.
        findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
        pkce: { required: () => true },
        rotateRefreshToken: true,
        // With the device grant there is no prompt=consent, without which it would give none.
        issueRefreshToken: (_, client) => client.grantTypeAllowed('refresh_token'),
        // What soju calls its user, and the mailbox of a client that asks for itself: part of what
        // introspection answers.
        extraTokenClaims: (_, { accountId, clientId }) =>
            accountId ? { username: accountId.split('@')[0] } : { sub: `${clientId.toLowerCase()}@example.com` },
        formats: {
            bitsOfOpaqueRandomness: (_, { kind, clientId }) =>
                kind === 'AccessToken' && clientId === 'pizauth-long' ? LONG_TOKEN_BITS : TOKEN_BITS,
        },
        cookies: { keys: ['signs cookies of a server that lives for minutes'] },
        ttl: {
            AccessToken: settings.tokenLife,
            AuthorizationCode: 60,
            ClientCredentials: settings.tokenLife,
            DeviceCode: settings.deviceCodeLife,
            Grant: HOUR,
            IdToken: HOUR,
            Interaction: HOUR,
            RefreshToken: HOUR,
            Session: HOUR,
        },
        features: {
            clientCredentials: { enabled: true },
            devInteractions: { enabled: true },
            deviceFlow: { enabled: true },
            pushedAuthorizationRequests: { requirePushedAuthorizationRequests: Boolean(settings.pushed) },
            introspection: { enabled: true, allowedPolicy: (_, client) => ['dovecot', 'soju'].includes(client.clientId) },
            registration: { enabled: true },
            registrationManagement: { enabled: true },
            revocation: { enabled: true },
        },
    };
}

async function recordShown(ctx, next) {
    await next();
    const shown = { ...ctx.oidc?.params, ...ctx.oidc?.body };
    for (const name of SHOWN) {
        if (shown[name]) {
            record({ what: 'shown', name, secret: shown[name], to: ctx.path, status: ctx.status });
        }
    }
}

const server = https.createServer({
    cert: fs.readFileSync(settings.cert),
    key: fs.readFileSync(settings.key),
});
// Longer than the mail servers keep a connection: what they ask when it is just being closed fails.
server.keepAliveTimeout = 10 * 60 * 1000;
server.listen(0, '127.0.0.1', () => {
    const { port } = server.address();
    const provider = new Provider(`https://127.0.0.1:${port}`, configuration());
    provider.use(recordShown);
    for (const name of ISSUED) {
        provider.on(`${name}.saved`, (token) => {
            record({ what: 'issued', name, secret: token.jti, account: token.accountId });
        });
    }
    provider.on('server_error', (_, error) => console.error(error));
    server.on('request', provider.callback());
    process.stdout.write(`${port}\n`);
});
process.stdin.on('end', () => process.exit()).resume();
