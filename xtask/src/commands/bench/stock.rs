//! The stock kernel: the release that ours is made from, without our patches and our glue, with an unpatched `std`. Its
//! program is kv, from the same source, and our loader starts it.

use std::path::{Path, PathBuf};

use builder::compose::{ComposeRequest, Mode, compose};
use builder::environment::Environment;
use builder::libhermit::Libhermit;
use builder::loader::build_loader;
use builder::manifest::Manifest;
use builder::package::PackageError;
use builder::resolve::Resolution;
use builder::service::{ServiceSpec, build_services};
use builder::session::Session;
use builder::toolchain::GuestToolchain;

use crate::printer::Printer;
use crate::progress::Progress;
use crate::workspace;

/// What QEMU is told beside the launcher's own arguments: the kernel passes over a network card that older drivers could
/// use, too, which is QEMU's default.
pub(super) const QEMU_ARGUMENTS: [&str; 2] = ["-global", "virtio-net-pci.disable-legacy=on"];

/// Composes its image, whose role is `kv`.
pub(super) fn image(printer: &Printer) -> Result<PathBuf, PackageError> {
    let progress = Progress::new(printer);
    let session = Session {
        workspace: workspace::root(),
        environment: Environment::read(),
        observer: &progress,
    };
    let toolchain = GuestToolchain::provide(&session)?;
    let kernel = Libhermit::stock(&session, &toolchain)?;
    let loader = build_loader(&session, &toolchain)?;
    let kv = ServiceSpec {
        crate_dir: PathBuf::from("services/kv"),
        bin: "kv".to_owned(),
        features: Vec::new(),
        mounts_data: false,
    };
    let built = build_services(&session, &toolchain, &kernel, &[kv])?;
    let binaries = built
        .into_iter()
        .map(|binary| (binary.name, binary.path))
        .collect();
    let text = "{ name: kv-stock, title: kv on the stock kernel, author: Hermitage, services: [kv], \
                  config_set: { kv: { bootcmd: kv } } }";
    let manifest = Manifest::parse(Path::new("kv-stock/package.yaml"), text.to_owned())?;
    let request = ComposeRequest {
        resolution: &Resolution::alone(manifest)?,
        out_dir: &workspace::root().join("target/bench"),
        loader: &loader,
        binaries: &binaries,
        mode: Mode::Fresh,
    };
    Ok(compose(&request, &progress)?.path)
}
