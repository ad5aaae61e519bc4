//! From what a user asks for to what a machine is: [`RunRequest`] to [`MachineSpec`], by a pure function.

use std::path::PathBuf;

use hermitage_boot::config::split_command_line;
use hermitage_boot::{BootConfig, BootSets};
use serde::{Deserialize, Serialize};

use crate::accelerator::{Accelerator, AcceleratorChoice};
use crate::error::Error;
use crate::forward::{Forward, refuse_clashes};
use crate::units::{Cpus, InstanceName, MacAddress, Memory, Variable};

/// How a guest is connected. More follow: tap, bridge, vhost, a rootless LAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// QEMU's user network: a NAT of its own for each guest; needs no rights.
    #[default]
    User,
}

/// The way into the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// QEMU loads the image's loader itself.
    #[default]
    Direct,
    /// The BIOS boots the disk, as on any other host.
    Disk,
}

/// What the machine runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A PC's BIOS (SeaBIOS), which QEMU takes by itself.
    Bios,
    /// qboot: no boot from disks, and 25 ms of 117 faster to the end of a program that prints a line.
    Qboot,
}

/// What this host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Whether QEMU has qboot.
    pub has_qboot: bool,
}

/// What a user asks for. Each field is valid by itself.
///
/// It is kept in `instance.json`, so that a stopped instance can be started again. A field that is added later has
/// `#[serde(default)]`: the instances that exist do not say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The image's file.
    pub image: PathBuf,
    /// The instance's name.
    pub name: InstanceName,
    /// Memory.
    pub memory: Memory,
    /// Virtual CPUs.
    pub cpus: Cpus,
    /// MAC address; derived from the name if `None`.
    pub mac: Option<MacAddress>,
    /// Command line, split by shell rules; the image's own if `None`.
    pub command: Option<String>,
    /// Name of the boot set whose command and environment are the image's own; its default if `None`.
    #[serde(default)]
    pub boot_set: Option<String>,
    /// Variables that are added to the image's environment, or replace those of the same name.
    pub environment: Vec<Variable>,
    /// Network.
    pub network: Network,
    /// Port forwards.
    pub forwards: Vec<Forward>,
    /// The way into the image.
    pub entry: Entry,
    /// Accelerator.
    pub accelerator: AcceleratorChoice,
    /// CPU model, as QEMU writes it; all that the accelerator has if `None`.
    pub cpu_model: Option<String>,
    /// Whether loader and kernel print what they do.
    pub verbose: bool,
    /// Whether the guest marks the points of its boot.
    pub trace: bool,
}

impl RunRequest {
    /// A request for the image's default command, in a machine of default size.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>, name: InstanceName) -> Self {
        Self {
            image: image.into(),
            name,
            memory: Memory::DEFAULT,
            cpus: Cpus::ONE,
            mac: None,
            command: None,
            boot_set: None,
            environment: Vec::new(),
            network: Network::default(),
            forwards: Vec::new(),
            entry: Entry::default(),
            accelerator: AcceleratorChoice::default(),
            cpu_model: None,
            verbose: false,
            trace: false,
        }
    }
}

/// What a machine is: all that its QEMU command line and its boot configuration follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// The instance's name.
    pub name: InstanceName,
    /// Memory.
    pub memory: Memory,
    /// Virtual CPUs.
    pub cpus: Cpus,
    /// MAC address.
    pub mac: MacAddress,
    /// Network.
    pub network: Network,
    /// Port forwards, no two from one port of the host.
    pub forwards: Vec<Forward>,
    /// The way into the image.
    pub entry: Entry,
    /// Firmware.
    pub firmware: Firmware,
    /// Accelerator.
    pub accelerator: Accelerator,
    /// CPU model; all that the accelerator has if `None`.
    pub cpu_model: Option<String>,
    /// What the guest is told.
    pub boot: BootConfig,
}

impl MachineSpec {
    /// Decides everything that a machine is.
    ///
    /// # Errors
    /// A command that cannot be split, is empty or larger than a guest takes; two forwards of one port.
    pub fn new(request: &RunRequest, default: Option<&BootConfig>, host: Host) -> Result<Self, Error> {
        refuse_clashes(&request.forwards)?;
        let boot = boot_config(request, default)?;
        Ok(Self {
            name: request.name.clone(),
            memory: request.memory,
            cpus: request.cpus,
            mac: request
                .mac
                .unwrap_or_else(|| MacAddress::of_instance(&request.name)),
            network: request.network,
            forwards: request.forwards.clone(),
            entry: request.entry,
            firmware: match request.entry {
                Entry::Direct if host.has_qboot => Firmware::Qboot,
                Entry::Direct | Entry::Disk => Firmware::Bios,
            },
            accelerator: host.accelerator,
            cpu_model: request.cpu_model.clone(),
            boot,
        })
    }
}

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
fn boot_config(request: &RunRequest, default: Option<&BootConfig>) -> Result<BootConfig, Error> {
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
    boot.verbose = request.verbose;
    boot.trace = request.trace;
    // What cannot be encoded is refused here, before anything exists.
    boot.encode()?;
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Host = Host {
        accelerator: Accelerator::Tcg,
        has_qboot: true,
    };

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

    fn plan(request: &RunRequest, default: Option<&BootConfig>) -> Result<MachineSpec, Error> {
        MachineSpec::new(request, default, HOST)
    }

    #[test]
    fn a_request_is_read_back_as_it_was_kept() {
        let request = RunRequest {
            mac: Some("A2:13:15:00:80:02".parse().unwrap()),
            command: Some("kv 'a b'".to_owned()),
            environment: vec!["A=b=c".parse().unwrap()],
            forwards: vec!["9000:80/udp".parse().unwrap()],
            ..request()
        };
        let kept = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<RunRequest>(&kept).unwrap(), request);
        let changed = kept.replace("a2:13", "a3:13");
        let error = serde_json::from_str::<RunRequest>(&changed).unwrap_err();
        assert!(error.to_string().contains("multicast"), "{error}");
    }

    #[test]
    fn runs_the_images_command_in_its_environment() {
        let spec = plan(&request(), Some(&default())).unwrap();
        assert_eq!(spec.boot, default());
        assert_eq!(spec.mac, MacAddress::of_instance(&spec.name));
    }

    #[test]
    fn qboot_is_taken_where_it_is_and_can_boot() {
        for (entry, has_qboot, firmware) in [
            (Entry::Direct, true, Firmware::Qboot),
            (Entry::Direct, false, Firmware::Bios),
            (Entry::Disk, true, Firmware::Bios),
        ] {
            let request = RunRequest { entry, ..request() };
            let spec = MachineSpec::new(&request, Some(&default()), Host { has_qboot, ..HOST });
            assert_eq!(spec.unwrap().firmware, firmware, "{entry:?} {has_qboot}");
        }
    }

    #[test]
    fn a_command_replaces_the_images_and_keeps_its_environment() {
        let command = Some("db 'a b'  \"it's\"".to_owned());
        let boot = plan(&RunRequest { command, ..request() }, Some(&default()))
            .unwrap()
            .boot;
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
        let boot = plan(&request, Some(&default())).unwrap().boot;
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
        let boot = plan(&chosen, own(&chosen).as_ref()).unwrap().boot;
        assert_eq!(boot.arguments, debug().arguments);
        assert_eq!(boot.environment, [b"MODE=fast".to_vec()]);
        let command = Some("db".to_owned());
        let both = RunRequest { command, ..chosen };
        let boot = plan(&both, own(&both).as_ref()).unwrap().boot;
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
        let refused = |request: RunRequest| plan(&request, Some(&default())).unwrap_err();
        assert!(matches!(refused(command("kv 'open")), Error::Command { .. }));
        assert!(matches!(refused(command("  ")), Error::EmptyCommand));
        assert!(matches!(
            refused(command(&"x ".repeat(10_000))),
            Error::BootConfig(_)
        ));
        assert!(matches!(
            plan(&request(), None).unwrap_err(),
            Error::NoCommand { .. }
        ));
    }

    #[test]
    fn refuses_two_forwards_of_one_port() {
        let forwards = vec!["80:80".parse().unwrap(), "80:81".parse().unwrap()];
        let request = RunRequest {
            forwards,
            ..request()
        };
        assert!(matches!(
            plan(&request, Some(&default())).unwrap_err(),
            Error::ForwardsClash { .. }
        ));
    }
}
