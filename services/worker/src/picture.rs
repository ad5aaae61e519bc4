//! Inverts a picture: PNG or JPEG in, PNG out.
//!
//! Each of red, green and blue becomes its distance from white, at the depth that it has; alpha is kept, as are the
//! colour profile and the orientation that a camera wrote down. What a picture claims is bounded before it is
//! believed: a few bytes can say 60,000 by 60,000 pixels.

use std::io::{self, Cursor};

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageDecoder, ImageEncoder as _, ImageError, ImageReader, Limits};

/// Memory beside the pixels: the decoder's tables, the result (which is compressed), connections.
const HEADROOM: u64 = 8 * 1024 * 1024;

/// Why a picture is not inverted; trying again helps only if memory was short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("not a PNG or JPEG: {0}")]
    Format(ImageError),
    #[error("damaged: {0}")]
    Decode(ImageError),
    #[error("{width} by {height} pixels need {needed} MiB, more than there is")]
    TooLarge { width: u32, height: u32, needed: u64 },
    #[error("cannot be written: {0}")]
    Encode(ImageError),
}

/// The inverse of a picture. Its pixels must not need more than `limit` bytes, nor more than there is.
pub(crate) fn invert(input: Vec<u8>, limit: u64) -> Result<Vec<u8>, PictureError> {
    let length = input.len();
    let reader = ImageReader::new(Cursor::new(input)).with_guessed_format();
    let reader = reader.map_err(|error: io::Error| PictureError::Format(error.into()))?;
    let mut decoder = reader.into_decoder().map_err(PictureError::Format)?;
    let (width, height) = decoder.dimensions();
    let pixels = decoder.total_bytes();
    let mut limits = Limits::default();
    limits.max_alloc = Some(limit);
    if pixels > limit || !is_there(pixels.saturating_add(length as u64).saturating_add(HEADROOM)) {
        return Err(PictureError::TooLarge {
            width,
            height,
            needed: pixels.div_ceil(1 << 20),
        });
    }
    decoder.set_limits(limits).map_err(PictureError::Decode)?;
    let profile = decoder.icc_profile().ok().flatten();
    let exif = decoder.exif_metadata().ok().flatten();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(PictureError::Decode)?;
    picture.invert();

    let mut output = Vec::with_capacity(length);
    let mut encoder = PngEncoder::new(&mut output);
    if let Some(profile) = profile {
        // Whether PNG has them is known: it has.
        let _ = encoder.set_icc_profile(profile);
    }
    if let Some(exif) = exif {
        let _ = encoder.set_exif_metadata(exif);
    }
    picture
        .write_with_encoder(encoder)
        .map_err(PictureError::Encode)?;
    Ok(output)
}

/// Whether so much memory is there, in one piece. In a guest, memory that is not there ends the machine.
fn is_there(bytes: u64) -> bool {
    usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, Luma, LumaA, Rgb, Rgba};

    const LIMIT: u64 = 64 * 1024 * 1024;

    fn png(picture: &DynamicImage) -> Vec<u8> {
        encoded(picture, ImageFormat::Png)
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn inverted(picture: impl Into<DynamicImage>) -> DynamicImage {
        let output = invert(png(&picture.into()), LIMIT).unwrap();
        image::load_from_memory_with_format(&output, ImageFormat::Png).unwrap()
    }

    #[test]
    fn inverts_colours_at_their_depth_and_keeps_alpha() {
        let rgba = image::RgbaImage::from_pixel(3, 2, Rgba([0, 10, 255, 7]));
        assert_eq!(
            inverted(rgba).into_rgba8().get_pixel(2, 1),
            &Rgba([255, 245, 0, 7])
        );
        let rgb = image::RgbImage::from_pixel(1, 1, Rgb([1, 2, 3]));
        assert_eq!(inverted(rgb).into_rgb8().get_pixel(0, 0), &Rgb([254, 253, 252]));
        let gray = image::GrayImage::from_pixel(1, 1, Luma([9]));
        assert_eq!(
            inverted(gray),
            DynamicImage::from(image::GrayImage::from_pixel(1, 1, Luma([246])))
        );
        let alpha = image::GrayAlphaImage::from_pixel(1, 1, LumaA([9, 8]));
        assert_eq!(
            inverted(alpha).into_luma_alpha8().get_pixel(0, 0),
            &LumaA([246, 8])
        );
        let deep = image::ImageBuffer::from_pixel(1, 1, Rgba([1_u16, 300, 65535, 4]));
        assert_eq!(
            inverted(deep).into_rgba16().get_pixel(0, 0),
            &Rgba([65534, 65235, 0, 4])
        );
    }

    #[test]
    fn a_jpeg_becomes_a_png() {
        let gray = DynamicImage::from(image::RgbImage::from_pixel(16, 16, Rgb([100, 100, 100])));
        let output = invert(encoded(&gray, ImageFormat::Jpeg), LIMIT).unwrap();
        let output = image::load_from_memory_with_format(&output, ImageFormat::Png).unwrap();
        assert_eq!(output.into_rgb8().get_pixel(8, 8), &Rgb([155, 155, 155]));
    }

    #[test]
    fn bug_11_what_is_no_picture_is_an_error() {
        let whole = png(&DynamicImage::new_rgb8(64, 64));
        assert!(invert(whole.clone(), LIMIT).is_ok());
        for bytes in [
            b"".as_slice(),
            b"<html>Not found</html>",
            &whole[..whole.len() / 2],
        ] {
            assert!(invert(bytes.to_vec(), LIMIT).is_err());
        }
    }

    #[test]
    fn a_picture_that_claims_too_much_is_refused_before_memory_is_taken() {
        // 16 pixels that claim to be 60,000 by 60,000: the header's width and height, and its checksum.
        let mut bomb = png(&DynamicImage::new_rgb8(4, 4));
        for at in [16, 20] {
            bomb[at..at + 4].copy_from_slice(&60_000_u32.to_be_bytes());
        }
        let sum = crc(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&sum.to_be_bytes());
        let error = invert(bomb, LIMIT).unwrap_err();
        assert!(
            matches!(error, PictureError::TooLarge { width: 60_000, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_bound_that_is_reached_is_enough() {
        let picture = png(&DynamicImage::new_rgb8(100, 100));
        assert!(invert(picture.clone(), 29_999).is_err());
        assert!(invert(picture, 30_000 + 10_000).is_ok());
    }

    /// CRC-32 of a PNG's chunk.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
            })
        })
    }
}
