//! What a program sees of its machine: requests to stop, the kernel's counters to wait on.

use std::thread;
use std::time::Duration;

// SAFETY: the glue gives the first two, the kernel the others these signatures; those that are safe take any argument.
unsafe extern "C" {
    safe fn sys_hermitage_take_stop();
    safe fn sys_hermitage_wait_stop();
    safe fn sys_eventfd(count: u64, flags: i16) -> i32;
    fn sys_poll(entries: *mut PollEntry, count: usize, milliseconds: i32) -> i32;
    fn sys_read(file: i32, buffer: *mut u8, length: usize) -> isize;
    fn sys_write(file: i32, buffer: *const u8, length: usize) -> isize;
}

pub fn wait_stop() {
    sys_hermitage_take_stop();
    println!("ready");
    sys_hermitage_wait_stop();
    println!("asked to stop");
    std::process::exit(7);
}

#[repr(C)]
struct PollEntry {
    file: i32,
    wanted: i16,
    found: i16,
}

/// `POLLIN` of the kernel.
const READABLE: i16 = 1;

pub fn eventfd(polls: u64) {
    let event = sys_eventfd(0, 0);
    // Each leaves its waker behind.
    for _ in 0..polls {
        poll(event);
    }
    let reader = thread::spawn(move || {
        let mut count = [0; 8];
        // SAFETY: the buffer is as long as said.
        let length = unsafe { sys_read(event, count.as_mut_ptr(), count.len()) };
        (length, u64::from_ne_bytes(count))
    });
    // The reader, which waits for ever, sleeps by then; if it does not yet, it reads what is there.
    thread::sleep(Duration::from_millis(100));
    let count = 3_u64.to_ne_bytes();
    // SAFETY: the buffer is as long as said.
    unsafe { sys_write(event, count.as_ptr(), count.len()) };
    println!("{:?}", reader.join().unwrap());
}

/// Asks whether there is something to read, and does not wait for it.
fn poll(file: i32) {
    let mut entry = PollEntry {
        file,
        wanted: READABLE,
        found: 0,
    };
    // SAFETY: there is one entry.
    unsafe { sys_poll(&mut entry, 1, 0) };
}
