//! Pictures for tests, made and judged by ImageMagick, which shares no code with us.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

/// Runs ImageMagick on a picture.
///
/// # Panics
/// It is not installed: `cargo xtask doctor` says how.
#[must_use]
pub fn convert(input: &[u8], arguments: &[&str]) -> Vec<u8> {
    let child = Command::new("convert")
        .args(arguments)
        // Small pictures: starting threads would take longer than the work.
        .env("MAGICK_THREAD_LIMIT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.expect("ImageMagick's `convert` is installed");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("`convert` ends")
    });
    assert!(output.status.success(), "`convert` fails on the picture");
    output.stdout
}

/// A picture that is different for each seed: noise, in a format of ImageMagick's, `PNG24` say.
#[must_use]
pub fn noise(seed: u32, size: &str, format: &str) -> Vec<u8> {
    let seed = seed.to_string();
    let output = format!("{format}:-");
    convert(
        b"",
        &[
            "-size", size, "-seed", &seed, "xc:gray", "+noise", "Random", &output,
        ],
    )
}

/// The pixels of a picture, 16 bits each of red, green, blue and alpha, behind its size.
#[must_use]
pub fn pixels(picture: &[u8]) -> Vec<u8> {
    with_size(picture, &["-"])
}

/// The pixels of a picture's inverse.
#[must_use]
pub fn inverse(picture: &[u8]) -> Vec<u8> {
    with_size(picture, &["-", "-negate"])
}

fn with_size(picture: &[u8], arguments: &[&str]) -> Vec<u8> {
    let size = ["-format", "%w by %h\n", "-write", "info:-"];
    convert(picture, &[arguments, &size, &["-depth", "16", "rgba:-"]].concat())
}
