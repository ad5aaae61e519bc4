//! Linux with a disk, and the program that measures it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use cpio::newc::{Builder, ModeFileType, trailer};

use super::super::linux::{Linux, MEASURE, Machine, Server};
use crate::failure::Failure;

impl Linux {
    /// Runs a program with a disk on a `pc` to its end; what it wrote to the console.
    pub(super) fn measure(
        &self,
        qemu: &Path,
        megabytes: u32,
        program: &Path,
        disk: &Path,
    ) -> Result<String, Failure> {
        let failed = |error: io::Error| Failure::Failed(format!("cannot run the yardstick: {error}"));
        let folder = disk.parent().unwrap_or(disk);
        let initramfs = folder.join("initramfs");
        let mut archive = File::create(&initramfs).map_err(failed)?;
        let mut own = File::open(self.folder.join(Server::Disk.initramfs())).map_err(failed)?;
        io::copy(&mut own, &mut archive).map_err(failed)?;
        append_program(&mut archive, &fs::read(program).map_err(failed)?).map_err(failed)?;
        let mut command = self.command(qemu, Machine::Pc, &initramfs, megabytes, 0);
        // As the launcher attaches a volume.
        let drive = format!(
            "if=none,id=volume0,file={},format=qcow2,discard=unmap",
            disk.display()
        );
        command
            .args(["-append", "console=ttyS0 quiet panic=-1 BUS=pci"])
            .args(["-drive", &drive, "-device"])
            .arg("virtio-blk-pci,drive=volume0,werror=enospc,rerror=report,serial=bench");
        let output = command.output().map_err(failed)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// An archive of the program alone, behind another one, from a boundary of four bytes on.
fn append_program(archive: &mut File, program: &[u8]) -> io::Result<()> {
    let length = archive.metadata()?.len();
    archive.write_all(&vec![0; (length.next_multiple_of(4) - length) as usize])?;
    let builder = Builder::new(MEASURE)
        .ino(1)
        .nlink(1)
        .mode(0o755)
        .set_mode_file_type(ModeFileType::Regular);
    let length = u32::try_from(program.len()).map_err(io::Error::other)?;
    let mut writer = builder.write(&mut *archive, length);
    writer.write_all(program)?;
    writer.finish()?;
    trailer(archive)?.flush()
}
