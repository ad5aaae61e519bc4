//! The flags of `run`: each reaches the command line, and a wrong value is refused with its reason.

use std::fs;
use std::path::Path;

use crate::user::{READY, Seen, User};

#[test]
fn a_dry_run_prints_the_command_and_does_nothing() {
    let user = User::with_guest(&READY);
    let seen = user.run(&[
        "--dry-run",
        "-m",
        "200M",
        "-c",
        "2",
        "--mac",
        "A2:13:15:00:80:02",
        "-f",
        "9000:80",
        "--name",
        "db",
    ]);
    assert_eq!(seen.code, Some(0), "{seen:?}");
    assert_eq!(seen.stdout.lines().count(), 1, "{seen:?}");
    assert!(seen.stdout.ends_with('\n'), "{seen:?}");
    for part in [
        "qemu-system-x86_64 ",
        " -name db ",
        " -m 200M -smp 2 ",
        "hostfwd=tcp:127.0.0.1:9000-:80",
        "mac=a2:13:15:00:80:02",
    ] {
        assert!(seen.stdout.contains(part), "no `{part}` in {seen:?}");
    }
    assert!(!user.folder().join("root").exists());
}

#[test]
fn each_flag_reaches_the_command_line() {
    let user = User::with_guest(&READY);
    let volume = user.folder().join("data.raw");
    fs::write(&volume, [0; 512]).unwrap();
    let volume = volume.to_str().unwrap();
    let table: &[(&[&str], &[&str])] = &[
        (&["-M", "q35"], &["-machine q35"]),
        (
            &["--machine", "microvm"],
            &[
                "-machine 'microvm,acpi=on,rtc=on'",
                "virtio-blk-device",
                "virtio-net-device",
            ],
        ),
        (&["--cpu", "qemu64"], &["-cpu qemu64", "-device virtio-rng-pci"]),
        (&["--gdb"], &["-gdb tcp:127.0.0.1:1234"]),
        (&["--gdb=4321"], &["-gdb tcp:127.0.0.1:4321"]),
        (&["--qemu-arg", "-d", "--qemu-arg=int"], &[" -d int\n"]),
        (
            &["--volume", volume],
            &["data.raw,format=raw,discard=unmap'", "serial=data"],
        ),
        (
            &["--ip", "10.0.0.9/24", "-f", "8080:80"],
            &["net=10.0.0.0/24,host=10.0.0.1,dns=10.0.0.2,dhcpstart=10.0.0.9,hostfwd=tcp:127.0.0.1:8080-:80"],
        ),
        (&["-n", "tap:tap0"], &["-netdev 'tap,id=net,fd=5'"]),
    ];
    for (arguments, parts) in table {
        let seen = user.run(&[&["--dry-run"], *arguments].concat());
        assert_eq!(seen.code, Some(0), "{arguments:?}: {seen:?}");
        for part in *parts {
            assert!(
                seen.stdout.contains(part),
                "{arguments:?}: no `{part}` in {seen:?}"
            );
        }
    }
}

#[test]
fn a_dry_run_as_json_says_the_same() {
    let user = User::with_guest(&READY);
    let line = user.run(&["--dry-run"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&user.run(&["--dry-run", "--json"]).stdout).unwrap();
    let arguments = json["arguments"].as_array().unwrap();
    let arguments: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .collect();
    assert_eq!(
        format!("qemu-system-x86_64 {}\n", shell_words::join(arguments)),
        line
    );
    assert!(Path::new(json["program"].as_str().unwrap()).is_file());
}

#[test]
fn a_variable_of_a_file_is_checked_where_it_stands() {
    let user = User::with_guest(&READY);
    let file = user.folder().join("env");
    fs::write(&file, "# all is well\nA=1\nPORT\n").unwrap();
    let path = file.to_str().unwrap();
    let message =
        format!("error: {path}:3: `PORT` is not an environment variable; it has the form NAME=VALUE");
    user.run(&["--env-file", path]).fails_with(2, &[&message]);
    fs::write(&file, b"A=\xff\n").unwrap();
    user.run(&["--env-file", path])
        .fails_with(2, &["cannot read `", "UTF-8"]);
}

#[test]
fn a_wrong_value_is_wrong_usage_with_its_reason() {
    let user = User::with_guest(&READY);
    let table: &[(&[&str], &str)] = &[
        (&["-m", "lots"], "`lots` is not a size"),
        (&["-m", "1M"], "`1M` is too small; no guest starts with less than"),
        (
            &["-c", "0"],
            "`0` is not a number of CPUs; a machine has 1 to 255",
        ),
        (&["--mac", "A2:13:15:00:80"], "`A2:13:15:00:80` is too short"),
        (&["--mac", "A3:13:15:00:80:02"], "is a multicast address"),
        (&["-f", "80"], "`80` names one port"),
        (&["-f", "1:2:3:4:5"], "bad IPv4 address"),
        (&["-f", "80:80", "-f", "80:81"], "forward the same port"),
        (
            &["--env", "PORT"],
            "`PORT` is not an environment variable; it has the form NAME=VALUE",
        ),
        (&["-e", "kv 'open"], "a quote is not terminated"),
        (&["-e", ""], "the command is empty"),
        (
            &["-n", "wan"],
            "`wan` is not a network; a network is `user`, `lan`,",
        ),
        (&["-n", "user:eth0"], "`user:eth0` takes no device"),
        (
            &["-n", "tap:a/b"],
            "`a/b` is not a network device; a device has up to 15",
        ),
        (
            &["-n", "tap", "-b", "sixteen-letters-"],
            "is not a network device",
        ),
        (&["-b", "br0"], "the network `user` has no bridge `br0`"),
        (
            &["-n", "bridge:br0", "-b", "br1"],
            "`br0` and `br1` are two bridges",
        ),
        (
            &["-n", "tap:tap0", "-f", "80:80"],
            "`127.0.0.1:80:80` needs the network `user` or `lan`, not `tap:tap0`",
        ),
        (
            &["--ip", "10.0.0.2"],
            "`10.0.0.2` is not an address with a prefix; it has the form",
        ),
        (
            &["--ip", "10.0.0.2/33"],
            "`10.0.0.2/33` has a prefix that is not 1 to 30",
        ),
        (
            &["--ip", "10.0.0.255/24"],
            "`10.0.0.255/24` is not the address of one host",
        ),
        (
            &["--ip", "10.0.0.1/30"],
            "leaves no room for the gateway and the name server",
        ),
        (
            &["--gateway", "10.0.0.1"],
            "gateway `10.0.0.1` is given without the guest's own address",
        ),
        (&["--gateway", "10.0.0"], "invalid IPv4 address"),
        (
            &["--ip", "10.0.0.2/24", "--gateway", "10.0.1.1"],
            "gateway `10.0.1.1` is not another host of `10.0.0.2/24`",
        ),
        (&["--dns", "example.org"], "invalid IPv4 address"),
        (
            &[
                "--dns", "1.1.1.1", "--dns", "1.1.1.2", "--dns", "1.1.1.3", "--dns", "1.1.1.4",
            ],
            "4 name servers; a guest takes at most 3",
        ),
        (
            &["--label", "tier"],
            "`tier` is not a label; it has the form KEY=VALUE",
        ),
        (
            &["--env-file", "/no/such/file"],
            "cannot read `/no/such/file`: No such file",
        ),
        (
            &["--volume", "a b"],
            "`a b` is not a volume; a volume is the name of one",
        ),
        (&["--volume", "nothing"], "there is no volume `nothing` in `"),
        (
            &["--volume", "/no/such.qcow2"],
            "volume `/no/such.qcow2` cannot be opened",
        ),
        (&["--machine", "vax"], "invalid value 'vax'"),
        (
            &["--machine", "microvm", "--entry", "disk"],
            "`microvm` has no BIOS that boots disks",
        ),
        (&["--cpu", ""], "`` is not a CPU model; a model is a name"),
        (&["--cpu", "8086"], "QEMU has no CPU model `8086`"),
        (&["--gdb=lots"], "invalid digit"),
        (&["--rm", "--restart", "always"], "one of the two"),
        (&["--gdb=65536"], "65536 is not in"),
        (&["--gdb", "4000"], "gdb's port is given as `--gdb=4000`"),
        (&["--name", "../kv"], "`../kv` is not a name of an instance"),
        (&["--accel", "hvf"], "invalid value 'hvf'"),
    ];
    for (arguments, part) in table {
        let mut command = user.command(&["run", "--dry-run"]);
        command.args(*arguments).arg(&user.image);
        Seen::of(command.output().unwrap()).fails_with(2, &[part]);
    }
    user.run(&["--json"]).fails_with(2, &["--dry-run"]);
    let many = "x ".repeat(10_000);
    user.run(&["-e", &many])
        .fails_with(2, &["10000 arguments; a guest takes at most 4096"]);
    assert!(!user.folder().join("root").exists());
}
