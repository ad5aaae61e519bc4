//! Stories of tap devices, with a stand-in for the guest, each in a network namespace of its own.

mod namespace;
#[expect(dead_code, reason = "the other tests use all of it")]
mod stand_in;

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use launcher::network::NetworkError;
use launcher::usage::{Traffic, Usage};
use launcher::{AcceleratorChoice, Error, Machine, RunRequest};
use namespace::{devices, ip};
use stand_in::Step;

/// Far more than the kernel needs to remove a device.
const DEADLINE: Duration = Duration::from_secs(30);

struct Place {
    root: tempfile::TempDir,
    image: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let image = stand_in::image(root.path(), &[Step::Halt]);
        Self { root, image }
    }

    fn start(&self, name: &str, network: &str, bridge: Option<&str>) -> Result<Machine, Error> {
        let request = RunRequest {
            accelerator: AcceleratorChoice::Tcg,
            network: network.parse().unwrap(),
            bridge: bridge.map(|name| name.parse().unwrap()),
            ..RunRequest::new(&self.image, name.parse().unwrap())
        };
        launcher::plan(&request)?.start(self.root.path(), io::sink())
    }
}

/// The ports of the bridge.
fn ports() -> usize {
    ip("-oneline link show master br0").lines().count()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_device_of_ours_is_a_port_of_the_bridge_and_goes_with_its_guest_however_that_ends() {
    namespace::within(|| {
        let before = devices();
        let place = Place::new();
        let machines = [("one", "tap"), ("two", "bridge"), ("three", "vhost")]
            .map(|(name, network)| place.start(name, network, None).unwrap());
        assert_eq!(ports(), 3);
        assert_eq!(devices().len(), before.len() + 3);
        for machine in &machines {
            let usage = Usage::of(&machine.process().unwrap()).unwrap();
            // The host may have greeted it already; it says nothing.
            assert!(
                matches!(usage.traffic, Some(Traffic { sent: 0, .. })),
                "{:?}",
                usage.traffic
            );
        }
        machines[0].kill();
        wait_until("a killed guest's device goes", || ports() == 2);
        machines[1].stop();
        wait_until("a stopped guest's device goes", || ports() == 1);
        drop(machines);
        wait_until("all devices go", || devices() == before);
    });
}

#[test]
fn a_device_that_somebody_made_is_taken_and_stays() {
    namespace::within(|| {
        ip("tuntap add mine mode tap");
        let place = Place::new();
        let machine = place.start("one", "tap:mine", Some("br0")).unwrap();
        assert_eq!(ports(), 1);
        // Another guest cannot have it.
        let error = place.start("two", "tap:mine", None).unwrap_err();
        let Error::Network(NetworkError::Device { device, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!(device.as_str(), "mine");
        drop(machine);
        assert!(devices().contains(&"mine".to_owned()));
        // It is a port of the bridge from before.
        let error = place.start("one", "tap:mine", Some("br0")).unwrap_err();
        assert!(
            matches!(error, Error::Network(NetworkError::PortAlready { .. })),
            "{error}"
        );
        drop(place.start("one", "tap:mine", None).unwrap());
    });
}

#[test]
fn says_what_is_wrong_with_a_bridge() {
    namespace::within(|| {
        let place = Place::new();
        let refused = |network: &str, bridge| place.start("one", network, bridge).unwrap_err().to_string();
        assert_eq!(refused("bridge:br7", None), "there is no bridge `br7`");
        assert_eq!(refused("tap", Some("lo")), "`lo` is not a bridge");
        ip("link delete br0");
        assert_eq!(refused("vhost", None), "there is no bridge `br0` or `virbr0`");
        assert_eq!(devices(), ["lo"]);
    });
}
