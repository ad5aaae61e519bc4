//! Exactly these arguments, and no others: for a first machine the whole line, for each other one the difference.

use hermitage_boot::BootConfig;

use super::*;

const DESCRIPTORS: Descriptors = Descriptors::EXAMPLES;

fn spec() -> MachineSpec {
    MachineSpec {
        name: "kv".parse().unwrap(),
        memory: "200M".parse().unwrap(),
        cpus: "1".parse().unwrap(),
        machine: MachineType::Pc,
        mac: "A2:13:15:00:80:02".parse().unwrap(),
        link: Link::User(None),
        forwards: vec![],
        entry: Entry::Direct,
        firmware: Firmware::Bios,
        accelerator: Accelerator::Tcg,
        cpu_model: None,
        entropy_device: false,
        volumes: vec![],
        gdb_port: None,
        qemu_arguments: vec![],
        boot: BootConfig::default(),
    }
}

/// The arguments that differ from those of [`spec`]: those that are gone, those that are new.
fn difference(other: &MachineSpec) -> (Vec<String>, Vec<String>) {
    let base = CommandLine::new(&spec(), DESCRIPTORS).arguments;
    let other = CommandLine::new(other, DESCRIPTORS).arguments;
    let gone = base.iter().filter(|argument| !other.contains(argument));
    let new = other.iter().filter(|argument| !base.contains(argument));
    (gone.cloned().collect(), new.cloned().collect())
}

type Change = fn(&mut MachineSpec);

#[track_caller]
fn check(table: &[(Change, &[&str], &[&str])]) {
    for (at, (change, gone, new)) in table.iter().enumerate() {
        let mut other = spec();
        change(&mut other);
        let difference = difference(&other);
        assert_eq!(difference.0, *gone, "row {at}");
        assert_eq!(difference.1, *new, "row {at}");
    }
}

#[test]
fn is_exactly_this() {
    let expected = "qemu-system-x86_64 -no-user-config -nodefaults -no-reboot -S -display none -name kv \
        -machine pc -accel tcg -cpu max -m 200M -smp 1 \
        -chardev 'stdio,id=console,signal=off' -serial chardev:console \
        -chardev 'socket,id=control,fd=3' -serial chardev:control \
        -chardev 'socket,id=monitor,fd=4' -mon 'monitor,mode=control' \
        -device 'isa-debug-exit,iobase=0xf4,iosize=0x4' \
        -kernel loader.elf -fw_cfg 'name=opt/org.hermitage/boot,file=boot-config.bin' \
        -drive 'if=none,id=disk,file=disk.qcow2,format=qcow2,discard=unmap' \
        -device 'virtio-blk-pci,drive=disk,werror=enospc,rerror=report' \
        -netdev 'user,id=net' -device 'virtio-net-pci,netdev=net,mac=a2:13:15:00:80:02,romfile='";
    assert_eq!(CommandLine::new(&spec(), DESCRIPTORS).to_string(), expected);
}

#[test]
fn a_microvm_is_exactly_this() {
    let microvm = MachineSpec {
        machine: MachineType::Microvm,
        firmware: Firmware::Qboot,
        entropy_device: true,
        volumes: vec![
            volume("/v/data.qcow2", Format::Qcow2, false),
            volume("/v/more.raw", Format::Raw, true),
        ],
        ..spec()
    };
    let expected = "qemu-system-x86_64 -no-user-config -nodefaults -no-reboot -S -display none -name kv \
        -machine 'microvm,acpi=on,rtc=on' -global 'virtio-mmio.force-legacy=false' -bios qboot.rom \
        -accel tcg -cpu max -m 200M -smp 1 \
        -chardev 'stdio,id=console,signal=off' -serial chardev:console \
        -chardev 'socket,id=control,fd=3' -device 'isa-serial,chardev=control,index=1' \
        -chardev 'socket,id=monitor,fd=4' -mon 'monitor,mode=control' \
        -device 'isa-debug-exit,iobase=0xf4,iosize=0x4' \
        -kernel loader.elf -fw_cfg 'name=opt/org.hermitage/boot,file=boot-config.bin' \
        -drive 'if=none,id=disk,file=disk.qcow2,format=qcow2,discard=unmap' \
        -device 'virtio-blk-device,drive=disk,werror=enospc,rerror=report' \
        -drive 'if=none,id=volume0,file=/v/data.qcow2,format=qcow2,discard=unmap' \
        -device 'virtio-blk-device,drive=volume0,werror=enospc,rerror=report,serial=data' \
        -drive 'if=none,id=volume1,file=/v/more.raw,format=raw,discard=unmap,read-only=on' \
        -device 'virtio-blk-device,drive=volume1,werror=enospc,rerror=report,serial=data' \
        -netdev 'user,id=net' -device 'virtio-net-device,netdev=net,mac=a2:13:15:00:80:02' \
        -device virtio-rng-device";
    assert_eq!(CommandLine::new(&microvm, DESCRIPTORS).to_string(), expected);
}

#[test]
fn each_part_of_the_machine_changes_exactly_its_arguments() {
    check(&[
        (|_| (), &[], &[]),
        (|s| s.name = "db-1".parse().unwrap(), &["kv"], &["db-1"]),
        (|s| s.memory = "1G".parse().unwrap(), &["200M"], &["1024M"]),
        (|s| s.firmware = Firmware::Qboot, &[], &["-bios", "qboot.rom"]),
        (|s| s.machine = MachineType::Q35, &["pc"], &["q35"]),
        (|s| s.cpus = "4".parse().unwrap(), &["1"], &["4"]),
        (
            |s| s.accelerator = Accelerator::Kvm,
            &["tcg", "max"],
            &["kvm", "host"],
        ),
        (
            |s| s.cpu_model = Some("max,-rdrand,-rdseed".parse().unwrap()),
            &["max"],
            &["max,-rdrand,-rdseed"],
        ),
        (|s| s.entropy_device = true, &[], &["virtio-rng-pci"]),
        (|s| s.gdb_port = Some(1234), &[], &["-gdb", "tcp:127.0.0.1:1234"]),
        (
            |s| s.qemu_arguments = vec!["-d".to_owned(), "int,cpu_reset".to_owned()],
            &[],
            &["-d", "int,cpu_reset"],
        ),
        (
            |s| s.mac = "02:00:00:00:00:01".parse().unwrap(),
            &["virtio-net-pci,netdev=net,mac=a2:13:15:00:80:02,romfile="],
            &["virtio-net-pci,netdev=net,mac=02:00:00:00:00:01,romfile="],
        ),
    ]);
}

fn volume(file: &str, format: Format, read_only: bool) -> Disk {
    Disk {
        label: "data".to_owned(),
        file: file.into(),
        format,
        read_only,
    }
}

#[test]
fn disks_change_exactly_these_arguments() {
    check(&[
        (
            |s| s.entry = Entry::Disk,
            &[
                "-kernel",
                "loader.elf",
                "-fw_cfg",
                "name=opt/org.hermitage/boot,file=boot-config.bin",
                "virtio-blk-pci,drive=disk,werror=enospc,rerror=report",
            ],
            &["virtio-blk-pci,drive=disk,werror=enospc,rerror=report,bootindex=0"],
        ),
        (
            |s| {
                s.volumes = vec![
                    volume("/a,b/data.qcow2", Format::Qcow2, false),
                    volume("/c/data.raw", Format::Raw, true),
                ];
            },
            &[],
            &[
                "if=none,id=volume0,file=/a,,b/data.qcow2,format=qcow2,discard=unmap",
                "virtio-blk-pci,drive=volume0,werror=enospc,rerror=report,serial=data",
                "if=none,id=volume1,file=/c/data.raw,format=raw,discard=unmap,read-only=on",
                "virtio-blk-pci,drive=volume1,werror=enospc,rerror=report,serial=data",
            ],
        ),
    ]);
}

fn ours() -> TapSource {
    TapSource::Launcher {
        device: None,
        bridge: Some("br0".parse().unwrap()),
    }
}

fn helper() -> TapSource {
    TapSource::Helper {
        program: "/usr/lib/qemu/qemu-bridge-helper".into(),
        bridge: "br0".parse().unwrap(),
    }
}

#[test]
fn each_network_changes_exactly_its_arguments() {
    const USER: &[&str] = &["user,id=net"];
    let tap = |source, mover| Link::Tap { source, mover };
    let lan = Link::Lan(Lan {
        card: Card::Socket(None),
        network: "app".parse().unwrap(),
        aliases: Vec::new(),
        address: None,
    });
    let networks: &[(Link, &str)] = &[
        (lan, "dgram,id=net,local.type=fd,local.str=5"),
        (Link::Qemu("l2tpv3,a=b".to_owned()), "l2tpv3,a=b,id=net"),
        (tap(ours(), Mover::Qemu(None)), "tap,id=net,fd=5"),
        (tap(ours(), Mover::Kernel), "tap,id=net,fd=5,vhost=on"),
        (
            tap(helper(), Mover::Qemu(None)),
            "tap,id=net,br=br0,helper=/usr/lib/qemu/qemu-bridge-helper",
        ),
        (
            tap(helper(), Mover::Kernel),
            "tap,id=net,br=br0,helper=/usr/lib/qemu/qemu-bridge-helper,vhost=on",
        ),
    ];
    for (link, new) in networks {
        let other = MachineSpec {
            link: link.clone(),
            ..spec()
        };
        let (gone, added) = difference(&other);
        assert_eq!(
            (gone.as_slice(), added.as_slice()),
            (&[USER[0].to_owned()][..], &[(*new).to_owned()][..])
        );
    }
    check(&[
        (
            |s| {
                s.link = Link::Lan(Lan {
                    card: Card::Shared { required: false },
                    network: "app".parse().unwrap(),
                    aliases: Vec::new(),
                    address: None,
                });
            },
            &["pc", "user,id=net"],
            &[
                "pc,memory-backend=memory",
                "-object",
                "memory-backend-memfd,id=memory,size=200M,share=on",
                "socket,id=card,path=card,reconnect=1",
                "vhost-user,id=net,chardev=card",
            ],
        ),
        (
            |s| {
                s.forwards = ["9000:80", "0.0.0.0:53:53/udp"]
                    .map(|text| text.parse().unwrap())
                    .to_vec();
            },
            USER,
            &["user,id=net,hostfwd=tcp:127.0.0.1:9000-:80,hostfwd=udp:0.0.0.0:53-:53"],
        ),
        (
            |s| {
                s.forwards = vec!["9000:80".parse().unwrap()];
                s.link = Link::User(Some(UserSubnet {
                    guest: "192.168.7.9/24".parse().unwrap(),
                    gateway: "192.168.7.1".parse().unwrap(),
                    name_server: "192.168.7.2".parse().unwrap(),
                }));
            },
            USER,
            &[
                "user,id=net,net=192.168.7.0/24,host=192.168.7.1,dns=192.168.7.2,dhcpstart=192.168.7.9,\
               hostfwd=tcp:127.0.0.1:9000-:80",
            ],
        ),
    ]);
}
