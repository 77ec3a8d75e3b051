//! HTML by parts. Whoever writes the values is an attacker: everything goes through [`escape`], and the page's own policy forbids scripts,
//! requests and frames besides.

use std::fmt::Write as _;

use crate::printable::is_hidden;

/// Text as it may stand in an element or in a quoted attribute. What is neither visible nor a space is shown as its code.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Directions and joiners that make text look like other text are shown, too.
            c if is_hidden(c) || matches!(c, '\u{200b}'..='\u{200d}' | '\u{feff}') => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A value that is cut when it is long, with all of it (up to a limit) as its title.
pub(super) fn value(text: Option<&str>) -> String {
    const SHOWN: usize = 120;
    const TITLE: usize = 2000;
    let Some(text) = text else { return "<span class=\"none\">null</span>".to_owned() };
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() == text.len() {
        return format!("<code>{}</code>", escape(text));
    }
    let title: String = text.chars().take(TITLE).collect();
    format!("<code title=\"{}\">{}…</code>", escape(&title), escape(&cut))
}

/// A table; cells are HTML already.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
    header.iter().for_each(|name| out.push_str(&format!("<th>{}</th>", escape(name))));
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        row.iter().for_each(|cell| out.push_str(&format!("<td>{cell}</td>")));
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}

/// The page around `body`.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{}</title>\n<style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

const STYLE: &str = "
:root{--bg:#fbfbfa;--fg:#1d2125;--dim:#667;--line:#dcdfe3;--card:#fff;--good:#1f8a4c;--bad:#c62f2f;--note:#a86500;--unsure:#6a4fb5;--before:#3b7dd8;--after:#d8742a}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e7ea;--dim:#98a1aa;--line:#2d3339;--card:#1b1f23;--good:#46b877;--bad:#f06a6a;--note:#e0a53f;--unsure:#a48cf0;--before:#6fa8f0;--after:#f0a060}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
main{max-width:1100px;margin:0 auto;padding:24px 20px 64px}h1{font-size:22px;margin:0 0 2px;overflow-wrap:anywhere}h2{font-size:17px;margin:36px 0 10px}
p{margin:6px 0}.dim,.none{color:var(--dim)}.none{font-style:italic}code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.verdict{display:inline-block;font-weight:650;padding:4px 12px;border-radius:6px;color:#fff;margin:10px 0}.verdict.good{background:var(--good)}.verdict.bad{background:var(--bad)}.verdict.note{background:var(--note)}.verdict.unsure{background:var(--unsure)}
@media (prefers-color-scheme:dark){.verdict{color:#14171a}}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:10px 0}.facts dt{color:var(--dim)}.facts dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;background:var(--card)}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:6px 10px;border-top:1px solid var(--line);vertical-align:top}thead th{border-top:0;color:var(--dim);font-weight:600;white-space:nowrap}
.tag{font-weight:600;white-space:nowrap}.tag.good{color:var(--good)}.tag.bad{color:var(--bad)}.tag.note{color:var(--note)}.tag.unsure{color:var(--unsure)}
.map{border:1px solid var(--line);border-radius:8px;background:var(--card);padding:10px 12px}.file{display:flex;gap:12px;align-items:flex-start;padding:4px 0}.file .path{flex:0 0 46%;overflow-wrap:anywhere;font:12.5px/1.5 ui-monospace,monospace}.groups{display:flex;flex-wrap:wrap;gap:3px;padding-top:3px}
.g{width:13px;height:13px;border-radius:3px;background:var(--good)}.g.bad{background:var(--bad)}.g.note{background:var(--note)}.g.unsure{background:var(--unsure)}
.legend{display:flex;flex-wrap:wrap;gap:16px;margin:8px 0;color:var(--dim)}.legend span{display:inline-flex;gap:6px;align-items:center}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:14px}.chart{border:1px solid var(--line);border-radius:8px;background:var(--card);padding:10px 12px}.chart h3{font-size:14px;margin:0 0 4px;overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block}svg text{fill:var(--fg);font:11px ui-monospace,monospace}.b{fill:var(--before)}.a{fill:var(--after)}
@media (max-width:640px){.file{display:block}}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_written_becomes_markup() {
        let hostile = "<script>alert('1')</script>\" onload=\"x\" & \u{202e}gnp.exe\u{0}";
        let safe = escape(hostile);
        for forbidden in ['<', '>', '"', '\'', '\u{202e}', '\u{0}'] {
            assert!(!safe.contains(forbidden), "{forbidden:?} in {safe}");
        }
        assert!(safe.starts_with("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload="), "{safe}");
        assert!(!value(Some(&format!("{}<b>", "x".repeat(500)))).contains("<b>"));
        assert!(page("<t>", "").contains("<title>&lt;t&gt;</title>"));
    }
}
