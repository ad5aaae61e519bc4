//! The disk that an image is: where each part lies, and access to it as a block device.
//!
//! - [`layout`]: the partitions;
//! - [`device`]: bytes at offsets, whatever keeps them;
//! - [`qcow2`]: the container, and overlays over it;
//! - [`table`]: the partition table and the boot code; [`boot_code`]: what that code is told of the loader;
//! - [`image`]: an opened image or overlay, for the launcher;
//! - [`lock`]: who runs an image and who changes it keep apart.
//!
//! Builder and launcher both use it: the builder writes images, the launcher makes overlays, reads the loader
//! and the default boot configuration out of an image, and writes an instance's boot configuration. What files an
//! image holds is the builder's business. Start reading at [`image::open_image`].

pub mod boot_code;
pub mod device;
pub mod error;
pub mod image;
pub mod layout;
pub mod lock;
pub mod qcow2;
pub mod table;

pub use device::BlockDevice;
pub use error::Error;
pub use image::{Image, open_image, open_overlay};
pub use qcow2::{Access, create_overlay};
