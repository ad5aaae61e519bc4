//! On the host a folder is one of its own.

use std::path::PathBuf;
use std::{env, fs, io};

pub(super) fn mount(label: &str) -> io::Result<PathBuf> {
    let volumes = env::var_os(crate::volume::FOLDER).ok_or(io::ErrorKind::NotFound)?;
    let folder = PathBuf::from(volumes).join(label);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
