// A hostile web page in a real Chromium, headless: what can it do to a port of this machine?
//
//   node hostile.mjs <port>
//
// For everything that a page tries there is a line: where the page comes from, whom it tries it on,
// what, and what it has got: "nothing", or something. First it tries all of it on its own server,
// which lets it.
import http from 'node:http';
import { chromium } from 'playwright-core';

const victim = process.argv[2];
// A name that leads to this machine, as its owner says since yesterday.
const EVIL = 'evil.example';
// How long Chromium may take for anything, in milliseconds.
const PATIENCE = 60_000;

// This runs in the page.
async function attack(base) {
    const element = (name, set) => new Promise((tell) => {
        const it = Object.assign(document.createElement(name), set);
        it.onload = () => tell(it);
        it.onerror = () => tell(null);
        document.body.append(it);
    });
    const guess = new URLSearchParams({ code: 'evil', state: 'guess' });
    const address = `${base}?${guess}`;
    const tries = {
        'to read': async () => `the answer ${(await fetch(address)).status}`,
        'to send': async () => (await fetch(address, { mode: 'no-cors' })).type,
        'to post': async () => (await fetch(base, { method: 'POST', mode: 'no-cors', body: guess })).type,
        'to put': async () => (await fetch(base, { method: 'PUT', headers: { 'X-Evil': '1' } })).type,
        'a picture': async () => (await element('img', { src: `${base}picture` }))?.tagName,
        'a script': async () => (await element('script', { src: `${base}script` }))?.tagName,
        'a frame': async () => (await element('iframe', { src: base })).contentDocument?.body.innerText,
    };
    const got = [];
    for (const [what, act] of Object.entries(tries)) {
        got.push([what, (await act().catch(() => null)) || 'nothing']);
    }
    return got;
}

const PICTURE = 'R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7';
const BODIES = {
    '/picture': ['image/gif', Buffer.from(PICTURE, 'base64')],
    '/script': ['text/javascript', 'let nothing;'],
};
const own = http.createServer((request, response) => {
    const [type, body] = BODIES[request.url] ?? ['text/html', '<body>Hello.</body>'];
    response.writeHead(200, { 'Content-Type': type });
    response.end(body);
});
await new Promise((tell) => own.listen(0, '127.0.0.1', tell));
const home = own.address().port;

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
        '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
        // Newer ones ask before a page of the Internet reaches this machine; older ones don't.
        '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests',
        `--host-resolver-rules=MAP ${EVIL} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost`,
    ],
});
try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    // The name led elsewhere when this page came from there.
    await page.route('**/from-elsewhere', (route) => route.fulfill({ contentType: 'text/html', body: '<body>' }));
    const localhosts = [`127.0.0.1:${victim}`, `localhost:${victim}`];
    for (const [from, hosts] of [
        [`${EVIL}:${home}`, [`${EVIL}:${home}`, ...localhosts]],
        [`127.0.0.1:${home}`, localhosts],
        [`${EVIL}:${victim}`, [`${EVIL}:${victim}`]],
    ]) {
        await page.goto(`http://${from}/from-elsewhere`);
        for (const host of hosts) {
            for (const [what, got] of await page.evaluate(attack, `http://${host}/`)) {
                console.log(`${from} tries on ${host} ${what}: ${got}`);
            }
        }
    }
    // Nobody keeps a page from sending its visitors there.
    await page.goto(`http://127.0.0.1:${victim}/?code=evil&state=guess`);
} finally {
    await browser.close();
    own.close();
}
