//! Times of the week by the clocks of a place, changes to and from summer time included.

use houston_common::clock::WallTime;
use houston_common::policy::gate::Window;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Open,
    Opens(WallTime),
}

/// Days to look ahead: a window opens at least once a week, but for one in an hour that a change of the clocks
/// leaves out.
const DAYS_AHEAD: i64 = 15;

/// Whether the database knows the time zone.
pub fn is_time_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok()
}

/// Absent if the time zone is not known here, or the time makes no sense.
pub(super) fn opening(window: &Window, wall: WallTime) -> Option<Opening> {
    let zone = TimeZone::get(&window.time_zone).ok()?;
    let now = Timestamp::from_millisecond(i64::try_from(wall.0).ok()?).ok()?;
    let today = now.to_zoned(zone.clone()).date();
    let mut opens: Option<Timestamp> = None;
    // One that began yesterday may go on past midnight.
    for offset in -1..DAYS_AHEAD {
        let day = today.checked_add(offset.days()).ok()?;
        let weekday = u8::try_from(day.weekday().to_monday_zero_offset()).ok()?;
        if !window.days.contains(weekday) {
            continue;
        }
        let from = at(day, window.from, &zone)?;
        let last = if window.until <= window.from { day.checked_add(1.day()).ok()? } else { day };
        let until = at(last, window.until, &zone)?;
        if from <= now && now < until {
            return Some(Opening::Open);
        }
        if from > now && from < until {
            opens = Some(opens.map_or(from, |earlier| earlier.min(from)));
        }
    }
    let opens = u64::try_from(opens?.as_millisecond()).ok()?;
    Some(Opening::Opens(WallTime(opens)))
}

/// A time that the clocks skip is taken as the same while after; one that comes twice, as its first.
fn at(day: Date, minutes: u16, zone: &TimeZone) -> Option<Timestamp> {
    let (day, minutes) = match minutes {
        0..1440 => (day, minutes),
        _ => (day.checked_add(1.day()).ok()?, 0),
    };
    let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
    day.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use houston_common::policy::gate::{Days, parse_time_of_day};

    use super::*;

    fn window(time_zone: &str, days: u8, from: &str, until: &str) -> Window {
        let time = |text| parse_time_of_day(text).expect("a time");
        Window {
            time_zone: time_zone.to_owned(),
            days: Days::from_bits(days).expect("days"),
            from: time(from),
            until: time(until),
        }
    }

    fn wall(text: &str) -> WallTime {
        let at: Timestamp = text.parse().expect("a time");
        WallTime(at.as_millisecond() as u64)
    }

    const WEEKDAYS: u8 = 0b001_1111;

    #[test]
    fn office_hours_are_those_of_the_place() {
        let berlin = window("Europe/Berlin", WEEKDAYS, "09:00", "16:00");
        let opens = |now, at: &str| assert_eq!(opening(&berlin, wall(now)), Some(Opening::Opens(wall(at))));
        // A Monday in winter: an hour ahead of UTC.
        opens("2026-11-23T07:59:59Z", "2026-11-23T08:00:00Z");
        assert_eq!(opening(&berlin, wall("2026-11-23T08:00:00Z")), Some(Opening::Open));
        assert_eq!(opening(&berlin, wall("2026-11-23T14:59:59Z")), Some(Opening::Open));
        opens("2026-11-23T15:00:00Z", "2026-11-24T08:00:00Z");
        // A Friday evening waits for Monday; in summer that is two hours ahead.
        opens("2026-07-17T14:00:00Z", "2026-07-20T07:00:00Z");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let saturday_night = window("UTC", 0b010_0000, "22:00", "04:00");
        assert_eq!(opening(&saturday_night, wall("2026-11-29T03:59:00Z")), Some(Opening::Open));
        let next = Some(Opening::Opens(wall("2026-12-05T22:00:00Z")));
        assert_eq!(opening(&saturday_night, wall("2026-11-29T04:00:00Z")), next);
        let whole_day = window("UTC", 0b100_0000, "00:00", "24:00");
        assert_eq!(opening(&whole_day, wall("2026-11-29T23:59:59Z")), Some(Opening::Open));
        assert_ne!(opening(&whole_day, wall("2026-11-30T00:00:00Z")), Some(Opening::Open));
    }

    #[test]
    fn an_hour_that_the_clocks_skip_and_one_that_comes_twice() {
        // On 29 March 2026 the clocks go from 2 to 3, on 25 October from 3 to 2.
        let night = window("Europe/Berlin", 0b100_0000, "02:15", "02:45");
        assert_eq!(opening(&night, wall("2026-10-25T00:15:00Z")), Some(Opening::Open));
        assert_ne!(opening(&night, wall("2026-10-25T01:20:00Z")), Some(Opening::Open), "the second time");
        assert_eq!(opening(&night, wall("2026-03-29T01:20:00Z")), Some(Opening::Open), "moved by the hour");
    }

    #[test]
    fn an_unknown_place_is_known_to_be_unknown() {
        assert!(is_time_zone("Europe/Berlin") && is_time_zone("UTC"));
        for bad in ["Europe/Berlyn", "", "CEST+99", "../../etc/passwd"] {
            assert!(!is_time_zone(bad), "{bad}");
            assert_eq!(
                opening(&window(bad, 1, "00:00", "24:00"), wall("2026-11-23T08:00:00Z")),
                None,
                "{bad}"
            );
        }
    }
}
