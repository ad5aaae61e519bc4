//! What a boot is told, and what a guest tells: from a partition of an image, and from a serial port.

use std::collections::BTreeMap;

use hermitage_boot::control::{Record, Request};
use hermitage_boot::{BootConfig, config, seal, sets};

/// What is read can be written again, and is the same then.
pub(crate) fn check_config(input: &[u8]) {
    if let Ok(read) = BootConfig::decode(input) {
        let written = read.encode().map(|bytes| BootConfig::decode(&bytes));
        assert!(written.is_err() || written.is_ok_and(|again| again.as_ref() == Ok(&read)));
    }
    let _ = sets::decode(input);
    let _ = seal::check(input);
    if let Some((header, _)) = input.split_first_chunk() {
        let _ = config::encoded_length(header);
    }
    let _ = config::split_command_line(&String::from_utf8_lossy(input));
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    let config = BootConfig {
        arguments: vec![b"kv".to_vec(), b"two words".to_vec()],
        environment: vec![b"PORT=9000".to_vec(), b"EMPTY=".to_vec()],
        ..BootConfig::default()
    };
    let sets = BTreeMap::from([("debug".to_owned(), config.clone())]);
    let mut seeds = vec![b"kv --port '9000' \"a b\"".to_vec()];
    seeds.extend(config.encode());
    seeds.extend(sets::encode(Some(&config), &sets));
    seeds
}

/// Lines of the control channel, as a guest may write them.
pub(crate) fn check_control(input: &[u8]) {
    for line in String::from_utf8_lossy(input).lines() {
        let _ = Record::parse(line);
        let _ = Request::parse(line);
    }
}

pub(crate) fn control_seeds() -> Vec<Vec<u8>> {
    [
        "end exit 0\nend panic 101 src/main.rs:3:4: it broke\n",
        "mark listen 123456789\nkhz 2600000\n",
        "end fault 139 page fault at 0x0, ip 0x100000\naddress 10.0.2.15/24\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
