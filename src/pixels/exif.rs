//! Orientation and date from EXIF.

use std::io::Cursor;

use exif::{DateTime, In, Reader, Tag, Value};
use image::metadata::Orientation;

/// What is read from EXIF. A picture without it, or with broken EXIF, is upright and undated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exif {
    pub(super) orientation: Orientation,
    pub(super) taken_at: Option<i64>,
}

impl Exif {
    pub(super) const NONE: Self = Self { orientation: Orientation::NoTransforms, taken_at: None };

    /// Whether the orientation turns width into height.
    pub(super) fn swaps_sides(&self) -> bool {
        matches!(
            self.orientation,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
        )
    }
}

/// Reads the EXIF of a JPEG, PNG, WebP or TIFF file.
pub(super) fn read_container(bytes: &[u8]) -> Exif {
    parse(tolerant().read_from_container(&mut Cursor::new(bytes)))
}

/// Reads bare EXIF data, which start with a TIFF header.
pub(super) fn read_raw(tiff: Vec<u8>) -> Exif {
    parse(tolerant().read_raw(tiff))
}

/// Cameras and editors write broken maker notes and thumbnails; the rest is still good.
fn tolerant() -> Reader {
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    reader
}

fn parse(read: Result<exif::Exif, exif::Error>) -> Exif {
    let Ok(fields) = read.or_else(|error| error.distill_partial_result(|_| ())) else { return Exif::NONE };
    let orientation = fields
        .get_field(Tag::Orientation, In::PRIMARY)
        .and_then(|field| field.value.get_uint(0))
        .and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?))
        .unwrap_or(Orientation::NoTransforms);
    let date = |tag| match &fields.get_field(tag, In::PRIMARY)?.value {
        Value::Ascii(lines) => seconds_since_1970(&DateTime::from_ascii(lines.first()?).ok()?),
        _ => None,
    };
    Exif { orientation, taken_at: date(Tag::DateTimeOriginal).or_else(|| date(Tag::DateTime)) }
}

/// From 1 March of the year 0.
const DAYS_BEFORE_1970: i64 = 719_468;

/// Reads the date as UTC: EXIF dates are the camera's local time, and most carry no zone.
fn seconds_since_1970(date: &DateTime) -> Option<i64> {
    let (year, month, day) = (i64::from(date.year), i64::from(date.month), i64::from(date.day));
    // Cameras whose clock was never set write zeros.
    if year == 0 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if date.hour > 23 || date.minute > 59 || date.second > 60 {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted from March so that the leap day comes last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds_of_day = i64::from(date.hour) * 3600 + i64::from(date.minute) * 60 + i64::from(date.second);
    Some((days - DAYS_BEFORE_1970) * 86_400 + seconds_of_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        seconds_since_1970(&DateTime::from_ascii(text.as_bytes()).ok()?)
    }

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(seconds("1970:01:01 00:00:00"), Some(0));
        assert_eq!(seconds("2000:02:29 12:34:56"), Some(951_827_696));
        assert_eq!(seconds("2024:12:31 23:59:59"), Some(1_735_689_599));
        assert_eq!(seconds("1969:12:31 23:59:59"), Some(-1));
    }

    #[test]
    fn clocks_that_were_never_set_give_no_date() {
        assert_eq!(seconds("0000:00:00 00:00:00"), None);
        assert_eq!(seconds("    :  :     :  :  "), None);
        assert_eq!(seconds("2024:13:01 00:00:00"), None);
        assert_eq!(seconds("not a date at all!!"), None);
    }
}
