//! A guest program for the tests in virtual machines: `probe <property> [argument...]` shows one property, on the
//! console and by the guest's end. Start at [`main`]; what a property shows stands beside its name.

mod cores;
mod files;
mod load;
mod machine;
mod measure;
mod tcp;
mod volume;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io::Write;
use std::os::hermit::ffi::OsStrExt;
use std::time::Duration;
use std::{env, process, thread};

fn main() {
    let mut arguments = env::args_os().skip(1);
    let property = arguments.next().unwrap_or_default();
    let argument = |at: usize| env::args().nth(2 + at).unwrap_or_default();
    let number = |at: usize| -> u64 { argument(at).parse().unwrap_or_default() };
    match property.as_bytes() {
        b"hello" => println!("hello"),
        // Each argument and each entry of the environment on a line, escaped so that any byte shows.
        b"echo" => echo(),
        // Ends with the status that is given.
        b"exit" => process::exit(number(0) as i32),
        // Does nothing for as many milliseconds as given.
        b"sleep" => thread::sleep(Duration::from_millis(number(0))),
        // Writes as many bytes as given, without a newline, and ends at once.
        b"write" => write(number(0)),
        b"panic" => panic!("said in\ntwo lines"),
        b"panic-thread" => drop(thread::spawn(|| panic!("in a thread")).join()),
        b"abort" => process::abort(),
        b"out-of-memory" => exhaust(),
        b"null" => touch(0),
        b"read" => touch(0xdead_0000),
        b"non-canonical" => touch(1 << 63),
        b"jump" => jump(0xdead_0000),
        b"divide" => divide(),
        b"invalid-opcode" => invalid_opcode(),
        b"stack-overflow" => println!("{}", recurse(0)),
        b"stack-overflow-thread" => drop(thread::spawn(|| println!("{}", recurse(0))).join()),
        // Two random numbers, each of its own source in std; they differ between boots.
        b"entropy" => entropy(),
        // The address of a listener on the given port.
        b"local-address" => tcp::local_address(number(0) as u16),
        // Those that follow accept a connection on port 9000. What TCP_NODELAY is at first, set, and unset.
        b"no-delay" => tcp::no_delay(),
        // Sends what it received, when the client has finished sending.
        b"answer-all" => tcp::answer_all(),
        // Sends a word, finishes sending, and prints what it receives after that.
        b"half-close" => tcp::half_close(),
        // Waits until it is asked to stop, and ends with 7.
        b"wait-stop" => machine::wait_stop(),
        // Keeps a core busy for ever, and knows nothing of requests.
        b"spin" => cores::spin(),
        // Does the same work for each byte that its client sends, by as many threads as the byte says.
        b"compute" => cores::compute(),
        // A thread of a core is woken while another one there only gives way, or does not even that.
        b"give-way" => cores::beside(thread::yield_now),
        b"keep-busy" => cores::beside(std::hint::spin_loop),
        // For as many milliseconds as given threads wait for a moment, and are woken in the same moment.
        b"wake-twice" => cores::wake_twice(Duration::from_millis(number(0))),
        // For as many milliseconds as given threads are started, on each core in turn.
        b"start-threads" => cores::start_threads(Duration::from_millis(number(0))),
        // After as many polls as given a reader of an eventfd waits, until 3 is written to it.
        b"eventfd" => machine::eventfd(number(0)),
        // Ends a connection while its client does nothing, and goes on.
        b"close" => tcp::close(),
        // Sends as many bytes as given, and ends at once.
        b"last-words" => tcp::last_words(number(0)),
        // What a read of a silent client's connection ends with, and how long it took.
        b"read-timeout" => tcp::read_timeout(),
        // What a read ends with when the client breaks the connection.
        b"reset" => tcp::reset(),
        // Sends back what each client sends, for ever; a client's end is the end of a connection.
        b"echo-all" => tcp::echo_all(),
        // The same, and each datagram to its sender.
        b"echo-both" => {
            thread::spawn(tcp::echo_datagrams);
            tcp::echo_all();
        }
        // Sends back each byte that its client sends, while another core opens and closes sockets.
        b"open-sockets" => tcp::open_sockets(),
        // Connects to the given port of the host in QEMU's user network: its own address, or why not.
        b"connect" => tcp::connect(number(0) as u16),
        // Binds many sockets to any port, then asks the given port of the host by a datagram; the answer.
        b"ask" => tcp::ask_by_datagram(number(0) as u16),
        // The address of the given name.
        b"resolve" => tcp::resolve(&env::args().nth(2).unwrap_or_default()),
        // Starts threads until there is no memory for one.
        b"threads" => threads(),
        // Calls the address that is given until somebody answers; sends the word that is given, prints the answer.
        b"call" => tcp::call(&argument(0), &argument(1)),
        // Writes the volume that is given by several threads at once, and checks what it left there the last time.
        b"volume" => volume::keep(&argument(0)),
        // Commits rows to a data base on the volume that is given, as many as given or for ever; says how many there
        // were, and each that is safe.
        b"rows" => volume::rows(&argument(0), number(1)),
        // Commits rows of 64 KiB to the data base on the volume that is given, until there is no room, or until it has as
        // many as given: then they are removed.
        b"exhaust-volume" => volume::exhaust(&argument(0), number(1)),
        // Writes blocks to the volume that is given, makes each safe, reads them; says what fails, and goes on.
        b"blocks" => volume::blocks(&argument(0)),
        // Measures the volume that is given; what is on it is lost.
        b"measure" => volume::measure(&argument(0)),
        // Writes 32 MiB to the volume that is given; and tells it that they are not needed any more.
        b"fill" => volume::fill(&argument(0)),
        b"discard" => volume::discard(&argument(0)),
        // The same with the file on the volume, which gets shorter.
        b"fill-file" => volume::fill_file(&argument(0)),
        b"shorten" => volume::shorten(&argument(0)),
        // Whether the volume that is given can be written, or why not.
        b"try-volume" => volume::attempt(&argument(0)),
        // What `std::fs` does with the files of the image that its test composes, and with those in memory.
        b"files" => files::of_the_image(),
        // Serves ranges of the file that is given: a line is an offset and a length, the answer the bytes.
        b"serve-file" => files::serve(&argument(0)),
        // What `std::fs` does with files on the volume that is given, at `/data` without a mount of its own, and what is
        // there at the next boot; ends by itself, or waits to be cut off.
        b"data" => files::of_a_volume(&argument(0), &argument(1)),
        // Fills the volume at `/data`, and goes on.
        b"full" => files::fill(),
        // Reads so many bytes of a file of the image and of a volume, in order, and prints how fast.
        b"file-speed" => files::speed(&argument(0), &argument(1), number(2)),
        // Serves whoever measures, and never ends.
        b"load-server" => load::serve(),
        // Measures the server at the address that is given.
        b"load" => load::measure(&argument(0)),
        other => panic!("no property `{}`", other.escape_ascii()),
    }
}

fn echo() {
    for argument in env::args_os() {
        println!("argument {}", argument.as_bytes().escape_ascii());
    }
    let mut environment: Vec<_> = env::vars_os().collect();
    environment.sort();
    for (key, value) in environment {
        println!(
            "environment {}={}",
            key.as_bytes().escape_ascii(),
            value.as_bytes().escape_ascii()
        );
    }
}

fn write(length: u64) {
    let bytes: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
    std::io::stdout().write_all(&bytes).unwrap();
}

/// Takes memory in pieces that are touched, until there is none.
fn exhaust() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1u8; 64 * 1024]));
    }
}

fn threads() {
    let mut started = 0;
    let error = loop {
        let builder = thread::Builder::new().stack_size(128 * 1024);
        match builder.spawn(|| thread::sleep(Duration::from_secs(3600))) {
            Ok(_) => started += 1,
            Err(error) => break error,
        }
    };
    println!("{error}");
    println!("{}", if started >= 64 { "enough" } else { "too few" });
}

fn touch(address: usize) {
    if address == 0 {
        // SAFETY: not safe; the page fault is the point.
        unsafe { black_box(address as *mut u8).write_volatile(1) };
    } else {
        // SAFETY: not safe; the exception is the point.
        println!("{}", unsafe { black_box(address as *const u8).read_volatile() });
    }
}

fn jump(address: usize) {
    // SAFETY: not safe; the page fault is the point.
    let function: extern "C" fn() = unsafe { std::mem::transmute(black_box(address)) };
    function();
}

fn divide() {
    // SAFETY: not safe; the exception is the point. Rust's own division would check first.
    unsafe { std::arch::asm!("div {}", in(reg) 0u64, inout("rax") 1u64 => _, inout("rdx") 0u64 => _) };
}

fn invalid_opcode() {
    // SAFETY: not safe; the exception is the point.
    unsafe { std::arch::asm!("ud2") };
}

#[expect(unconditional_recursion, reason = "the stack's end is the point")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[63]
}

fn entropy() {
    println!("hash {:016x}", RandomState::new().hash_one(0));
    let thread = thread::spawn(|| RandomState::new().hash_one(0)).join().unwrap();
    println!("thread {thread:016x}");
}
