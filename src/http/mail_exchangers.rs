//! Which hosts take a domain's mail: its MX records (RFC 1035, 3.3.9), asked of the system's name
//! servers. The C library looks up addresses only. The answer comes without proof, so it may say which
//! known provider a domain belongs to, and nothing else.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};

/// How often a name server is asked: the three that resolv.conf(5) may name once each, or one three
/// times, since UDP loses packets.
const TRIES: usize = 3;

/// How long one of them may take: a user is waiting, and three seconds are enough for all.
const TRY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer may be, in bytes (RFC 1035, 4.2.1). Of a longer one the server sends what fits.
const MAX_ANSWER: usize = 512;

/// The hosts that take the mail of `domain`, the preferred first; none where that can't be known.
pub fn mail_exchangers(domain: &str) -> Vec<String> {
    // A proxy looks names up itself, and the network here needn't hear of them.
    let text = match super::proxy() {
        Ok(None) => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        _ => String::new(),
    };
    of(&name_servers(&text), domain)
}

/// The same, from one of these name servers.
fn of(servers: &[SocketAddr], domain: &str) -> Vec<String> {
    let mut tries = servers.iter().cycle().take(TRIES);
    let answer = tries.find_map(|server| ask(*server, domain));
    let mut hosts = answer.unwrap_or_default();
    hosts.sort();
    hosts.into_iter().map(|(_, host)| host).collect()
}

/// The name servers that resolv.conf(5) names.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let values = text.lines().filter_map(|it| it.strip_prefix("nameserver"));
    let addresses = values.filter_map(|it| it.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses.map(|address| (address, 53).into()).collect()
}

/// What one name server says; `None` if it may be worth asking again.
fn ask(server: SocketAddr, domain: &str) -> Option<Vec<(u16, String)>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    let query = query(id, domain)?;
    let any = match server.is_ipv4() {
        true => "0.0.0.0:0",
        false => "[::]:0",
    };
    let socket = UdpSocket::bind(any).ok()?;
    // From then on the system takes nothing from other addresses.
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(TRY_TIMEOUT)).ok()?;
    socket.send(&query).ok()?;
    let mut answer = [0; MAX_ANSWER];
    let length = socket.recv(&mut answer).ok()?;
    read(&query, answer.get(..length)?)
}

/// The question for the MX records of `domain`; `None` if that can't be a name.
fn query(id: [u8; 2], domain: &str) -> Option<Vec<u8>> {
    let has_gap = domain.split('.').any(str::is_empty);
    let name = Name::new(domain).ok().filter(|_| !has_gap)?;
    let mut query = Packet::new_query(u16::from_be_bytes(id));
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Question::new(name, TYPE::MX.into(), CLASS::IN.into(), false);
    query.questions.push(question);
    query.build_bytes_vec().ok()
}

/// The preferences and hosts in an answer to `query`; `None` if it is no definite one.
fn read(query: &[u8], answer: &[u8]) -> Option<Vec<(u16, String)>> {
    let question = answer.get(12..query.len())?;
    let is_same =
        answer.get(..2) == query.get(..2) && question.eq_ignore_ascii_case(query.get(12..)?);
    let answer = Packet::parse(answer).ok()?;
    let is_answer = answer.has_flags(PacketFlag::RESPONSE) && answer.questions.len() == 1;
    // There is such a name, or there isn't (NXDOMAIN).
    let is_definite = matches!(answer.rcode(), RCODE::NoError | RCODE::NameError);
    let hosts = answer.answers.into_iter().filter_map(|it| match it.rdata {
        RData::MX(mx) if it.class == CLASS::IN => Some((mx.preference, mx.exchange.to_string())),
        _ => None,
    });
    (is_same && is_answer && is_definite).then(|| hosts.collect())
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, thread};

    use super::*;

    /// An answer to `query`, with so many records.
    fn answer(query: &[u8], code: u8, count: u8, records: &[u8]) -> Vec<u8> {
        let head = [
            &query[..2],
            &[0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0],
        ]
        .concat();
        [&head, &query[12..], records].concat()
    }

    /// A record of the name in the question.
    fn record(kind: u8, data: &[u8]) -> Vec<u8> {
        let head = [0xc0, 12, 0, kind, 0, 1, 0, 0, 1, 0, 0];
        let length = u8::try_from(data.len()).unwrap();
        [&head[..], &[length], data].concat()
    }

    fn name_of(text: &str) -> Vec<u8> {
        query([0; 2], text).unwrap()[12..]
            .split_last_chunk::<4>()
            .unwrap()
            .0
            .to_vec()
    }

    fn mx(preference: u8, host: &[u8]) -> Vec<u8> {
        record(15, &[&[0, preference], host].concat())
    }

    #[test]
    fn an_answer_counts_if_it_is_one_to_the_question() {
        let query = query([7, 9], "example.org").unwrap();
        assert_eq!(&query[12..], b"\x07example\x03org\0\0\x0f\0\x01");
        let google = mx(10, &name_of("aspmx.l.google.com"));
        // "mail" in front of the question's own name.
        let own = mx(5, b"\x04mail\xc0\x0c");
        let alias = record(5, &name_of("elsewhere.example"));
        let both = [&alias[..], &google, &own].concat();
        let found = |hosts: &[(u16, &str)]| {
            let hosts = hosts
                .iter()
                .map(|(preference, host)| (*preference, (*host).to_owned()));
            Some(hosts.collect::<Vec<_>>())
        };
        let (first, second) = ((10, "aspmx.l.google.com"), (5, "mail.example.org"));
        let whole = answer(&query, 0, 3, &both);
        let change = |at: usize, byte: u8| {
            let mut changed = whole.clone();
            changed[at] = byte;
            changed
        };
        for (what, answer, expected) in [
            ("two", whole.clone(), found(&[first, second])),
            (
                "capitals",
                change(19, b'E'),
                found(&[first, (5, "mail.examplE.org")]),
            ),
            ("no such name", answer(&query, 3, 0, &[]), found(&[])),
            (
                "no mail (RFC 7505)",
                answer(&query, 0, 1, &mx(0, &[0])),
                found(&[(0, "")]),
            ),
            (
                "more records than there are",
                answer(&query, 0, 200, &both),
                None,
            ),
            (
                "cut off",
                answer(&query, 0, 3, &both[..both.len() - 1]),
                None,
            ),
            (
                "of another class",
                answer(&query, 0, 1, &[&google[..5], &[3], &google[6..]].concat()),
                found(&[]),
            ),
            (
                "without a host",
                answer(&query, 0, 1, &record(15, &[0])),
                None,
            ),
            (
                "a pointer to itself",
                answer(&query, 0, 1, &mx(1, &[0xc0, 43])),
                None,
            ),
            (
                "pointers in a ring",
                answer(&query, 0, 1, &mx(1, &[1, b'a', 0xc0, 43])),
                None,
            ),
            (
                "a pointer ahead",
                answer(&query, 0, 1, &mx(1, &[0xff, 0xff])),
                None,
            ),
            (
                "a label of a kind unknown",
                answer(&query, 0, 1, &mx(1, &[64, 0])),
                None,
            ),
            (
                "a label that is no text",
                answer(&query, 0, 1, &mx(1, &[1, 0xff, 0])),
                found(&[(1, "\u{fffd}")]),
            ),
            (
                "a name without end",
                answer(&query, 0, 1, &mx(1, &[9, b'a'])),
                None,
            ),
            ("another id", change(1, 8), None),
            ("a question", change(2, 1), None),
            ("a server's failure", change(3, 2), None),
            ("refused", change(3, 5), None),
            ("two questions", change(5, 2), None),
            ("another name", change(13, b'f'), None),
            ("another type", change(query.len() - 3, 1), None),
            ("nothing", Vec::new(), None),
            ("a head alone", whole[..12].to_vec(), None),
        ] {
            assert_eq!(read(&query, &answer), expected, "{what}");
        }
        // Whatever comes, it is read to an end.
        for length in 0..whole.len() {
            let _ = read(&query, &whole[..length]);
            for byte in 0..=u8::MAX {
                let _ = read(&query, &change(length, byte));
            }
        }
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for domain in ["", ".", "a..b", "example.org.", &"a".repeat(64)] {
            assert_eq!(query([0; 2], domain), None, "{domain}");
        }
    }

    #[test]
    fn the_systems_name_servers_are_asked() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1\n\
                    nameserver\t2001:db8::1 # second\nnameserver nonsense\nnameservers 192.0.2.8\n";
        let servers: Vec<String> = name_servers(text)
            .iter()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert!(name_servers("").is_empty());
    }

    #[test]
    fn a_server_is_asked_for_the_domain_and_another_one_where_it_says_nothing_of_use() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let broken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = [broken.local_addr().unwrap(), socket.local_addr().unwrap()];
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; MAX_ANSWER];
                let (length, from) = broken.recv_from(&mut bytes).unwrap();
                broken
                    .send_to(&answer(&bytes[..length], 2, 0, &[]), from)
                    .unwrap();
                let (length, from) = socket.recv_from(&mut bytes).unwrap();
                let query = &bytes[..length];
                assert_eq!(&query[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
                let hosts = ["b.example", "a.example"].map(name_of);
                let records = [mx(20, &hosts[0]), mx(10, &hosts[1])].concat();
                socket
                    .send_to(&answer(query, 0, 2, &records), from)
                    .unwrap();
            });
            assert_eq!(of(&at, "example.org"), ["a.example", "b.example"]);
        });
    }
}
