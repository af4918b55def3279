//! Which cookies a browser would send: what a login set, to the address that is asked next (RFC 6265bis).

use cookie::{Cookie, Expiration};
use time::OffsetDateTime;

use super::check::{HttpCheck, UrlParts};

/// What a login set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookies {
    /// Names and values of those that a browser would send.
    pub sent: Vec<(String, String)>,
    /// Names of those that it would not send, each with the reason.
    pub kept: Vec<(String, String)>,
}

/// Where a request goes, as a browser sees it.
struct Place {
    is_secure: bool,
    host: String,
    path: String,
}

impl Place {
    fn of(check: &HttpCheck) -> Place {
        let parts = UrlParts::of(&check.url);
        let (scheme, authority, path) = parts.map_or(("", "", "/"), |parts| {
            (parts.scheme, parts.host, if parts.path.is_empty() { "/" } else { parts.path })
        });
        let named =
            check.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, host)| host.as_str());
        let authority = named.unwrap_or(authority);
        // The port is no part of the place, but for the colons of an address in brackets.
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
            _ => authority,
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        // Browsers trust what never leaves the machine.
        let is_local = host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || is_loopback(&host);
        Place { is_secure: scheme.eq_ignore_ascii_case("https") || is_local, host, path: path.to_owned() }
    }

    fn is_in(&self, domain: &str) -> bool {
        self.host == domain
            || (self.host.strip_suffix(domain).is_some_and(|before| before.ends_with('.')) && !is_address(&self.host))
    }

    /// The path of a cookie that names none.
    fn default_path(&self) -> &str {
        match self.path.rfind('/') {
            Some(at) if at > 0 => &self.path[..at],
            _ => "/",
        }
    }

    fn is_under(&self, path: &str) -> bool {
        self.path == path
            || self.path.strip_prefix(path).is_some_and(|rest| path.ends_with('/') || rest.starts_with('/'))
    }
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<core::net::Ipv4Addr>().is_ok()
}

fn is_loopback(host: &str) -> bool {
    host.parse::<core::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// What of the cookies that an answer to `login` sets a browser would send with `check`.
///
/// Users come to every color by one name, so a cookie for the host that set it counts as one for the host that is asked.
/// A cookie with a `Domain` goes where that covers the host. Cookies by which load balancers keep a client at a target are
/// none of the session's.
pub fn cookies<'h>(
    set: impl Iterator<Item = &'h str>,
    login: &HttpCheck,
    check: &HttpCheck,
    now: OffsetDateTime,
) -> Cookies {
    let (login, check) = (Place::of(login), Place::of(check));
    let mut found: Vec<(Key, String, Option<String>)> = Vec::new();
    for text in set {
        let Ok(cookie) = Cookie::parse(text) else { continue };
        let name = cookie.name().to_owned();
        if name.starts_with("AWSALB") || name.starts_with("AWSELB") {
            continue;
        }
        let path = cookie.path().unwrap_or_else(|| login.default_path()).to_owned();
        let key = (name, cookie.domain().unwrap_or_default().to_ascii_lowercase(), path);
        // Set again, it takes the place of the former one.
        found.retain(|(own, ..)| *own != key);
        let reason = hindrance(&cookie, &login, &check, now);
        found.push((key, cookie.value().to_owned(), reason));
    }
    let mut cookies = Cookies::default();
    // Longer paths come first.
    found.sort_by_key(|((_, _, path), ..)| std::cmp::Reverse(path.len()));
    for ((name, ..), value, reason) in found {
        match reason {
            None => cookies.sent.push((name, value)),
            Some(reason) => cookies.kept.push((name, reason)),
        }
    }
    cookies
}

/// What makes a cookie the same one: its name, domain and path.
type Key = (String, String, String);

/// Why a browser would not send it.
fn hindrance(cookie: &Cookie<'_>, login: &Place, check: &Place, now: OffsetDateTime) -> Option<String> {
    let is_secure = cookie.secure() == Some(true);
    let domain = cookie.domain().map(|domain| domain.trim_start_matches('.').to_ascii_lowercase());
    let domain = domain.filter(|domain| !domain.is_empty());
    let path = cookie.path().filter(|path| path.starts_with('/'));
    let name = cookie.name();
    if name.starts_with("__Host-") && (!is_secure || domain.is_some() || path != Some("/")) {
        return Some("its name begins with __Host-, so it must be Secure, with Path=/ and without a Domain".to_owned());
    }
    if name.starts_with("__Secure-") && !is_secure {
        return Some("its name begins with __Secure-, and it is not Secure".to_owned());
    }
    if is_secure && !login.is_secure {
        return Some("it is Secure, and was set over http://".to_owned());
    }
    if is_secure && !check.is_secure {
        return Some("it is Secure, and the address is http://".to_owned());
    }
    let is_over = match (cookie.max_age(), cookie.expires()) {
        (Some(age), _) => !age.is_positive(),
        (None, Some(Expiration::DateTime(end))) => end <= now,
        _ => false,
    };
    if is_over {
        return Some("it has expired".to_owned());
    }
    if let Some(domain) = &domain {
        if !login.is_in(domain) || (!domain.contains('.') && *domain != login.host) {
            return Some(format!("its Domain {domain} does not cover {}, which set it", login.host));
        }
        if !check.is_in(domain) {
            return Some(format!("its Domain {domain} does not cover {}", check.host));
        }
    }
    let path = path.unwrap_or_else(|| login.default_path());
    (!check.is_under(path)).then(|| format!("its Path {path} does not cover {}", check.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(login: &str, asked: &str, set: &[&str], sent: &[&str], reason: &str) {
        let request = |url: &str| HttpCheck { url: url.to_owned(), ..HttpCheck::default() };
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let found = cookies(set.iter().copied(), &request(login), &request(asked), now);
        let names: Vec<&str> = found.sent.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, sent, "{found:?}");
        let kept = found.kept.iter().map(|(name, reason)| format!("{name}: {reason}")).collect::<Vec<_>>().join("; ");
        assert!(kept.contains(reason) && kept.is_empty() == reason.is_empty(), "{kept}");
    }

    const BLUE: &str = "https://blue.app.com/login";
    const GREEN: &str = "https://green.app.com/whoami";

    #[test]
    fn a_cookie_of_the_host_goes_to_the_other_color() {
        check(BLUE, GREEN, &["sid=abc; Path=/; HttpOnly; Secure; SameSite=Lax", "AWSALBTG=x"], &["sid"], "");
        check(BLUE, GREEN, &["a=1", "a=2"], &["a"], "");
    }

    #[test]
    fn a_domain_must_cover_both() {
        check(BLUE, GREEN, &["sid=1; Domain=.app.com; Path=/"], &["sid"], "");
        check(
            BLUE,
            GREEN,
            &["sid=1; Domain=blue.app.com"],
            &[],
            "sid: its Domain blue.app.com does not cover green.app.com",
        );
        check(BLUE, GREEN, &["sid=1; Domain=other.com"], &[], "does not cover blue.app.com, which set it");
        check(BLUE, GREEN, &["sid=1; Domain=com"], &[], "its Domain com does not cover");
        check(BLUE, "https://badapp.com/", &["sid=1; Domain=app.com; Path=/"], &[], "does not cover badapp.com");
    }

    #[test]
    fn secure_ones_need_https() {
        check(
            BLUE,
            "http://green.app.com/whoami",
            &["sid=1; Secure; Path=/"],
            &[],
            "sid: it is Secure, and the address is http://",
        );
        check("http://blue.app.com/login", GREEN, &["sid=1; Secure; Path=/"], &[], "was set over http://");
        check("http://127.0.0.1:8080/login", "http://127.0.0.2/me", &["sid=1; Secure; Path=/"], &["sid"], "");
        check(
            BLUE,
            GREEN,
            &["__Host-sid=1; Secure; Path=/", "__Host-a=1; Secure", "__Secure-b=1"],
            &["__Host-sid"],
            "__Host-a: its name",
        );
    }

    #[test]
    fn a_path_is_kept_and_what_expired_is_gone() {
        check(
            BLUE,
            GREEN,
            &["a=1; Path=/admin", "b=1; Path=/who", "c=1; Path=/"],
            &["c"],
            "b: its Path /who does not cover /whoami",
        );
        check("https://blue.app.com/auth/login", GREEN, &["a=1"], &[], "its Path /auth does not cover /whoami");
        check(BLUE, GREEN, &["a=1; Max-Age=0", "b=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], &[], "a: it has expired");
        check(BLUE, GREEN, &["a=1", "a=; Max-Age=0"], &[], "a: it has expired");
        check(BLUE, GREEN, &["a=x; Path=/", "a=y; Path=/login"], &["a"], "a: its Path /login does not cover /whoami");
    }
}
