//! Threads on one core and on several.

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::tcp::accept;

pub fn spin() {
    println!("ready");
    loop {
        black_box(());
    }
}

/// Steps of the work, in registers alone: about a second without KVM.
const WORK: u64 = 200_000_000;

pub fn compute() {
    let mut stream = accept();
    let mut threads = [0];
    while stream.read_exact(&mut threads).is_ok() {
        let steps = WORK / u64::from(threads[0]);
        let work = move || (0..steps).fold(1_u64, |sum, number| sum.rotate_left(5) ^ black_box(number));
        let workers: Vec<_> = (0..threads[0]).map(|_| thread::spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap();
        }
        stream.write_all(&threads).unwrap();
    }
}

/// One thread does nothing but `wait` until another one, which shares its core, was woken and says so.
pub fn beside(wait: fn()) {
    static IS_DONE: AtomicBool = AtomicBool::new(false);
    // Threads take turns in going to the cores; the second one is there so that the first and the third meet.
    let busy = thread::spawn(move || {
        while !IS_DONE.load(Ordering::Relaxed) {
            wait();
        }
    });
    let other = thread::spawn(|| ());
    let woken = thread::spawn(|| {
        thread::park();
        IS_DONE.store(true, Ordering::Relaxed);
    });
    // All are at it by then; a thread that is not yet is awake as soon as it waits.
    thread::sleep(Duration::from_millis(100));
    woken.thread().unpark();
    for thread in [busy, other, woken] {
        thread.join().unwrap();
    }
    println!("all have run");
}

pub fn wake_twice(time: Duration) {
    /// How long a thread waits, about as long as it takes to wake all.
    const MOMENT: Duration = Duration::from_micros(20);
    let end = Instant::now() + time;
    let waiters = [(); 4].map(|()| {
        thread::spawn(move || {
            while Instant::now() < end {
                thread::park_timeout(MOMENT);
            }
        })
    });
    while Instant::now() < end {
        waiters.iter().for_each(|waiter| waiter.thread().unpark());
    }
    for waiter in waiters {
        waiter.join().unwrap();
    }
    println!("all are awake");
}

pub fn start_threads(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::spawn(|| ()).join().unwrap();
    }
    println!("all have ended");
}
