// Somebody in front of a real Chromium, headless: opens an address, signs in, and consents.
//
//   node browser.mjs [--deny] [--elsewhere] [--code <user code>] [--shot <file>] <login> <address>
//
// It prints the text of the page on which that ends. With --deny, consent is refused. With
// --elsewhere the browser runs on another machine, as it were: the redirect finds nobody, and what
// is printed is the address that the browser was sent to, as somebody would copy it.
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

// How long Chromium may take for a page, in milliseconds: its first start is slow.
const PATIENCE = 60_000;
// More pages than this between an address and its end are going round in circles.
const MOST_PAGES = 12;

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        deny: { type: 'boolean' },
        elsewhere: { type: 'boolean' },
        code: { type: 'string' },
        shot: { type: 'string' },
    },
});
const [login, address] = positionals;
let provider = new URL(address).origin;

// What a page of the provider asks for: its mark, and what somebody does there.
const pages = [
    ['input[name=login]', async (page) => {
        await page.fill('input[name=login]', login);
        await page.fill('input[name=password]', 'any');
        return '[type=submit]';
    }],
    ['input[name=prompt][value=consent]', () => (options.deny ? 'text=[ Cancel ]' : '[type=submit]')],
    ['[form="op.deviceConfirmForm"]', () => (options.deny ? '[name=abort]' : 'button[autofocus]')],
    ['input[name=user_code][type=text]', async (page) => {
        if (!options.code) return null;
        await page.fill('input[name=user_code]', options.code);
        options.code = undefined;
        return '[type=submit]';
    }],
];

async function whatToClick(page) {
    for (const [mark, act] of pages) {
        if (await page.locator(mark).count()) return act(page);
    }
    return null;
}

// Where the provider sends the browser, if that isn't the provider itself.
let sentTo = null;
function watchRedirects(response) {
    const location = response.headers().location;
    if (response.url().startsWith(provider) && location) {
        const target = new URL(location, response.url());
        if (target.origin !== provider) sentTo = target.href;
    }
}

async function walk(page) {
    await page.goto(address, { waitUntil: 'load' });
    // A short address leads on when the provider has taken the request.
    while ((await page.title()).includes('Going on to the provider')) {
        await page.waitForNavigation({ waitUntil: 'load' });
    }
    provider = new URL(page.url()).origin;
    for (let count = 0; count < MOST_PAGES; count++) {
        if (!page.url().startsWith(provider)) return;
        const button = await whatToClick(page);
        if (!button) return;
        await Promise.all([page.waitForNavigation({ waitUntil: 'load' }), page.click(button)]);
    }
    throw new Error(`no end after ${MOST_PAGES} pages, at ${page.url()}`);
}

// What Chromium can find: pages that want a font from the Internet do without. On another machine,
// localhost is that machine, where nobody listens.
const hosts = options.elsewhere ? 'EXCLUDE 127.0.0.1' : 'EXCLUDE 127.0.0.1, EXCLUDE localhost';

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
        '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
        '--disable-background-networking', '--disable-component-update',
        `--host-resolver-rules=MAP * ~NOTFOUND, ${hosts}`,
    ],
});
try {
    // The provider's authority is the tests' own, and pizauth's https certificate is its own.
    const page = await browser.newPage({ ignoreHTTPSErrors: true });
    page.setDefaultTimeout(PATIENCE);
    page.on('response', watchRedirects);
    if (options.elsewhere) {
        await walk(page).catch((error) => {
            if (!sentTo) throw error;
        });
        console.log(sentTo);
    } else {
        await walk(page);
        // The page shows the outcome by itself.
        while ((await page.title()).includes('still being authorised')) {
            await page.waitForNavigation({ waitUntil: 'load' });
        }
        if (options.shot) await page.screenshot({ path: options.shot });
        console.log(await page.innerText('body'));
    }
} finally {
    await browser.close();
}
