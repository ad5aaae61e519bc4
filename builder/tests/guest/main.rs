//! The guest toolchain and the compile stages, against stand-ins for the programs that they call. That the real ones
//! make programs that boot is shown by the tests in virtual machines.

mod compile;
mod machine;
mod toolchain;
