//! Stories of a guest's TCP connections. Each failed before the kernel's patch that its comment names.

use launcher::Entry;

use super::{image, request, seen};

/// Patch 0024.
#[test]
#[ignore = "boots virtual machines"]
fn a_listener_knows_its_port() {
    let said = |port: u16| {
        seen(&request(
            image(),
            Entry::Direct,
            &format!("probe local-address {port}"),
        ))
        .console
    };
    assert_eq!(said(9000), "0.0.0.0:9000\n");
    let chosen = said(0);
    let port = chosen
        .strip_prefix("0.0.0.0:")
        .and_then(|port| port.trim_end().parse().ok());
    assert!(port.is_some_and(|port: u16| port >= 49152), "{chosen}");
}
