//! What a guest is told: the image's own configuration, with what the request says in its place.

use hermitage_boot::config::split_command_line;
use hermitage_boot::{BootConfig, BootSets, StaticAddress};

use super::RunRequest;
use crate::error::Error;
use crate::network::Link;

/// What the image is started with by itself: the boot set that the request names, or else the default.
///
/// # Errors
/// There is no such set.
pub fn own_config(
    request: &RunRequest,
    default: Option<BootConfig>,
    mut sets: BootSets,
) -> Result<Option<BootConfig>, Error> {
    let Some(name) = &request.boot_set else {
        return Ok(default);
    };
    match sets.remove(name) {
        Some(config) => Ok(Some(config)),
        None => Err(Error::NoBootSet {
            image: request.image.clone(),
            name: name.clone(),
            known: sets.into_keys().collect(),
        }),
    }
}

/// The image's default, with what the request says in its place.
///
/// # Errors
/// A command that cannot be split, is empty or larger than a guest takes.
pub(super) fn boot_config(
    request: &RunRequest,
    default: Option<&BootConfig>,
    link: &Link,
) -> Result<BootConfig, Error> {
    let mut boot = default.cloned().unwrap_or_default();
    if let Some(line) = &request.command {
        boot.arguments = split_command_line(line).map_err(|source| Error::Command {
            line: line.clone(),
            source,
        })?;
    }
    if boot.arguments.is_empty() {
        return Err(match request.command {
            Some(_) => Error::EmptyCommand,
            None => Error::NoCommand {
                image: request.image.clone(),
            },
        });
    }
    for variable in &request.environment {
        let name = variable.name().as_bytes();
        let same_name = |entry: &Vec<u8>| entry.split(|&b| b == b'=').next() == Some(name);
        boot.environment.retain(|entry| !same_name(entry));
        boot.environment.push(variable.entry().as_bytes().to_vec());
    }
    boot.address = request.address.map(|cidr| StaticAddress {
        cidr,
        gateway: request.gateway.or(link.gateway()),
    });
    boot.name_servers.clone_from(&request.name_servers);
    if boot.name_servers.is_empty() && boot.address.is_some() {
        // Without a lease nobody else tells.
        boot.name_servers.extend(link.name_server());
    }
    boot.verbose = request.verbose;
    boot.trace = request.trace;
    // What cannot be encoded is refused here, before anything exists.
    boot.encode()?;
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::subnet::UserSubnet;

    fn request() -> RunRequest {
        RunRequest::new("kv.qcow2", "kv".parse().unwrap())
    }

    fn default() -> BootConfig {
        BootConfig {
            arguments: vec![b"kv".to_vec()],
            environment: vec![b"PORT=9000".to_vec(), b"MODE=slow".to_vec()],
            ..BootConfig::default()
        }
    }

    fn told(request: &RunRequest) -> BootConfig {
        boot_config(request, Some(&default()), &Link::User(None)).unwrap()
    }

    #[test]
    fn runs_the_images_command_in_its_environment() {
        assert_eq!(told(&request()), default());
    }

    #[test]
    fn a_given_address_comes_with_what_the_network_knows() {
        let address = RunRequest {
            address: Some("192.168.7.9/24".parse().unwrap()),
            ..request()
        };
        let user = Link::User(Some(UserSubnet {
            guest: "192.168.7.9/24".parse().unwrap(),
            gateway: "192.168.7.1".parse().unwrap(),
            name_server: "192.168.7.2".parse().unwrap(),
        }));
        let boot = boot_config(&address, Some(&default()), &user).unwrap();
        let given = boot.address.unwrap();
        assert_eq!(given.cidr.to_string(), "192.168.7.9/24");
        assert_eq!(given.gateway, Some("192.168.7.1".parse().unwrap()));
        assert_eq!(
            boot.name_servers,
            ["192.168.7.2".parse::<std::net::Ipv4Addr>().unwrap()]
        );

        let all = RunRequest {
            gateway: Some("192.168.7.254".parse().unwrap()),
            name_servers: vec!["9.9.9.9".parse().unwrap()],
            ..address
        };
        let boot = boot_config(&all, Some(&default()), &user).unwrap();
        assert_eq!(boot.address.unwrap().gateway, all.gateway);
        assert_eq!(boot.name_servers, all.name_servers);

        // With a lease, its name server counts unless another is given.
        assert!(told(&request()).name_servers.is_empty());
    }

    #[test]
    fn a_command_replaces_the_images_and_keeps_its_environment() {
        let command = Some("db 'a b'  \"it's\"".to_owned());
        let boot = told(&RunRequest { command, ..request() });
        assert_eq!(
            boot.arguments,
            [b"db".to_vec(), b"a b".to_vec(), b"it's".to_vec()]
        );
        assert_eq!(boot.environment, default().environment);
    }

    #[test]
    fn a_variable_replaces_the_images_of_that_name_and_keeps_the_command() {
        let environment = ["PORT=80", "PORT=81", "PORTS=1"].map(|text| text.parse().unwrap());
        let request = RunRequest {
            environment: environment.to_vec(),
            ..request()
        };
        let boot = told(&request);
        assert_eq!(boot.arguments, default().arguments);
        assert_eq!(
            boot.environment,
            [b"MODE=slow".to_vec(), b"PORT=81".to_vec(), b"PORTS=1".to_vec()]
        );
    }

    #[test]
    fn a_command_beats_a_boot_set_which_beats_the_default() {
        let sets = || BootSets::from([("debug".to_owned(), debug())]);
        let own = |request: &RunRequest| own_config(request, Some(default()), sets()).unwrap();
        assert_eq!(own(&request()), Some(default()));
        let chosen = RunRequest {
            boot_set: Some("debug".to_owned()),
            environment: vec!["MODE=fast".parse().unwrap()],
            ..request()
        };
        let boot = boot_config(&chosen, own(&chosen).as_ref(), &Link::User(None)).unwrap();
        assert_eq!(boot.arguments, debug().arguments);
        assert_eq!(boot.environment, [b"MODE=fast".to_vec()]);
        let command = Some("db".to_owned());
        let both = RunRequest { command, ..chosen };
        let boot = boot_config(&both, own(&both).as_ref(), &Link::User(None)).unwrap();
        assert_eq!(boot.arguments, [b"db".to_vec()]);
        assert_eq!(boot.environment, [b"MODE=fast".to_vec()]);

        let unknown = RunRequest {
            boot_set: Some("debgu".to_owned()),
            ..request()
        };
        let error = own_config(&unknown, Some(default()), sets()).unwrap_err();
        assert!(matches!(error, Error::NoBootSet { known, .. } if known == ["debug"]));
    }

    fn debug() -> BootConfig {
        BootConfig {
            arguments: vec![b"kv".to_vec(), b"--debug".to_vec()],
            ..BootConfig::default()
        }
    }

    #[test]
    fn refuses_commands_that_no_guest_can_take() {
        let command = |line: &str| RunRequest {
            command: Some(line.to_owned()),
            ..request()
        };
        let refused =
            |request: RunRequest| boot_config(&request, Some(&default()), &Link::User(None)).unwrap_err();
        assert!(matches!(refused(command("kv 'open")), Error::Command { .. }));
        assert!(matches!(refused(command("  ")), Error::EmptyCommand));
        assert!(matches!(
            refused(command(&"x ".repeat(10_000))),
            Error::BootConfig(_)
        ));
        assert!(matches!(
            boot_config(&request(), None, &Link::User(None)).unwrap_err(),
            Error::NoCommand { .. }
        ));
    }
}
