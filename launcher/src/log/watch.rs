//! Waits for changes in an instance's folder, by inotify.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;

/// Tells when an instance's log or state may have changed.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
}

impl Watch {
    /// Watches `folder` from now on.
    ///
    /// # Errors
    /// The folder is gone, or the system's limit of watches is reached.
    pub fn new(folder: &Path) -> io::Result<Self> {
        use inotify::{CreateFlags, WatchFlags};
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let end = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        inotify::add_watch(&inotify, folder, changes | end)?;
        Ok(Self { inotify })
    }

    /// Waits until something has changed since the last call, or since the watch was made.
    ///
    /// # Errors
    /// The system ends the watch.
    pub fn wait(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            // All that was read at once is one change.
            if events.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}
