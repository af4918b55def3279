//! The time of day, as AWS writes it.

use std::time::UNIX_EPOCH;

/// Seconds since 1970, with fractions: how the JSON protocol writes a time.
pub(crate) fn epoch_seconds() -> f64 {
    UNIX_EPOCH.elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// A time as the XML protocols write it: `2026-01-02T03:04:05.678Z`.
pub(crate) fn rfc3339(seconds: f64) -> String {
    let millis = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_millis();
    let (total, millis) = (millis / 1000, millis % 1000);
    let (days, of_day) = (total / 86_400, total % 86_400);
    let (mut year, mut day) = (1970_u32, days);
    while day >= days_in_year(year) {
        day -= days_in_year(year);
        year += 1;
    }
    let february = if days_in_year(year) == 366 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", day + 1)
}

/// The seconds since 1970 of such a time, without its fractions.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let mut numbers = text.split(['-', 'T', ':', '.', 'Z', '+']).map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (year, month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let years: u128 = (1970..u32::try_from(year).ok()?).map(days_in_year).sum();
    let february = if days_in_year(u32::try_from(year).ok()?) == 366 { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: u64 = lengths.iter().take(usize::try_from(month).ok()?.checked_sub(1)?).sum();
    let days = u64::try_from(years).ok()? + months + day.checked_sub(1)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

const fn days_in_year(year: u32) -> u128 {
    if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0.0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400.5), "2000-02-29T00:00:00.500Z");
        assert_eq!(rfc3339(1_798_761_599.0), "2026-12-31T23:59:59.000Z");
        for text in ["1970-01-01T00:00:00.000Z", "2000-02-29T00:00:00Z", "2026-12-31T23:59:59Z"] {
            let seconds = parse(text).expect("a time");
            assert_eq!(rfc3339(seconds as f64)[..19], text[..19]);
        }
        assert_eq!(parse("yesterday"), None);
        assert_eq!(rfc3339(-1.0), "1970-01-01T00:00:00.000Z");
    }
}
