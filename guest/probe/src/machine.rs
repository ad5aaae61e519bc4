//! What a program sees of its machine: requests to stop, cores, the kernel's counters to wait on.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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

pub fn spin() {
    println!("ready");
    loop {
        black_box(());
    }
}

/// Some tenths of a second of work in registers alone, without KVM.
fn work() -> u64 {
    (0..100_000_000_u64).fold(1, |sum, number| sum.rotate_left(5) ^ black_box(number))
}

pub fn compute() {
    let one = timed(|| {
        work();
        work();
    });
    let two = timed(|| {
        let threads = [(); 2].map(|()| thread::spawn(work));
        threads.map(|thread| thread.join().unwrap());
    });
    println!("{} {}", one.as_micros(), two.as_micros());
}

pub fn give_way() {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    // Threads take turns in going to the cores; the second one is there so that the first and the third meet.
    let busy = thread::spawn(|| {
        while !IS_DONE.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    });
    let other = thread::spawn(|| ());
    let woken = thread::spawn(|| {
        thread::park();
        IS_DONE.store(true, Ordering::Relaxed);
    });
    thread::sleep(Duration::from_millis(100));
    woken.thread().unpark();
    for thread in [busy, other, woken] {
        thread.join().unwrap();
    }
    println!("all have run");
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
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
