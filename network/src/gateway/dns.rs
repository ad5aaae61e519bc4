//! DNS (RFC 1035): names of the network are answered here, all others by the host's own server.

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::names::{Found, Names};

/// Seconds for which an answer may be kept: services come and go.
const TTL: u32 = 5;

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask the host's server.
    AskHost,
    /// It is no query.
    Ignore,
}

/// Answers a query.
pub(crate) fn answer(query: &[u8], names: &mut Names) -> Answer {
    let Ok(query) = Packet::parse(query) else {
        return Answer::Ignore;
    };
    // One question a query, as all servers have it.
    let [question] = query.questions.as_slice() else {
        return Answer::Ignore;
    };
    if query.has_flags(PacketFlag::RESPONSE) {
        return Answer::Ignore;
    }
    let found = names.find(&question.qname.to_string());
    if found == Found::Elsewhere {
        return Answer::AskHost;
    }
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    let asks_for_a = matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY)
        && matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    match found {
        Found::Addresses(addresses) if asks_for_a => {
            reply.answers = addresses
                .into_iter()
                .map(|address| {
                    let data = RData::A(A {
                        address: address.to_bits(),
                    });
                    ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data)
                })
                .collect();
        }
        // The name is there, but has nothing of that type: an empty answer without an error.
        Found::Addresses(_) => {}
        Found::Nobody | Found::Elsewhere => *reply.rcode_mut() = RCODE::NameError,
    }
    reply.questions.push(question.clone());
    reply
        .build_bytes_vec_compressed()
        .map_or(Answer::Ignore, Answer::Reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Name, Question};
    use std::net::Ipv4Addr;

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let name = Name::new_unchecked(name);
        packet
            .questions
            .push(Question::new(name, kind.into(), CLASS::IN.into(), false));
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.build_bytes_vec().unwrap()
    }

    fn names() -> Names {
        let mut names = Names::new("app");
        names.add("kv", Ipv4Addr::new(10, 1, 0, 2));
        names
    }

    fn reply(query: &[u8]) -> (RCODE, Vec<Ipv4Addr>) {
        let Answer::Reply(bytes) = answer(query, &mut names()) else {
            panic!("no reply");
        };
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 7);
        assert_eq!(packet.questions.len(), 1);
        let address = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => Ipv4Addr::from_bits(a.address),
            other => panic!("{other:?}"),
        };
        (packet.rcode(), packet.answers.iter().map(address).collect())
    }

    #[test]
    fn answers_for_the_network_and_asks_the_host_for_the_world() {
        let address = Ipv4Addr::new(10, 1, 0, 2);
        assert_eq!(
            reply(&query("kv.app.internal", TYPE::A)),
            (RCODE::NoError, vec![address])
        );
        assert_eq!(reply(&query("kv", TYPE::AAAA)), (RCODE::NoError, vec![]));
        assert_eq!(reply(&query("db", TYPE::A)), (RCODE::NameError, vec![]));
        assert_eq!(
            answer(&query("example.org", TYPE::A), &mut names()),
            Answer::AskHost
        );
    }

    #[test]
    fn ignores_what_is_no_query() {
        let mut names = names();
        let reply = Packet::new_reply(1).build_bytes_vec().unwrap();
        let mut cut = query("kv", TYPE::A);
        cut.truncate(14);
        for bytes in [&[][..], &[0; 12], &reply, &cut] {
            assert_eq!(answer(bytes, &mut names), Answer::Ignore, "{bytes:?}");
        }
    }
}
