//! Rules for texts and numbers that arguments of several rooms share.

use crate::duration;

/// A duration.
///
/// # Errors
/// What is wrong with it.
pub fn time(text: &str) -> Result<(), String> {
    duration::parse(text).map(drop)
}

/// A duration longer than nothing. What is no duration at all, the rule of its type tells.
///
/// # Errors
/// That it is none.
pub fn some_time(text: &str) -> Result<(), String> {
    if duration::parse(text).is_ok_and(|time| time.is_zero()) {
        Err("must be longer than 0".to_owned())
    } else {
        Ok(())
    }
}

/// The name of a region, as all of AWS's are: `eu-central-1`, `us-gov-west-1`, `eusc-de-east-1`.
///
/// # Errors
/// What it may be.
pub fn region(text: &str) -> Result<(), String> {
    let words: Vec<&str> = text.split('-').collect();
    let fits = match words.as_slice() {
        [first, middle @ .., last] if !middle.is_empty() => {
            let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            (2..=4).contains(&first.len())
                && is_word(first)
                && middle.iter().all(is_word)
                && (1..=2).contains(&last.len())
                && last.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("{text:?} is not the name of a region, such as eu-central-1")) }
}

/// The value of a tag.
///
/// # Errors
/// What a tag may hold.
pub fn tag_value(text: &str) -> Result<(), String> {
    if text.chars().count() <= 256 && text.chars().all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c)) {
        return Ok(());
    }
    Err(format!("{text:?} must be the value of a tag: at most 256 letters, digits, spaces and + - = . _ : / @"))
}

/// The name of a thing, which becomes the value of a tag and is not empty.
///
/// # Errors
/// What it may hold.
pub fn name(text: &str) -> Result<(), String> {
    if (1..=128).contains(&text.chars().count()) && tag_value(text).is_ok() {
        return Ok(());
    }
    Err(format!("{text:?} must have 1 to 128 characters: letters, digits, spaces and + - = . _ : / @"))
}

/// The name of a color.
///
/// # Errors
/// What it may be.
pub fn color(text: &str) -> Result<(), String> {
    let fits = text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.ends_with('-');
    if fits {
        return Ok(());
    }
    Err(format!("{text:?} must be lower-case letters, digits and dashes, a letter first and no dash last, at most 32"))
}

/// The name of an SSM parameter.
///
/// # Errors
/// What is wrong with it.
pub fn parameter(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(format!("{name:?} is no parameter name: letters, digits and _ . - / are allowed"));
    }
    if name.contains('/') && !name.starts_with('/') {
        return Err(format!("{name:?} has a hierarchy, so it must begin with a slash: \"/{name}\""));
    }
    let reserved = name.trim_start_matches('/').to_ascii_lowercase();
    if name.ends_with('/') || name.contains("//") || reserved.starts_with("aws") || reserved.starts_with("ssm") {
        return Err(format!("{name:?} is no parameter name: no empty levels, and not beginning with aws or ssm"));
    }
    Ok(())
}

/// A network in CIDR notation.
///
/// # Errors
/// That it is none.
pub fn network(text: &str) -> Result<(), String> {
    let wrong = || format!("{text:?} is no network in CIDR notation, such as \"10.0.0.0/8\" or \"192.0.2.1/32\"");
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let most = match address.parse::<std::net::IpAddr>().map_err(|_| wrong())? {
        std::net::IpAddr::V4(_) => 32,
        std::net::IpAddr::V6(_) => 128,
    };
    if length.parse::<u32>().is_ok_and(|length| length <= most) { Ok(()) } else { Err(wrong()) }
}

/// A regular expression.
///
/// # Errors
/// What is wrong with it.
pub fn pattern(text: &str) -> Result<(), String> {
    regex::Regex::new(text).map(drop).map_err(|error| format!("not a regular expression: {error}"))
}

/// A regular expression in which `{color}` stands for a color.
///
/// # Errors
/// What is wrong with it.
pub fn pattern_for_color(text: &str) -> Result<(), String> {
    pattern(&text.replace("{color}", "color"))
}

/// A number above 0.
///
/// # Errors
/// That it is none.
pub fn positive(number: f64) -> Result<(), String> {
    if number > 0.0 { Ok(()) } else { Err(format!("{number} must be a number above 0")) }
}

/// A document of JSON, with `{color}` in it if need be.
///
/// # Errors
/// What is wrong with it.
pub fn json(text: &str) -> Result<(), String> {
    let filled = text.replace("{color}", "color");
    serde_json::from_str::<serde_json::Value>(&filled).map(drop).map_err(|error| format!("not JSON: {error}"))
}

/// The URL of an endpoint. The empty string is none.
///
/// # Errors
/// What is wrong with it, without the value, which may hold a password.
pub fn endpoint(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    match reqwest::Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Err("it must begin with http:// or https://".to_owned())
        }
        Ok(url) if url.has_host() => Ok(()),
        Ok(_) => Err("the URL has no host".to_owned()),
        Err(error) => Err(format!("not a URL: {error}")),
    }
}

/// A proxy's address; without a scheme it is taken for one over HTTP.
pub fn proxy_url(text: &str) -> Option<reqwest::Url> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let known = |url: &reqwest::Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h") && url.has_host();
    if text.contains("://") {
        return reqwest::Url::parse(text).ok().filter(known);
    }
    reqwest::Url::parse(&format!("http://{text}")).ok().filter(known)
}

/// The address of a proxy. The empty string is none.
///
/// # Errors
/// That it is none, without the value, which may hold a password.
pub fn proxy(text: &str) -> Result<(), String> {
    let fits = text.is_empty() || proxy_url(text).is_some();
    if fits { Ok(()) } else { Err("not the address of a proxy, such as http://proxy.example.com:3128".to_owned()) }
}
