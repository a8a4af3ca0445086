// Where submitted mail ends: a small SMTP server without any security, for loopback only, that puts
// every message into its recipients' Maildirs; for those whose names start with "later", when they
// are tried a second time.
//
//   node sink.mjs <directory of the Maildirs>
//
// It writes its port to stdout as one line, and goes when its stdin closes.
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';

const mail = process.argv[2];
let count = 0;
const tried = new Set();

function deliver(recipient, message) {
    const name = `${Date.now()}.${process.pid}_${count++}.sink`;
    for (const part of ['cur', 'new', 'tmp']) {
        fs.mkdirSync(path.join(mail, recipient, part), { recursive: true });
    }
    fs.writeFileSync(path.join(mail, recipient, 'tmp', name), message);
    fs.renameSync(path.join(mail, recipient, 'tmp', name), path.join(mail, recipient, 'new', name));
}

const serve = net.createServer((socket) => {
    const say = (line) => socket.write(`${line}\r\n`);
    let rest = '';
    let recipients = [];
    let body = null;

    function take(line) {
        if (body !== null) {
            if (line !== '.') return void body.push(line.replace(/^\./, ''));
            recipients.forEach((recipient) => deliver(recipient, body.join('\n') + '\n'));
            recipients = [];
            body = null;
            return say('250 2.0.0 delivered');
        }
        const [verb] = line.toUpperCase().split(' ');
        const recipient = line.match(/^RCPT TO:<([\w.@+-]+)>/i)?.[1];
        if (verb === 'EHLO') return say('250-sink\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES');
        if (verb === 'QUIT') return void (say('221 2.0.0 bye'), socket.end());
        if (verb === 'RCPT' && !recipient) return say('550 5.1.1 no such address');
        if (verb === 'RCPT' && recipient.startsWith('later') && !tried.has(recipient)) {
            tried.add(recipient);
            return say('450 4.2.0 try again later');
        }
        if (verb === 'RCPT') recipients.push(recipient);
        if (verb === 'DATA') {
            body = [];
            return say('354 go on');
        }
        return say('250 2.0.0 OK');
    }

    socket.setEncoding('latin1');
    socket.on('data', (text) => {
        const lines = (rest + text).split('\r\n');
        rest = lines.pop();
        lines.forEach(take);
    });
    socket.on('error', () => socket.destroy());
    say('220 sink ESMTP');
});
serve.listen(0, '127.0.0.1', () => console.log(serve.address().port));
process.stdin.on('end', () => process.exit()).resume();
