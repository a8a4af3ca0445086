//! A QR code for the terminal, so that a phone can take an address off it.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

/// `text` as lines of half blocks, two rows of modules each; `None` when it is too long for any
/// code. Dark modules are ink. With `coloured`, each line says that ink is black and paper white,
/// whatever the terminal's colours are. Beside it, how many modules are in a line.
pub(super) fn draw(text: &str, coloured: bool) -> Option<(String, usize)> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let image = code.render::<Dense1x2>().build();
    let side = image.lines().next()?.chars().count();
    let (before, after) = match coloured {
        true => ("\x1b[30;107m", "\x1b[0m\n"),
        false => ("", "\n"),
    };
    let lines = image.lines().map(|line| format!("{before}{line}{after}"));
    Some((lines.collect(), side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_reads_what_was_drawn() {
        let long = format!("https://login.example/auth?state={}", "x1".repeat(400));
        for text in ["https://login.example/device?user_code=ABCD-EFGH", &long] {
            for coloured in [false, true] {
                let (drawn, side) = draw(text, coloured).unwrap();
                assert_eq!(drawn.lines().count(), side.div_ceil(2));
                assert_eq!(decode(&drawn), text);
            }
        }
        assert_eq!(draw(&"x".repeat(3000), false), None);
    }

    /// Scans the lines as a camera would, four dots a module.
    fn decode(drawn: &str) -> String {
        let plain = drawn.replace("\x1b[30;107m", "").replace("\x1b[0m", "");
        let rows: Vec<Vec<char>> = plain.lines().map(|line| line.chars().collect()).collect();
        let dark = |x: usize, y: usize| match rows[y / 2][x] {
            '█' => true,
            '▀' => y % 2 == 0,
            '▄' => y % 2 == 1,
            _ => false,
        };
        let (width, height) = (rows[0].len(), 2 * rows.len());
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(4 * width, 4 * height, |x, y| {
                if dark(x / 4, y / 4) { 0 } else { 255 }
            });
        let grids = image.detect_grids();
        grids[0].decode().unwrap().1
    }
}
