use super::*;

fn parse<T: FromStr<Err = ParseError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ParseError| error.to_string())
}

#[test]
fn reads_memory_in_every_unit() {
    for (text, mib) in [
        ("200M", 200),
        ("1G", 1024),
        ("65536k", 64),
        ("128", 128),
        ("2gib", 2048),
    ] {
        assert_eq!(parse::<Memory>(text).map(Memory::mib), Ok(mib), "{text}");
    }
}

#[test]
fn refuses_memory_that_is_none() {
    for (text, message) in [
        ("", "is not a size"),
        ("M", "is not a size"),
        ("-1M", "is not a size"),
        ("1.5G", "is not a size"),
        ("200Q", "unknown unit"),
        ("1M", "too small"),
        ("0", "too small"),
        ("9000K", "whole number of MiB"),
        ("2048G", "too large"),
        ("99999999999999999999G", "is not a size"),
        ("18446744073709551615G", "too large"),
        ("2é", "is not a size"),
    ] {
        let error = parse::<Memory>(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
    assert!(
        parse::<Memory>("1M")
            .unwrap_err()
            .contains(&Memory::MIN.to_string())
    );
}

#[test]
fn refuses_a_number_of_cpus_that_no_machine_has() {
    assert_eq!(parse::<Cpus>("4").map(Cpus::get), Ok(4));
    for text in ["0", "-1", "256", "two", ""] {
        assert!(parse::<Cpus>(text).unwrap_err().contains("1 to 255"), "{text}");
    }
}

#[test]
fn reads_mac_addresses_and_says_what_is_wrong_with_others() {
    let address = parse::<MacAddress>("A2:13:15:00:80:02").unwrap();
    assert_eq!(address.to_string(), "a2:13:15:00:80:02");
    assert_eq!(parse("a2-13-15-00-80-02"), Ok(address));
    for (text, message) in [
        ("A2:13:15:00:80", "too short"),
        ("A2:13:15:00:80:02:03", "too long"),
        ("A2:13:15:00:80:0g", "not a MAC"),
        ("A2:13:15:00:80:+1", "not a MAC"),
        ("A3:13:15:00:80:02", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "no card"),
        ("", "not a MAC"),
    ] {
        let error = parse::<MacAddress>(text).unwrap_err();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn derives_an_address_that_is_stable_local_and_unicast() {
    let of = |name: &str| MacAddress::of_instance(&name.parse().unwrap());
    // Pinned: a guest whose address changed with our version would lose its lease.
    assert_eq!(of("kv").to_string(), "02:6f:34:d8:c0:f0");
    assert_ne!(of("kv"), of("kv-2"));
    assert_eq!(of("kv").0[0] & (MAC_LOCAL | MAC_MULTICAST), MAC_LOCAL);
}

#[test]
fn refuses_names_that_are_no_folder_or_host() {
    for text in ["kv", "node-micro.db_2", "0"] {
        assert!(parse::<InstanceName>(text).is_ok(), "{text}");
    }
    for text in ["", ".", "..", "a/b", "-x", "a b", "é", &"x".repeat(300)] {
        assert!(parse::<InstanceName>(text).is_err(), "{text}");
    }
}

#[test]
fn refuses_names_that_no_network_device_has() {
    for text in ["br0", "eth0.100", "virbr0-nic", "fifteen-letters"] {
        assert_eq!(
            parse(text).map(|name: InterfaceName| name.to_string()),
            Ok(text.to_owned())
        );
    }
    for text in ["", ".", "..", "a/b", "a b", "tap%d", "a,b", "sixteen-letters-"] {
        assert!(parse::<InterfaceName>(text).is_err(), "{text}");
    }
}

#[test]
fn splits_a_label_at_its_first_equals_sign() {
    let label: Label = "org.example/tier=a=b".parse().unwrap();
    assert_eq!(
        (label.key.as_str(), label.value.as_str()),
        ("org.example/tier", "a=b")
    );
    assert_eq!(label.to_string(), "org.example/tier=a=b");
    for text in ["", "tier", "=x", "a b=c", "a=two\nlines"] {
        assert!(parse::<Label>(text).unwrap_err().contains("KEY=VALUE"), "{text}");
    }
}

#[test]
fn splits_a_variable_at_its_first_equals_sign() {
    let variable: Variable = "A=b=c".parse().unwrap();
    assert_eq!((variable.name(), variable.entry()), ("A", "A=b=c"));
    assert!(parse::<Variable>("PORT").unwrap_err().contains("NAME=VALUE"));
    assert!(parse::<Variable>("=x").is_err());
}
