//! Which requests go by way of a proxy. The provider block and the environment are merged as the hashicorp/aws provider
//! merges them (aws-sdk-go-base), and exceptions read as in Go's `httpproxy`, whose rules they are.

use std::net::IpAddr;

use reqwest::Url;

use crate::argument::rules::proxy_url;
use crate::settings::Settings;

/// The addresses of AWS's own credential services beside those that are link-local: instance metadata and pod identity
/// over IPv6.
const CREDENTIALS_V6: u128 = 0xfd00_0ec2 << 96;

/// The proxies of all requests.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Exceptions,
}

#[derive(Clone, Debug, Default)]
struct Exceptions {
    all: bool,
    hosts: Vec<Exception>,
}

#[derive(Clone, Debug)]
struct Exception {
    what: What,
    port: Option<String>,
}

#[derive(Clone, Debug)]
enum What {
    Address(IpAddr),
    /// The first address and the number of bits that count.
    Network(IpAddr, u32),
    /// A domain with a dot before it, and whether it stands for itself as well.
    Domain(String, bool),
}

impl Proxies {
    /// The proxies of the provider block, and of the environment where that is silent.
    pub fn of(settings: &Settings) -> Proxies {
        Proxies::merged(settings, environment)
    }

    fn merged(settings: &Settings, environment: impl Fn(&str) -> Option<String>) -> Proxies {
        // In a CGI program a client of the web server's sets this one.
        let of_client = environment("request_method").is_some();
        let mut http = environment("http_proxy").filter(|_| !of_client);
        let mut https = environment("https_proxy");
        if let Some(own) = &settings.http_proxy {
            http = Some(own.clone());
            // An HTTPS proxy of the environment stays.
            https = https.or(http.clone());
        }
        // Set to nothing it means none.
        https = settings.https_proxy.clone().or(https);
        let no_proxy = settings.no_proxy.clone().filter(|list| !list.is_empty()).or_else(|| environment("no_proxy"));
        Proxies {
            http: http.as_deref().and_then(proxy_url),
            https: https.as_deref().and_then(proxy_url),
            exceptions: Exceptions::parse(&no_proxy.unwrap_or_default()),
        }
    }

    /// Whether HTTPS goes by way of the HTTP proxy only because nothing was said of it.
    pub fn is_https_guessed(settings: &Settings) -> bool {
        settings.http_proxy.as_ref().is_some_and(|url| !url.is_empty())
            && settings.https_proxy.is_none()
            && environment("https_proxy").is_none()
    }

    /// The proxy for a request.
    pub fn proxy_for(&self, url: &Url) -> Option<Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = url.port_or_known_default().map(|port| port.to_string()).unwrap_or_default();
        let address: Option<IpAddr> = host.parse().ok();
        // Credentials are handed out there, to whoever asks: no other machine may stand between.
        if host == "localhost" || address.is_some_and(is_near) {
            return None;
        }
        (!self.exceptions.cover(&host, &port, address)).then(|| proxy.clone())
    }
}

/// A variable in capital letters, or else in small ones.
fn environment(name: &str) -> Option<String> {
    let spellings = [name.to_ascii_uppercase(), name.to_ascii_lowercase()];
    spellings.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Whether an address is of this machine, or of one that only hands out credentials to it.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            let mapped = address.to_ipv4_mapped().map(IpAddr::V4);
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.to_bits() & (0xffff_ffff << 96) == CREDENTIALS_V6
                || mapped.is_some_and(is_near)
        }
    }
}

impl Exceptions {
    fn parse(list: &str) -> Exceptions {
        let mut hosts = Vec::new();
        for entry in list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                return Exceptions { all: true, hosts: Vec::new() };
            }
            hosts.extend(Exception::parse(&entry));
        }
        Exceptions { all: false, hosts }
    }

    fn cover(&self, host: &str, port: &str, address: Option<IpAddr>) -> bool {
        self.all || self.hosts.iter().any(|one| one.covers(host, port, address))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Exception> {
        if let Some((first, bits)) = entry.split_once('/')
            && let (Ok(first), Ok(bits)) = (first.parse::<IpAddr>(), bits.parse::<u32>())
        {
            let most = if first.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Exception { what: What::Network(first, bits), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            // A colon of an address without brackets is no port's.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.to_owned())),
            _ => (entry, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse() {
            return Some(Exception { what: What::Address(address), port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let (domain, itself) = match host.strip_prefix('.') {
            Some(_) => (host.to_owned(), false),
            None => (format!(".{host}"), true),
        };
        (!host.is_empty()).then_some(Exception { what: What::Domain(domain, itself), port })
    }

    fn covers(&self, host: &str, port: &str, address: Option<IpAddr>) -> bool {
        let covers = match (&self.what, address) {
            (What::Address(own), Some(address)) => *own == address,
            (What::Network(first, bits), Some(address)) => is_in(address, *first, *bits),
            (What::Domain(domain, itself), _) => host.ends_with(domain) || (*itself && host == &domain[1..]),
            _ => false,
        };
        covers && self.port.as_ref().is_none_or(|own| own.is_empty() || own == port)
    }
}

fn is_in(address: IpAddr, first: IpAddr, bits: u32) -> bool {
    match (address, first) {
        (IpAddr::V4(address), IpAddr::V4(first)) => {
            (address.to_bits() ^ first.to_bits()).checked_shr(32 - bits).unwrap_or_default() == 0
        }
        (IpAddr::V6(address), IpAddr::V6(first)) => {
            (address.to_bits() ^ first.to_bits()).checked_shr(128 - bits).unwrap_or_default() == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELB: &str = "https://elasticloadbalancing.eu-central-1.amazonaws.com/";

    fn proxies(block: (Option<&str>, Option<&str>, Option<&str>), environment: &[(&str, &str)]) -> Proxies {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let (http_proxy, https_proxy, no_proxy) = (own(block.0), own(block.1), own(block.2));
        let settings = Settings { http_proxy, https_proxy, no_proxy, ..Settings::default() };
        let of = |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        Proxies::merged(&settings, of)
    }

    #[track_caller]
    fn check(proxies: &Proxies, url: &str, expected: Option<&str>) {
        let found = proxies.proxy_for(&Url::parse(url).unwrap());
        assert_eq!(found.as_ref().map(|url| url.as_str().trim_end_matches('/')), expected, "{url}");
    }

    #[test]
    fn the_block_and_the_environment_are_merged_as_by_the_aws_provider() {
        let with_exceptions = [("no_proxy", "amazonaws.com")];
        check(&proxies((Some("http://p:1"), None, None), &with_exceptions), ELB, None);
        check(&proxies((Some("http://p:1"), None, Some("other.com")), &with_exceptions), ELB, Some("http://p:1"));
        check(&proxies((Some("http://p:1"), None, Some("")), &with_exceptions), ELB, None);
        let of_environment = [("https_proxy", "http://e:2")];
        check(&proxies((Some("http://p:1"), None, None), &of_environment), ELB, Some("http://e:2"));
        check(&proxies((Some("http://p:1"), None, None), &of_environment), "http://a.b/", Some("http://p:1"));
        check(&proxies((Some("http://p:1"), Some(""), None), &[]), ELB, None);
        check(&proxies((None, Some(""), None), &of_environment), ELB, None);
        check(&proxies((Some(""), None, None), &[("http_proxy", "http://e:3")]), "http://a.b/", None);
        check(
            &proxies((None, Some("http://s:4"), None), &[("http_proxy", "http://e:3")]),
            "http://a.b/",
            Some("http://e:3"),
        );
        check(&proxies((None, None, None), &of_environment), ELB, Some("http://e:2"));
        let cgi = [("http_proxy", "http://e:3"), ("request_method", "GET")];
        check(&proxies((None, None, None), &cgi), "http://a.b/", None);
    }

    #[test]
    fn credential_addresses_and_this_machine_are_never_behind_a_proxy() {
        let proxies = proxies((Some("http://p:1"), None, None), &[]);
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://169.254.170.2/v2/credentials",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::254]/latest",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://localhost:4566/",
            "http://127.0.0.3:4566/",
            "http://[::1]:4566/",
        ] {
            check(&proxies, url, None);
        }
        check(&proxies, "http://10.0.0.1/", Some("http://p:1"));
        check(&proxies, "http://[fd00:ec3::254]/", Some("http://p:1"));
    }

    #[test]
    fn exceptions_read_as_go_reads_them() {
        let list = "foo.com, .bar.com,*.baz.com:8443, 10.0.0.0/8,[fd00::1]:80,192.0.2.7:81,::2, /,192.0.2.0/40";
        let proxies = proxies((Some("http://p:1"), None, Some(list)), &[]);
        for url in [
            "https://foo.com/",
            "https://a.foo.com/",
            "https://a.bar.com/",
            "https://a.BAZ.com:8443/",
            "http://10.9.8.7/",
            "http://[fd00::1]/",
            "http://192.0.2.7:81/",
            "http://[::2]/",
        ] {
            check(&proxies, url, None);
        }
        for url in
            ["https://barfoo.com/", "https://bar.com/", "https://a.baz.com/", "http://192.0.2.7/", "http://11.0.0.1/"]
        {
            check(&proxies, url, Some("http://p:1"));
        }
        check(&self::proxies((Some("http://p:1"), None, Some("a.b,*")), &[]), ELB, None);
        assert_eq!(proxy_url("proxy.corp:3128").unwrap().as_str(), "http://proxy.corp:3128/");
        assert!(proxy_url("ftp://proxy").is_none() && proxy_url("").is_none());
    }
}
