//! The table as bars: a panel for each tree, a bar for each row.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::{Row, Section};
use crate::failure::Failure;

/// Pixels of the drawing's width, of a row, and of what is above the rows of a panel and below them.
const WIDTH: u32 = 1000;
const ROW: u32 = 30;
const HEAD: u32 = 56;
const FOOT: u32 = 14;

/// Where bars begin, and the longest one ends: names are left of them, values right.
const BARS: (i32, i32) = (300, 800);

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xb4, 0xb8, 0xbd);
const TEXT: RGBColor = RGBColor(0x22, 0x26, 0x2a);

/// Draws into `<path>.png` and `<path>.svg`; their paths.
pub(super) fn draw(sections: &[Section], path: &Path) -> Result<[PathBuf; 2], Failure> {
    // A font comes along: those of a machine differ, or are missing.
    let _ = register_font(
        "sans-serif",
        FontStyle::Normal,
        epaint_default_fonts::UBUNTU_LIGHT,
    );
    let [png, svg] = ["png", "svg"].map(|extension| path.with_extension(extension));
    let height = sections.iter().map(height).sum();
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot draw `{}`: {error}", path.display()))
    };
    let size = (WIDTH, height);
    panels(&BitMapBackend::new(&png, size).into_drawing_area(), sections).map_err(|e| failed(&png, &e))?;
    panels(&SVGBackend::new(&svg, size).into_drawing_area(), sections).map_err(|e| failed(&svg, &e))?;
    Ok([png, svg])
}

fn height(section: &Section) -> u32 {
    HEAD + section.rows.len() as u32 * ROW + FOOT
}

type Area<B> = DrawingArea<B, plotters::coord::Shift>;

fn panels<B: DrawingBackend>(
    area: &Area<B>,
    sections: &[Section],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let mut top = 0;
    for section in sections {
        let size = (WIDTH, height(section));
        panel(&area.margin(top, 0, 0, 0).shrink((0, 0), size), section)?;
        top += size.1;
    }
    area.present()
}

fn panel<B: DrawingBackend>(
    area: &Area<B>,
    section: &Section,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
    let title = format!(
        "{}: milliseconds, medians; x the floor of one thread",
        section.title()
    );
    area.draw_text(&title, &font(20), (20, 20))?;
    let longest = section.rows.iter().map(|row| row.median_ms).fold(0.0, f64::max);
    let left = Pos::new(HPos::Left, VPos::Center);
    let right = Pos::new(HPos::Right, VPos::Center);
    for (index, row) in section.rows.iter().enumerate() {
        let middle = (HEAD + index as u32 * ROW + ROW / 2) as i32;
        let length = row.median_ms / longest * f64::from(BARS.1 - BARS.0);
        let end = BARS.0 + (length as i32).max(1);
        let colour = if is_ours(row) { OURS } else { OTHERS };
        let bar = [(BARS.0, middle - 9), (end, middle + 9)];
        area.draw(&Rectangle::new(bar, colour.filled()))?;
        area.draw_text(&row.name, &font(16).pos(right), (BARS.0 - 10, middle))?;
        let value = format!("{:.1} ms, {:.2} x", row.median_ms, row.of_floor);
        area.draw_text(&value, &font(16).pos(left), (end + 8, middle))?;
    }
    Ok(())
}

fn is_ours(row: &Row) -> bool {
    row.name.starts_with("compose")
}
