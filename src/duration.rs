//! Durations as users write them: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// The longest duration that means anything here.
const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads a duration in Go's notation without fractions: numbers, each with a unit of `ms`, `s`, `m` or `h`.
///
/// # Errors
/// What is wrong, with an example.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = |why: &str| {
        Err(format!("{text:?} is not a duration: {why}; write a number and a unit, such as 500ms, 90s, 5m or 1h30m"))
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(if text.is_empty() { "it is empty" } else { "it has no unit" });
    }
    // humantime knows more units and spaces, which would not be understood elsewhere in a Terraform configuration.
    let units: Vec<&str> = text.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty()).collect();
    if !units.iter().all(|unit| matches!(*unit, "ms" | "s" | "m" | "h")) {
        return wrong("the units are ms, s, m and h");
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX => Ok(duration),
        Ok(_) => wrong("it is longer than a week"),
        Err(error) => wrong(&error.to_string()),
    }
}

/// A duration as users write it.
pub fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [
        (milliseconds / 3_600_000, "h"),
        (milliseconds / 60_000 % 60, "m"),
        (milliseconds / 1000 % 60, "s"),
        (milliseconds % 1000, "ms"),
    ];
    let written: String =
        units.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if written.is_empty() { "0s".to_owned() } else { written }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_written() {
        for text in ["24h", "1h30m", "90s", "500ms", "2m10s", "0s", "168h"] {
            let time = parse(text).unwrap();
            assert_eq!(parse(&shown(time)), Ok(time), "{text}");
        }
        assert_eq!(shown(Duration::from_secs(24 * 3600)), "24h");
    }

    #[test]
    fn units_are_gos_and_must_be_there() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["5", "", "5x", "-5s", "5 m", "1.5h", "5min", "m", "999999h", "5m5"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains("such as 500ms"), "{error}");
        }
    }
}
