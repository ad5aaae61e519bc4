//! The target `network` of the library, driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(target) = hermitage_fuzz::target("network") {
        (target.check)(input);
    }
});
