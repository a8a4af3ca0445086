#!/usr/bin/env bash
# a domain of one's own: its MX records say whose mailboxes it has, and no name server hears an address
# shellcheck source=tests/acceptance/lib.bash
. "$(dirname "$0")/../lib.bash"
needs node unshare ip mount

# A name server that knows the mail of a few domains, and writes down what it is asked.
cat >dns.mjs <<'END'
import { appendFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';

const mail = {
    'google.test': [[1, 'smtp.google.com']],
    'workspace.test': [[10, 'alt1.aspmx.l.google.com'], [5, 'aspmx.l.google.com']],
    'company.test': [[0, 'company-test.mail.protection.outlook.com']],
    'newer.test': [[0, 'company-test.a-v1.mx.microsoft']],
    'filtered.test': [[1, 'filter.elsewhere.test'], [9, 'in1-smtp.messagingengine.com']],
    'zoho.test': [[10, 'mx.zoho.eu']],
    'unknown.test': [[10, 'mail.unknown.test']],
};
const encoded = name => Buffer.concat([...name.split('.').map(it => Buffer.from([it.length, ...Buffer.from(it)])), Buffer.from([0])]);
const socket = createSocket('udp4');
socket.on('message', (query, from) => {
    const labels = [];
    let at = 12;
    for (; query[at] > 0; at += query[at] + 1) labels.push(query.toString('latin1', at + 1, at + 1 + query[at]));
    const name = labels.join('.'), type = query.readUInt16BE(at + 1);
    appendFileSync('asked', `${type} ${name}\n`);
    const hosts = type === 15 && mail[name] || [];
    const records = hosts.map(([preference, host]) => {
        const data = Buffer.concat([Buffer.from([0, preference]), encoded(host)]);
        return Buffer.concat([Buffer.from([0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, data.length]), data]);
    });
    const code = name in mail ? 0 : 3;
    const head = Buffer.from([query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, hosts.length, 0, 0, 0, 0]);
    socket.send(Buffer.concat([head, query.subarray(12, at + 5), ...records]), from.port, from.address);
});
socket.bind(53, '127.0.0.1', () => appendFileSync('asked', 'ready\n'));
END

# Everything in a network of its own, whose only name server this is.
echo 'nameserver 127.0.0.1' >resolv.conf
cat >questions.sh <<'END'
set -eu
ip link set lo up
mount --bind resolv.conf /etc/resolv.conf
node dns.mjs &
server=$!
trap 'kill $server' EXIT
while ! [ -e asked ]; do sleep 0.1; done
for domain in google workspace company newer filtered zoho unknown absent; do
    pizauth setup --print config "me@$domain.test" >"$domain" 2>"$domain.error" || echo "$?" >"$domain.status"
done
END
unshare -rnm sh questions.sh

found() {
    says "provider = \"$2\";" "$1"
    says "address = \"me@$1.test\";" "$1"
    fails grep -q . "$1.error"
}
found google google
found workspace google
found company microsoft
found newer microsoft
found filtered fastmail
says 'Zoho Mail has no OAuth2 for mail programs' zoho.error
for domain in unknown absent; do
    says "nothing is known of $domain.test" "$domain.error"
done
grep -q -x '15 company.test' asked || die 'nobody asked for MX records'
fails grep -e 'me@' -e '\bme\.' asked
