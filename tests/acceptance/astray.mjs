// Whether any secret was where it must not be.
//
//   node astray.mjs <the run's directory> <directory with logs>...
//
// Every secret that a provider's servers were shown must be one that this provider issued, and no
// file in those directories may contain one, unless its name starts with "secret".
import fs from 'node:fs';
import path from 'node:path';

const [world, ...directories] = process.argv.slice(2);
const entries = (provider) =>
    fs.readFileSync(path.join(world, provider, 'op.log'), 'utf8').split('\n').filter(Boolean).map(JSON.parse);
const issued = {};
let astray = 0;

function complain(text) {
    console.log(text);
    astray++;
}

for (const provider of ['here', 'there']) {
    issued[provider] = new Set();
    for (const { what, secret } of entries(provider)) {
        if (what === 'issued') issued[provider].add(secret);
    }
}
for (const provider of ['here', 'there']) {
    const other = provider === 'here' ? 'there' : 'here';
    for (const { what, name, secret, to } of entries(provider)) {
        if (what === 'shown' && issued[other].has(secret)) {
            complain(`${provider} was shown at ${to} a ${name} that ${other} issued`);
        }
    }
}
const secrets = [...issued.here, ...issued.there];
for (const directory of directories) {
    for (const file of fs.readdirSync(directory, { withFileTypes: true })) {
        if (!file.isFile() || file.name.startsWith('secret')) continue;
        const text = fs.readFileSync(path.join(directory, file.name), 'latin1');
        if (secrets.some((secret) => text.includes(secret))) complain(`${file.name} contains a secret`);
    }
}
process.exit(astray ? 1 : 0);
