//! Bars of what values were and what they are.

use super::page::escape;

/// Bars that a chart shows.
const BARS: usize = 8;
const WIDTH: f64 = 360.0;
const LABEL: f64 = 120.0;
const ROW: f64 = 26.0;

/// Counts of the most frequent values, as JSON objects of numbers, side by side as fractions of all rows.
pub(super) fn bars(sealed: &str, found: &str, sealed_rows: f64, found_rows: f64) -> String {
    let (before, after) = (counts(sealed), counts(found));
    let mut names: Vec<&String> = after.iter().chain(&before).map(|(name, _)| name).collect();
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    names.truncate(BARS);
    if names.is_empty() {
        return String::new();
    }
    let share = |counts: &[(String, f64)], name: &String, rows: f64| {
        let count = counts.iter().find(|(other, _)| other == name).map_or(0.0, |(_, count)| *count);
        if rows > 0.0 { (count / rows).clamp(0.0, 1.0) } else { 0.0 }
    };
    let shares: Vec<(f64, f64)> = names.iter().map(|name| (share(&before, name, sealed_rows), share(&after, name, found_rows))).collect();
    let most = shares.iter().fold(0.0_f64, |most, (a, b)| most.max(*a).max(*b)).max(1e-9);
    let room = WIDTH - LABEL - 52.0;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\" aria-label=\"sealed and found shares\">", ROW * f(names.len()) + 2.0);
    for (at, (name, (before, after))) in names.iter().zip(&shares).enumerate() {
        let y = ROW * f(at);
        let label: String = name.chars().take(16).collect();
        svg.push_str(&format!("<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LABEL - 6.0, y + 15.0, escape(&label)));
        for (class, share, dy) in [("b", before, 2.0), ("a", after, 12.0)] {
            let width = (share / most * room).max(if *share > 0.0 { 1.0 } else { 0.0 });
            svg.push_str(&format!(
                "<rect class=\"{class}\" x=\"{LABEL}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"9\" rx=\"2\"/>",
                y + dy
            ));
            svg.push_str(&format!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LABEL + width + 4.0, y + dy + 8.5, percent(*share)));
        }
    }
    svg.push_str("</svg>");
    svg
}

fn counts(json: &str) -> Vec<(String, f64)> {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    value.as_object().into_iter().flatten().filter_map(|(name, count)| Some((name.clone(), count.as_f64()?))).collect()
}

fn f(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::MAX, f64::from)
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.001 { "&lt;0.1%".to_owned() } else { format!("{:.1}%", share * 100.0) }
}
