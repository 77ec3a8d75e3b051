//! URLs as messages may show them: their paths and queries may hold secrets.

/// Scheme and authority, without who signs in there.
fn place(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (scheme, host, rest)
}

/// Scheme and host, of what may be no URL at all; all else may be a secret.
pub(super) fn host_only(url: &str) -> String {
    match place(url) {
        ("", _, "") => "…".to_owned(),
        ("", host, _) => format!("{host}/…"),
        (scheme, host, _) => format!("{scheme}://{host}/…"),
    }
}

/// A URL without who signs in, query and fragment.
pub(super) fn without_secrets(url: &str) -> String {
    let (scheme, host, rest) = place(url);
    let path = rest.find(['?', '#']).and_then(|end| rest.get(..end)).unwrap_or(rest);
    let cut = if path.len() < rest.len() { "?…" } else { "" };
    format!("{scheme}{}{host}{path}{cut}", if scheme.is_empty() { "" } else { "://" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for (url, host, place) in [
            ("https://h.example/a/b", "https://h.example/…", "https://h.example/a/b"),
            ("https://u:p@h.example:81/a?token=x#y", "https://h.example:81/…", "https://h.example:81/a?…"),
            ("https://u:p@q@h.example", "https://h.example/…", "https://h.example"),
            ("https://h.example?token=x/y@z", "https://h.example/…", "https://h.example?…"),
            ("s3://bucket/pins.json", "s3://bucket/…", "s3://bucket/pins.json"),
            ("h.example/SECRET", "h.example/…", "h.example/SECRET"),
            ("SECRET", "…", "SECRET"),
        ] {
            assert_eq!((host_only(url).as_str(), without_secrets(url).as_str()), (host, place), "{url}");
        }
    }
}
