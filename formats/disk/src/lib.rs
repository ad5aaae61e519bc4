//! The disk that an image is: where each part lies, and access to it as a block device.
//!
//! This crate owns the partition layout ([`layout`]); the block-device trait and its qcow2 implementation come
//! beside it. It knows nothing of what the partitions hold.
//!
//! Builder and launcher both use it: the builder writes images, the launcher makes overlays, reads the loader
//! and the default boot configuration out of an image, and writes an instance's boot configuration.

pub mod layout;
