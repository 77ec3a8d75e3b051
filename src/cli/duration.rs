//! Spans of time as people write them: `7d`, `12h`, `30m`, `90s`, and several of these one after the other.

use std::time::Duration;

/// Units, the largest first, in seconds.
const UNITS: [(char, u64); 4] = [('d', 24 * 60 * 60), ('h', 60 * 60), ('m', 60), ('s', 1)];

/// Reads `7d`, `1d12h`, `90s`. For clap, which shows what is wrong beside the argument.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write a number and a unit, as in 30d, 12h, 45m or 90s");
    let (mut seconds, mut rest, mut last) = (0_u64, text, None);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let unit = after.chars().next().ok_or_else(wrong)?;
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        // Each unit once, the larger before the smaller.
        if last.is_some_and(|last| last <= factor) {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        seconds = number.checked_mul(factor).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        (rest, last) = (after.get(unit.len_utf8()..).unwrap_or_default(), Some(factor));
    }
    if last.is_some() { Ok(Duration::from_secs(seconds)) } else { Err(wrong()) }
}

/// A span in words, in its two largest units: `30 days`, `1 day 12 hours`, `45 minutes`.
pub(super) fn words(seconds: u64) -> String {
    let mut left = seconds;
    let mut words = Vec::new();
    for ((_, factor), name) in UNITS.into_iter().zip(["day", "hour", "minute", "second"]) {
        let count = left / factor;
        left %= factor;
        if count > 0 && words.len() < 2 {
            words.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if words.is_empty() { "no time".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood_and_said_again() {
        for (text, seconds, said) in [
            ("30d", 2_592_000, "30 days"),
            ("1d12h", 129_600, "1 day 12 hours"),
            ("90s", 90, "1 minute 30 seconds"),
            ("45m", 2_700, "45 minutes"),
            ("0s", 0, "no time"),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(words(seconds), said);
        }
        for bad in ["", "7", "d", "7w", "-1d", "1.5d", "1h1d", "1d1d", "7 d", "99999999999999999999d", "999999999999999999d", "7dä"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
