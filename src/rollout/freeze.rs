//! When no rollout may begin: again and again by the fields of cron, or once.

use std::time::{Duration, SystemTime};

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::accepts;
use crate::argument::{Arguments, rules};

/// A time in which no rollout may begin.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Freeze {
    /// When it begins, again and again: the five fields of cron (minute, hour, day of month, month, day of week), such as `0 16 * * FRI`.
    /// Exactly one of `cron` and `from` is required.
    #[argument(text = crontab)]
    pub cron: Option<String>,
    /// How long it lasts each time, such as `64h`. Required with `cron`.
    #[argument(text = rules::some_time)]
    pub duration: Option<Duration>,
    /// The time zone of `cron`, by its name in the IANA database, such as `Europe/Zurich`.
    #[argument(default = "UTC", text = time_zone)]
    pub time_zone: String,
    /// When it begins, once (RFC 3339, such as `2026-12-23T18:00:00+01:00`).
    #[argument(text = moment)]
    pub from: Option<String>,
    /// When it ends (RFC 3339). Required with `from`.
    #[argument(text = moment)]
    pub until: Option<String>,
    /// Why, in your words, for whoever meets it.
    #[argument(text = accepts::line)]
    pub reason: Option<String>,
}

/// Times that begin before the one before has ended are one; so many are joined at most.
const MOST_JOINED: usize = 1000;

impl Freeze {
    /// Whether it ends before it begins.
    pub fn is_empty(&self) -> bool {
        self.once().is_some_and(|(from, until)| until <= from)
    }

    /// Its beginning and its end, where it is only once.
    fn once(&self) -> Option<(SystemTime, SystemTime)> {
        let (from, until) = self.from.as_deref().zip(self.until.as_deref())?;
        read(from).ok().zip(read(until).ok())
    }

    /// Until when no rollout may begin, where none may at that time.
    pub fn until(&self, now: SystemTime) -> Option<SystemTime> {
        if let Some((from, until)) = self.once() {
            return (from <= now && now < until).then_some(until);
        }
        let cron = parse(self.cron.as_deref()?, &self.time_zone).ok()?;
        let duration = self.duration?;
        // One that began so long ago has just ended.
        let mut end: Option<SystemTime> = None;
        let mut next = next_after(&cron, now.checked_sub(duration)?)?;
        for _ in 0..MOST_JOINED {
            if next > end.unwrap_or(now) {
                break;
            }
            end = next.checked_add(duration);
            next = next_after(&cron, next)?;
        }
        end
    }
}

/// The first time after another one at which it begins.
fn next_after(cron: &Crontab, after: SystemTime) -> Option<SystemTime> {
    let seconds = after.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let after = cronexpr::MakeTimestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    let next = cron.find_next(after).ok()?.timestamp().as_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(next).ok()?))
}

fn parse(cron: &str, time_zone: &str) -> Result<Crontab, String> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::None;
    parse_crontab_with(&format!("{cron} {time_zone}"), options).map_err(|error| error.to_string())
}

fn crontab(text: &str) -> Result<(), String> {
    let fields = text.split_whitespace().count();
    if fields != 5 {
        return Err(format!(
            "{text:?} has {fields} fields, and cron has five: minute, hour, day of month, month, day of week, such as \"0 16 * * FRI\""
        ));
    }
    parse(text, "UTC").map(drop).map_err(|_| format!("{text:?} is not what cron takes, such as \"0 16 * * FRI\""))
}

fn time_zone(text: &str) -> Result<(), String> {
    let is_one = !text.is_empty() && !text.contains(char::is_whitespace) && parse("0 0 * * *", text).is_ok();
    if is_one {
        Ok(())
    } else {
        Err(format!("{text:?} is no time zone of the IANA database, such as \"Europe/Zurich\""))
    }
}

fn read(text: &str) -> Result<SystemTime, String> {
    let read = OffsetDateTime::parse(text, &Rfc3339).map(SystemTime::from);
    read.map_err(|_| format!("{text:?} is not a time of RFC 3339, such as \"2026-12-23T18:00:00+01:00\""))
}

fn moment(text: &str) -> Result<(), String> {
    read(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argument::Field as _;

    fn freeze(json: serde_json::Value) -> Freeze {
        Freeze::read(&json).unwrap()
    }

    fn until(freeze: &Freeze, now: &str) -> Option<String> {
        let until = freeze.until(read(now).unwrap())?;
        OffsetDateTime::from(until).format(&Rfc3339).ok()
    }

    #[test]
    fn a_weekend_is_where_the_clocks_are() {
        let weekend = serde_json::json!({ "cron": "0 16 * * FRI", "duration": "64h", "time_zone": "Europe/Zurich" });
        let weekend = freeze(weekend);
        // 2026-11-27 is a Friday; Zurich is an hour ahead of UTC in winter.
        for (now, end) in [
            ("2026-11-27T14:59:59Z", None),
            ("2026-11-27T15:00:00Z", Some("2026-11-30T07:00:00Z")),
            ("2026-11-30T06:59:59Z", Some("2026-11-30T07:00:00Z")),
            ("2026-11-30T07:00:00Z", None),
            // In summer two.
            ("2026-07-03T14:00:00Z", Some("2026-07-06T06:00:00Z")),
            ("2026-07-03T13:59:59Z", None),
            // The night in which the clocks are changed is within one.
            ("2026-10-25T12:00:00Z", Some("2026-10-26T06:00:00Z")),
        ] {
            assert_eq!(until(&weekend, now).as_deref(), end, "{now}");
        }
    }

    #[test]
    fn what_begins_before_the_end_goes_on() {
        let nights = freeze(serde_json::json!({ "cron": "0 18,22 * * *", "duration": "6h" }));
        assert_eq!(until(&nights, "2026-11-27T19:00:00Z").as_deref(), Some("2026-11-28T04:00:00Z"));
        assert_eq!(until(&nights, "2026-11-27T04:00:00Z"), None);
        let always = freeze(serde_json::json!({ "cron": "* * * * *", "duration": "1h" }));
        assert!(until(&always, "2026-11-27T04:00:00Z").is_some());
    }

    #[test]
    fn once_is_once() {
        let christmas =
            serde_json::json!({ "from": "2026-12-23T18:00:00+01:00", "until": "2027-01-02T08:00:00+01:00" });
        let christmas = freeze(christmas);
        assert_eq!(until(&christmas, "2026-12-23T16:59:59Z"), None);
        assert_eq!(until(&christmas, "2026-12-31T00:00:00Z").as_deref(), Some("2027-01-02T07:00:00Z"));
        assert_eq!(until(&christmas, "2027-01-02T07:00:00Z"), None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["0 16 * *", "0 16 * * FRI UTC", "61 * * * *", "0 0 31 2 *x", ""] {
            assert!(crontab(text).is_err(), "{text}");
        }
        assert!(crontab("0 16 * * FRI").is_ok() && crontab("*/15 9-17 1,15 JAN-MAR 1-5").is_ok());
        for text in ["Zurich", "Europe/ Zurich", "", "+01:00x"] {
            assert!(time_zone(text).is_err(), "{text}");
        }
        assert!(time_zone("Europe/Zurich").is_ok() && time_zone("UTC").is_ok());
        assert!(moment("2026-12-23").is_err() && moment("2026-12-23T18:00:00Z").is_ok());
    }
}
