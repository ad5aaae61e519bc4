//! From what a user asks for to what a machine is: [`RunRequest`] to [`MachineSpec`], by a pure function.

mod boot;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use hermitage_boot::{BootConfig, Ipv4Cidr};
use serde::{Deserialize, Serialize};

use crate::accelerator::{Accelerator, AcceleratorChoice};
use crate::cpu::{CpuModel, HostCpu, has_rdrand};
use crate::error::Error;
use crate::forward::{Forward, refuse_clashes};
use crate::network::host::HostNetwork;
use crate::network::lan::CardChoice;
use crate::network::{self, Link, Network};
use crate::units::{Cpus, InstanceName, InterfaceName, Label, MacAddress, Memory, Variable, as_text};
use crate::volume::{Disk, Volume};

pub use boot::own_config;

/// Which machine QEMU emulates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineType {
    /// A PC of 1996 (i440FX) with PCI.
    #[default]
    Pc,
    /// A PC of 2009 (Q35) with PCI Express.
    Q35,
    /// A machine without PCI, made for guests that start fast.
    Microvm,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Its CPU.
    pub cpu: HostCpu,
    /// Whether QEMU has qboot.
    pub has_qboot: bool,
    /// Its networks.
    pub network: HostNetwork,
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
    /// CPU model; all that the accelerator has if `None`.
    pub cpu_model: Option<CpuModel>,
    /// Which machine.
    #[serde(default)]
    pub machine: MachineType,
    /// The bridge for a network that needs one.
    #[serde(default)]
    pub bridge: Option<InterfaceName>,
    /// The network card's address; leased by DHCP if `None`.
    #[serde(default, with = "as_text")]
    pub address: Option<Ipv4Cidr>,
    /// How its frames get to a rootless LAN.
    #[serde(default)]
    pub card: CardChoice,
    /// Names that it shares with others on a rootless LAN, beside its own.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The router, where the address is given.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers; those of the lease if there are none.
    #[serde(default)]
    pub name_servers: Vec<Ipv4Addr>,
    /// Disks that outlive the instance.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What the user notes about the instance.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Port of 127.0.0.1 on which the guest waits for a debugger; 0 is any free one.
    #[serde(default)]
    pub gdb_port: Option<u16>,
    /// More arguments for QEMU, which stand behind ours.
    #[serde(default)]
    pub qemu_arguments: Vec<String>,
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
            machine: MachineType::default(),
            bridge: None,
            address: None,
            card: CardChoice::default(),
            aliases: Vec::new(),
            gateway: None,
            name_servers: Vec::new(),
            volumes: Vec::new(),
            labels: Vec::new(),
            gdb_port: None,
            qemu_arguments: Vec::new(),
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
    /// Which machine.
    pub machine: MachineType,
    /// MAC address.
    pub mac: MacAddress,
    /// What the network card is connected to.
    pub link: Link,
    /// Port forwards, no two from one port of the host.
    pub forwards: Vec<Forward>,
    /// The way into the image.
    pub entry: Entry,
    /// Firmware.
    pub firmware: Firmware,
    /// Accelerator.
    pub accelerator: Accelerator,
    /// CPU model; all that the accelerator has if `None`.
    pub cpu_model: Option<CpuModel>,
    /// Whether the guest needs a device to draw entropy from, since its CPU has no RDRAND.
    pub entropy_device: bool,
    /// Disks beside the image's.
    pub volumes: Vec<Disk>,
    /// Port of 127.0.0.1 on which the guest waits for a debugger; 0 is any free one.
    pub gdb_port: Option<u16>,
    /// More arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// What the guest is told.
    pub boot: BootConfig,
}

impl MachineSpec {
    /// Decides everything that a machine is. `own` is the image's own configuration, `volumes` those of the request.
    ///
    /// # Errors
    /// A request whose parts do not fit together, or do not fit this host; a command that no guest can take.
    pub fn new(
        request: &RunRequest,
        own: Option<&BootConfig>,
        volumes: Vec<Disk>,
        host: &Host,
    ) -> Result<Self, Error> {
        refuse_clashes(&request.forwards)?;
        if request.machine == MachineType::Microvm && request.entry == Entry::Disk {
            return Err(Error::NoDiskBoot);
        }
        let link = network::connect(request, &host.network)?;
        Ok(Self {
            name: request.name.clone(),
            memory: request.memory,
            cpus: request.cpus,
            machine: request.machine,
            mac: request
                .mac
                .unwrap_or_else(|| MacAddress::of_instance(&request.name)),
            forwards: request.forwards.clone(),
            entry: request.entry,
            firmware: match request.entry {
                Entry::Direct if host.has_qboot => Firmware::Qboot,
                Entry::Direct | Entry::Disk => Firmware::Bios,
            },
            accelerator: host.accelerator,
            cpu_model: request.cpu_model.clone(),
            entropy_device: !has_rdrand(request.cpu_model.as_ref(), host.accelerator, host.cpu),
            volumes,
            gdb_port: request.gdb_port,
            qemu_arguments: request.qemu_arguments.clone(),
            boot: boot::boot_config(request, own, &link)?,
            link,
        })
    }
}

impl MachineSpec {
    /// The program of the image that runs: the first word of the command.
    #[must_use]
    pub fn role(&self) -> String {
        let role = self.boot.arguments.first().map_or(&[][..], Vec::as_slice);
        String::from_utf8_lossy(role).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            accelerator: Accelerator::Tcg,
            cpu: HostCpu { rdrand: false },
            has_qboot: true,
            network: HostNetwork::nothing(),
        }
    }

    fn request() -> RunRequest {
        RunRequest::new("kv.qcow2", "kv".parse().unwrap())
    }

    fn own() -> BootConfig {
        BootConfig {
            arguments: vec![b"kv".to_vec()],
            ..BootConfig::default()
        }
    }

    fn plan(request: &RunRequest) -> Result<MachineSpec, Error> {
        MachineSpec::new(request, Some(&own()), vec![], &host())
    }

    #[test]
    fn a_request_is_read_back_as_it_was_kept() {
        let request = RunRequest {
            mac: Some("A2:13:15:00:80:02".parse().unwrap()),
            command: Some("kv 'a b'".to_owned()),
            environment: vec!["A=b=c".parse().unwrap()],
            forwards: vec!["9000:80/udp".parse().unwrap()],
            network: "vhost:tap0".parse().unwrap(),
            bridge: Some("br0".parse().unwrap()),
            address: Some("192.168.7.2/24".parse().unwrap()),
            gateway: Some("192.168.7.1".parse().unwrap()),
            name_servers: vec!["9.9.9.9".parse().unwrap()],
            volumes: vec!["data:ro".parse().unwrap()],
            labels: vec!["tier=front".parse().unwrap()],
            cpu_model: Some("max,-rdrand".parse().unwrap()),
            machine: MachineType::Q35,
            ..request()
        };
        let kept = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<RunRequest>(&kept).unwrap(), request);
        let changed = kept.replace("a2:13", "a3:13");
        let error = serde_json::from_str::<RunRequest>(&changed).unwrap_err();
        assert!(error.to_string().contains("multicast"), "{error}");
    }

    #[test]
    fn a_request_of_an_older_version_is_read() {
        let mut kept = serde_json::to_value(request()).unwrap();
        for later in [
            "machine",
            "bridge",
            "address",
            "aliases",
            "card",
            "volumes",
            "labels",
            "gdb_port",
            "qemu_arguments",
        ] {
            kept.as_object_mut().unwrap().remove(later).unwrap();
        }
        assert_eq!(serde_json::from_value::<RunRequest>(kept).unwrap(), request());
    }

    #[test]
    fn an_address_that_is_not_given_is_derived_from_the_name() {
        let spec = plan(&request()).unwrap();
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
            let host = Host { has_qboot, ..host() };
            let spec = MachineSpec::new(&request, Some(&own()), vec![], &host);
            assert_eq!(spec.unwrap().firmware, firmware, "{entry:?} {has_qboot}");
        }
    }

    #[test]
    fn a_guest_without_rdrand_gets_another_source_of_entropy() {
        for (model, expected) in [(None, false), (Some("qemu64"), true), (Some("max,-rdrand"), true)] {
            let cpu_model = model.map(|text| text.parse().unwrap());
            let spec = plan(&RunRequest {
                cpu_model,
                ..request()
            })
            .unwrap();
            assert_eq!(spec.entropy_device, expected, "{model:?}");
        }
    }

    #[test]
    fn a_microvm_has_no_bios_that_boots_disks() {
        let request = RunRequest {
            machine: MachineType::Microvm,
            entry: Entry::Disk,
            ..request()
        };
        assert!(matches!(plan(&request).unwrap_err(), Error::NoDiskBoot));
    }

    #[test]
    fn refuses_two_forwards_of_one_port() {
        let forwards = vec!["80:80".parse().unwrap(), "80:81".parse().unwrap()];
        let request = RunRequest {
            forwards,
            ..request()
        };
        assert!(matches!(plan(&request).unwrap_err(), Error::ForwardsClash { .. }));
    }
}
