//! In a guest the glue (`guest/libhermit/src/control.rs`) hears the launcher.

use std::io;

// SAFETY: these are the signatures that the glue gives them, and any thread may call them at any time.
unsafe extern "C" {
    safe fn sys_hermitage_take_stop();
    safe fn sys_hermitage_stop_requested() -> bool;
    safe fn sys_hermitage_wait_stop();
}

#[expect(clippy::unnecessary_wraps, reason = "it can fail on the host")]
pub(crate) fn take() -> io::Result<()> {
    sys_hermitage_take_stop();
    Ok(())
}

pub(crate) fn requested() -> bool {
    sys_hermitage_stop_requested()
}

pub(crate) fn wait() {
    sys_hermitage_wait_stop();
}
