//! What this process was told in confidence, and texts without it. Everything that comes from outside and everything that
//! the provider says passes here, on its way to a person, a log, a state or a message.
//!
//! A secret is known by its value. It is [learned](learn) wherever it comes in: from the configuration, the environment,
//! a credentials provider, a login. Its other forms (quoted, percent-encoded, in Base64, the password in a URL, the token
//! after `Bearer`) are derived here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{LazyLock, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::{digest, variables};

/// What stands in the place of a secret.
const STRUCK: &str = "***";
/// In texts of others shorter values are struck out only where they stand as words of their own: everywhere else they are
/// parts of others.
const SHORT: usize = 4;
/// In what the provider says itself shorter values are words of its own.
const OWN_WORDS: usize = 6;
/// Longer values are files, of which no message holds a copy; their lines are looked for.
const LONGEST: usize = 16 * 1024;
/// A line of a secret with several, such as a private key, is a secret of its own from this length on.
const LINE: usize = 16;
/// Longer values are no names.
const LONGEST_NAME: usize = 256;
/// A secret of more lines is a document, and none of them a secret.
const MOST_LINES: usize = 100;
/// What a longer document holds is not looked for.
const LONGEST_DOCUMENT: usize = 1024 * 1024;
/// So many values of one document are looked for.
const MOST_LEAVES: usize = 500;
/// More than any process has: what bounds the memory of one that lives for days.
const MOST: usize = 500_000;
/// Words of the provider's own that a careless password may be as well.
const VOCABULARY: [&str; 12] = [
    "terraform",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "localhost",
    "password",
    "release",
    "listener",
    "parameter",
    "provider",
    "database",
];
/// Names of variables whose values are secrets.
const TELLING: [&str; 8] =
    ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "ACCESS_KEY", "PRIVATE_KEY", "API_KEY"];

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(|| RwLock::new(Known::of_environment()));

/// Where a secret is struck out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Also in what the provider says itself.
    Everywhere,
    /// In texts of others alone: it may well be an ordinary word.
    Outside,
}

#[derive(Default)]
struct Known {
    everywhere: Words,
    outside: Words,
    /// What stands in plain scope anyway, such as the name of a color.
    public: BTreeSet<String>,
    /// Digests of what was learned: every call of Terraform's brings the same configuration again.
    learned: BTreeSet<(String, bool)>,
}

/// Secrets, the longest first, so that one that holds another is struck out whole.
#[derive(Default)]
struct Words(BTreeSet<(std::cmp::Reverse<usize>, String)>);

impl Words {
    fn add(&mut self, word: String) {
        if !word.trim().is_empty() && self.0.len() < MOST {
            self.0.insert((std::cmp::Reverse(word.len()), word));
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, word)| word.as_str())
    }
}

impl Known {
    fn of_environment() -> Known {
        let mut known = Known::default();
        for (name, value) in variables::all() {
            // An address with a password in it, whatever the variable is called.
            if let Some(with_scheme) = with_password(&name, &value) {
                known.learn(&with_scheme, Reach::Everywhere);
            } else if let Some(reach) = reach_of(&name).filter(|reach| *reach == Reach::Everywhere || !is_plain(&value))
            {
                known.learn(&value, reach);
            }
        }
        known
    }

    fn learn(&mut self, secret: &str, reach: Reach) {
        if is_ordinary(secret) || !self.learned.insert((digest::sha256(secret), reach == Reach::Everywhere)) {
            return;
        }
        // The host of an address is told wherever the address is.
        self.public.extend(address(secret).and_then(|parts| parts.host));
        for (word, own) in forms(secret) {
            self.add(word, if own == Reach::Outside { own } else { reach });
        }
    }

    fn add(&mut self, word: String, reach: Reach) {
        if reach == Reach::Everywhere {
            self.everywhere.add(word.clone());
        }
        self.outside.add(word);
    }

    /// Whether a text of the provider's own has it anyway: as one of its words, or as a part of a name that is no secret.
    fn is_open(&self, word: &str) -> bool {
        VOCABULARY.contains(&word) || self.public.iter().any(|name| name.contains(word))
    }

    /// What is struck out of a text, longest first.
    fn struck_from(&self, text: &str, reach: Reach) -> String {
        let mut struck = text.to_owned();
        let words = if reach == Reach::Outside { &self.outside } else { &self.everywhere };
        for word in words.iter() {
            let length = word.chars().count();
            // In its own words shorter ones are words.
            let is_own = reach == Reach::Everywhere && length < OWN_WORDS;
            if is_own || !struck.contains(word) || self.public.contains(word) {
                continue;
            }
            if reach == Reach::Everywhere && self.is_open(word) {
                continue;
            }
            struck = if length < SHORT { without_word(&struck, word) } else { struck.replace(word, STRUCK) };
        }
        struck
    }

    fn longest(&self) -> usize {
        self.outside.iter().next().map(str::len).unwrap_or_default()
    }
}

/// Remembers secrets.
pub fn learn(secrets: impl IntoIterator<Item = impl AsRef<str>>, reach: Reach) {
    if let Ok(mut known) = KNOWN.write() {
        for secret in secrets {
            known.learn(secret.as_ref(), reach);
        }
    }
}

/// Remembers secrets as they are, without what may be in them.
pub fn learn_whole(secrets: impl IntoIterator<Item = impl AsRef<str>>) {
    if let Ok(mut known) = KNOWN.write() {
        for secret in secrets {
            for word in spellings(secret.as_ref().to_owned()) {
                known.add(word, Reach::Everywhere);
            }
        }
    }
}

/// Remembers what is no secret, whoever else has the same value for one.
pub fn publish(values: impl IntoIterator<Item = impl AsRef<str>>) {
    if let Ok(mut known) = KNOWN.write() {
        for value in values {
            let value = value.as_ref();
            if value.len() <= LONGEST_NAME && known.public.len() < MOST {
                known.public.insert(value.to_owned());
            }
        }
    }
}

/// What the provider says itself, without what it was told in confidence and without what would steer a terminal. Texts of
/// others in it have been through [`outside`].
pub fn masked(text: &str) -> String {
    let struck = KNOWN.read().map_or_else(|_| STRUCK.to_owned(), |known| known.struck_from(text, Reach::Everywhere));
    harmless(&struck)
}

/// A text of somebody else's, such as the answer of a server or the output of a command.
pub fn outside(text: &str) -> String {
    let struck = KNOWN.read().map_or_else(|_| STRUCK.to_owned(), |known| known.struck_from(text, Reach::Outside));
    harmless(&struck)
}

/// The beginning of a text of somebody else's, of so many characters. It is cut after it was masked; where `is_cut`, it
/// was cut by a limit before, maybe within a secret.
pub fn beginning(text: &str, is_cut: bool, chars: usize) -> String {
    let beyond = if is_cut { longest() } else { 0 };
    let mut end = text.len().saturating_sub(beyond);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // What is far behind what is shown needs no masking.
    let needed = (chars.saturating_mul(4)).saturating_add(longest());
    let mut near = end.min(needed);
    while !text.is_char_boundary(near) {
        near -= 1;
    }
    outside(text[..near].trim()).chars().take(chars).collect()
}

/// The end of a text of somebody else's, which tells the most; where `is_cut`, it was cut by a limit before, maybe within
/// a secret.
pub fn end(text: &str, is_cut: bool, chars: usize) -> String {
    let mut start = if is_cut { longest().min(text.len()) } else { 0 };
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let struck = outside(&text[start..]);
    let beyond = struck.chars().count().saturating_sub(chars);
    match (beyond, is_cut) {
        (0, false) => struck,
        (beyond, _) => format!("…{}", struck.chars().skip(beyond).collect::<String>()),
    }
}

fn longest() -> usize {
    KNOWN.read().map(|known| known.longest()).unwrap_or_default()
}

/// Where the value of a variable of this name is struck out, if it is a secret.
fn reach_of(name: &str) -> Option<Reach> {
    let upper = name.to_ascii_uppercase();
    // What they hold is a name or an address.
    if ["_FILE", "_URI", "_URL", "_PATH", "_ARN"].iter().any(|end| upper.ends_with(end))
        && !upper.starts_with("TF_VAR_")
    {
        return None;
    }
    if upper.starts_with("TF_TOKEN_") || TELLING.iter().any(|part| upper.contains(part)) {
        return Some(Reach::Everywhere);
    }
    // An input variable may be a secret, and is a name or a color more often.
    upper.starts_with("TF_VAR_").then_some(Reach::Outside)
}

/// A count or a short word, as input variables often are.
fn is_plain(value: &str) -> bool {
    value.chars().count() < OWN_WORDS || value.parse::<f64>().is_ok()
}

/// The address in a variable that has a password in it.
fn with_password(name: &str, value: &str) -> Option<String> {
    let is_proxy = name.to_ascii_uppercase().ends_with("_PROXY");
    let text = if is_proxy && !value.contains("://") { format!("http://{value}") } else { value.to_owned() };
    address(&text).filter(|parts| parts.password.is_some()).map(|_| text)
}

/// Values that nobody keeps secret: media types and the like, which headers are full of.
fn is_ordinary(value: &str) -> bool {
    let words =
        ["true", "false", "null", "no-cache", "no-store", "gzip", "br", "identity", "keep-alive", "close", "{}", "[]"];
    let value = value.trim();
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || "*+-.".contains(c));
    let first = value.split([';', ',']).next().unwrap_or_default();
    let is_media_type = first.split_once('/').is_some_and(|(kind, rest)| {
        ["application", "text", "image", "multipart", "*"].contains(&kind) && is_part(rest)
    });
    value.is_empty() || words.contains(&value) || is_media_type
}

/// Whether a header of this name is one that every request has, and that lets nobody in.
pub fn is_usual_header(name: &str) -> bool {
    let usual = [
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-type",
        "host",
        "origin",
        "pragma",
        "user-agent",
    ];
    usual.iter().any(|one| name.eq_ignore_ascii_case(one))
}

/// A secret with what it holds and the other forms that it may be met in.
fn forms(secret: &str) -> Vec<(String, Reach)> {
    let mut values: Vec<(String, Reach)> = Vec::new();
    let mut add = |value: &str, reach| values.push((value.trim().to_owned(), reach));
    let is_plain_address = secret.starts_with("http") && address(secret).is_some_and(|parts| !parts.is_telling());
    if secret.len() <= LONGEST && !is_plain_address {
        add(secret, Reach::Everywhere);
    }
    if secret.contains('%') && !is_plain_address && secret.len() <= LONGEST {
        add(&percent_decoded(secret), Reach::Everywhere);
    }
    let lines = secret.lines().take(MOST_LINES + 1).count();
    for line in secret.lines().filter(|line| line.trim().len() >= LINE && line.len() <= LONGEST && *line != secret) {
        if lines <= MOST_LINES && !is_plain_address && !line.starts_with("-----") {
            add(line, Reach::Everywhere);
        }
    }
    // The token without the scheme before it, and what is in one for Basic.
    if let Some((_, token)) = secret.trim().split_once(' ').filter(|(scheme, token)| is_scheme(scheme, token)) {
        add(token, Reach::Everywhere);
        let pair = STANDARD.decode(token.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(pair) = pair.filter(|pair| pair.contains(':')) {
            add(&pair, Reach::Everywhere);
            add(pair.split_once(':').map(|(_, password)| password).unwrap_or_default(), Reach::Everywhere);
        }
    }
    if let Some(parts) = address(secret) {
        values.extend(parts.secrets());
    } else if secret.len() <= LONGEST_DOCUMENT {
        values.extend(leaves(secret).into_iter().filter(|(leaf, _)| leaf.len() <= LONGEST).take(MOST_LEAVES));
    }
    values.into_iter().flat_map(|(value, reach)| spellings(value).into_iter().map(move |form| (form, reach))).collect()
}

fn is_scheme(scheme: &str, token: &str) -> bool {
    !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !token.trim().contains(' ')
}

/// What of an address is told in confidence.
struct Address {
    scheme: String,
    host: Option<String>,
    user: Option<String>,
    password: Option<String>,
    query: Option<String>,
}

fn address(text: &str) -> Option<Address> {
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return None;
    }
    let (authority, after) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = Some(host.rsplit_once(':').map_or(host, |(host, _)| host)).filter(|host| !host.is_empty());
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let (user, password) = match user.and_then(|user| user.split_once(':')) {
        Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
        None => (user.map(str::to_owned), None),
    };
    let query = after.split_once('?').map(|(_, query)| query.to_owned()).filter(|query| !query.is_empty());
    Some(Address { scheme: scheme.to_owned(), host: host.map(str::to_owned), user, password, query })
}

impl Address {
    fn is_telling(&self) -> bool {
        self.user.is_some() || self.query.is_some()
    }

    fn secrets(&self) -> Vec<(String, Reach)> {
        let mut found = Vec::new();
        let user = self.user.as_deref().map(percent_decoded).unwrap_or_default();
        if let Some(password) = &self.password {
            let plain = percent_decoded(password);
            let pair = format!("{user}:{plain}");
            for value in [password.clone(), plain, pair] {
                found.push((value, Reach::Everywhere));
            }
        } else if !user.is_empty() && self.scheme.starts_with("http") {
            // A token alone stands where a user would; of a database it is a user.
            found.push((user.clone(), Reach::Outside));
        }
        if let Some(query) = &self.query {
            found.push((query.clone(), Reach::Everywhere));
            found.extend(pairs(query).into_iter().map(|value| {
                let reach = if value.len() < OWN_WORDS { Reach::Outside } else { Reach::Everywhere };
                (value, reach)
            }));
        }
        found
    }
}

/// The values of `a=b&c=d`, as they are written and as they are meant. One that is a count is none.
fn pairs(text: &str) -> Vec<String> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-.[]%".contains(c));
    let named = text.split(['&', '#']).filter_map(|pair| pair.split_once('='));
    // What ends in `=` is Base64 and no form.
    let values =
        named.filter(|(name, value)| is_name(name) && !value.chars().all(|c| c == '=')).map(|(_, value)| value);
    let values = values.filter(|value| {
        !(value.is_empty() || is_ordinary(value) || value.len() < SHORT && value.parse::<f64>().is_ok())
    });
    values.flat_map(|value| [value.to_owned(), percent_decoded(&value.replace('+', " "))]).collect()
}

/// What a body or a payload holds: texts of a JSON document, values of a form. They may be ordinary words.
fn leaves(secret: &str) -> Vec<(String, Reach)> {
    let mut found = Vec::new();
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(secret)
        && (json.is_object() || json.is_array())
    {
        let mut open = vec![json];
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::String(text) if !is_ordinary(&text) => found.push((text, Reach::Outside)),
                serde_json::Value::Array(items) => open.extend(items),
                serde_json::Value::Object(map) => open.extend(map.into_iter().map(|(_, value)| value)),
                _ => {}
            }
        }
    } else if !secret.contains([' ', '\n', ';']) && secret.contains('=') {
        found.extend(pairs(secret).into_iter().map(|value| (value, Reach::Outside)));
    } else if secret.contains('=') && secret.contains(';') {
        // Cookies.
        let values = secret.split(';').filter_map(|pair| Some(pair.split_once('=')?.1.trim().to_owned()));
        found.extend(values.map(|value| (value, Reach::Outside)));
    }
    found
}

/// A value as it stands in texts of other kinds.
fn spellings(value: String) -> Vec<String> {
    let quoted = format!("{value:?}");
    let json = serde_json::Value::String(value.clone()).to_string();
    let mut forms = vec![quoted[1..quoted.len() - 1].to_owned(), json[1..json.len() - 1].to_owned()];
    // As PHP, Go and Python write them.
    let json = &json[1..json.len() - 1];
    forms.push(json.replace('/', "\\/"));
    let go = [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")];
    let go = go.iter().fold(json.to_owned(), |text, (plain, escaped)| text.replace(plain, escaped));
    forms.push(go.replace('+', "\\u002b"));
    forms.push(go);
    if value.chars().any(|c| "&<>\"'+=".contains(c)) {
        let numeric = [
            ("&", "&amp;"),
            ("<", "&lt;"),
            (">", "&gt;"),
            ("\"", "&#34;"),
            ("'", "&#39;"),
            ("+", "&#43;"),
            ("=", "&#61;"),
        ];
        let numeric: Vec<String> = vec![
            numeric.iter().fold(value.clone(), |text, (plain, escaped)| text.replace(plain, escaped)),
            numeric[..6].iter().fold(value.clone(), |text, (plain, escaped)| text.replace(plain, escaped)),
        ];
        forms.extend(numeric);
        let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        forms.push(html.replace('\'', "&#39;"));
        forms.push(html.replace('\'', "&#x27;"));
        forms.push(html);
    }
    let encoded = percent_encoded(&value);
    if encoded != value {
        forms.push(encoded.to_ascii_lowercase());
        forms.push(encoded.replace("%2F", "/"));
        forms.push(encoded.replace("%20", "+"));
        forms.push(encoded);
    }
    if value.chars().count() >= OWN_WORDS {
        forms.push(STANDARD.encode(&value));
        forms.push(STANDARD_NO_PAD.encode(&value));
        forms.push(URL_SAFE.encode(&value));
        forms.push(URL_SAFE_NO_PAD.encode(&value));
    }
    forms.push(value);
    forms.sort();
    forms.dedup();
    forms
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = coded.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Strikes out a short secret where it stands alone.
fn without_word(text: &str, secret: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, after) = (&rest[..at], &rest[at + secret.len()..]);
        out.push_str(before);
        let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !is_part(out.chars().next_back()) && !is_part(after.chars().next());
        out.push_str(if alone { STRUCK } else { secret });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A text that steers neither the terminal nor the runner that reads it: what would is shown as what it is.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.replace("\r\n", "\n").split('\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        // Runners of pipelines take such lines for orders: `::error::` at the beginning, `##[…]` and `##vso[…]` anywhere.
        let indent = line.len() - line.trim_start().len();
        let (indent, rest) = line.split_at(indent);
        out.extend(indent.chars().flat_map(shown));
        if rest.starts_with("::") {
            out.push('\\');
        }
        let mut before = '\0';
        for c in rest.chars() {
            if c == '#' && before == '#' {
                out.push('\\');
            }
            out.extend(shown(c));
            before = c;
        }
    }
    out
}

/// A character as a terminal may be given it.
fn shown(c: char) -> impl Iterator<Item = char> {
    // Marks that turn the direction of what follows can make a text read as another one.
    let turns = matches!(c, '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    let is_shown = (c.is_control() && !matches!(c, '\n' | '\t')) || turns;
    let (escaped, plain) = if is_shown { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is struck out of a text of others, and of one of the provider's own.
    fn known(secrets: &[&str]) -> impl Fn(&str) -> (String, String) + use<> {
        let mut known = Known::default();
        for secret in secrets {
            known.learn(secret, Reach::Everywhere);
        }
        move |text: &str| (known.struck_from(text, Reach::Outside), known.struck_from(text, Reach::Everywhere))
    }

    #[test]
    fn the_longest_goes_first_and_short_ones_go_where_they_stand_alone() {
        assert_eq!(known(&["secret", "secret-and-more"])("a secret-and-more b secret").0, "a *** b ***");
        assert_eq!(known(&["pw"])("pw=pw, spwn, (pw)").0, "***=***, spwn, (***)");
        assert_eq!(known(&["", "  ", "application/json; charset=utf-8", "*/*"])("as it is").0, "as it is");
        assert_eq!(known(&["line\n"])("a line").0, "a ***");
        assert_eq!(
            known(&["short"])("short and shortly"),
            ("*** and ***ly".to_owned(), "short and shortly".to_owned())
        );
    }

    #[test]
    fn a_secret_is_known_in_its_other_forms() {
        let basic = format!("Basic {}", STANDARD.encode("admin:hunter2:x"));
        let strike =
            known(&["Bearer abc.def.ghi", &basic, "https://u%40x:p%2Fss@host/a?api_key=k-123456&n=1", "a\"b\\c&d"]);
        for text in [
            "abc.def.ghi",
            "hunter2:x",
            "admin:hunter2:x",
            "p%2Fss",
            "p%2fss",
            "p/ss",
            "u@x:p/ss",
            "k-123456",
            "api_key=k-123456&n=1",
            "a\\\"b\\\\c&d",
            "a&quot;b\\c&amp;d",
            "a%22b%5Cc%26d",
        ] {
            assert_eq!(strike(text).0, STRUCK, "{text}");
        }
        let encoded = STANDARD.encode("abc.def.ghi");
        assert_eq!(strike(&encoded).0, STRUCK);
        assert_eq!(strike("GET https://host/a answered 1 of 1").1, "GET https://host/a answered 1 of 1");
    }

    #[test]
    fn an_address_without_anything_to_hide_is_shown() {
        let strike = known(&["https://green.example.com/health"]);
        assert_eq!(strike("GET https://green.example.com/health").0, "GET https://green.example.com/health");
    }

    #[test]
    fn what_a_body_holds_is_struck_out_of_texts_of_others() {
        let strike = known(&["{\"user\": \"app\", \"deep\": [{\"password\": \"hunter2\"}]}"]);
        assert_eq!(
            strike("{\"json\":{\"password\":\"hunter2\"}} app apple"),
            (
                "{\"json\":{\"password\":\"***\"}} *** apple".to_owned(),
                "{\"json\":{\"password\":\"hunter2\"}} app apple".to_owned()
            )
        );
        assert_eq!(known(&["a=1&token=s%20cret-value"])("s cret-value, s%20cret-value").0, "***, ***");
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END KEY-----";
        assert_eq!(known(&[key])("  MIIEvQIBADANBgkqhkiG").0, "  ***");
    }

    #[test]
    fn what_is_public_stays() {
        let mut known = Known::default();
        known.public.insert("app.example.com".to_owned());
        known.learn("app.example.com", Reach::Everywhere);
        assert_eq!(known.struck_from("app.example.com", Reach::Outside), "app.example.com");
    }

    #[test]
    fn other_languages_write_it_in_their_way() {
        let strike = known(&["pl4nt/AAA+bbb/CCC=<d&e>'q"]);
        for text in [
            r"pl4nt\/AAA+bbb\/CCC=<d&e>'q",
            r"pl4nt/AAA\u002bbbb/CCC=\u003cd\u0026e\u003e'q",
            "pl4nt/AAA&#43;bbb/CCC&#61;&lt;d&amp;e&gt;&#39;q",
            "pl4nt/AAA&#43;bbb/CCC=&lt;d&amp;e&gt;&#39;q",
            "pl4nt/AAA%2Bbbb/CCC%3D%3Cd%26e%3E%27q",
        ] {
            assert_eq!(strike(text).0, STRUCK, "{text}");
        }
        assert_eq!(known(&["s%3Asession.abc%2Fdef"])("s:session.abc/def").0, STRUCK);
    }

    #[test]
    fn a_secret_makes_no_ordinary_text_unreadable() {
        let strike = known(&["YWJjZGVmZw==", "key/CCC=<d"]);
        assert_eq!(strike("retries = 3, timeout == 5, a <d").0, "retries = 3, timeout == 5, a <d");
        let mut own = Known::default();
        own.public.insert("shop-production".to_owned());
        for secret in ["production", "terraform", "https://green.test/"] {
            own.learn(secret, Reach::Everywhere);
        }
        own.learn("green.test", Reach::Everywhere);
        let text = "Failed to switch shop-production to green: run terraform apply again; GET https://green.test/";
        assert_eq!(own.struck_from(text, Reach::Everywhere), text);
        assert_eq!(known(&["postgres://app@db/x"])("user app").0, "user app");
        assert!(is_plain("80") && is_plain("prod") && is_plain("123456789012") && !is_plain("a-password"));
    }

    #[test]
    fn however_much_is_secret_nothing_is_forgotten() {
        let lines =
            (0..5000).map(|n| format!("  \"some-key-{n}\": \"some-value-of-a-fixture-{n}\",\n")).collect::<String>();
        let long = format!("{{\"a\": \"the-password-in-it\", \"pad\": \"{}\"}}", "x".repeat(20_000));
        let strike = known(&[&lines, &long, "what-came-last"]);
        assert_eq!(strike("what-came-last").0, STRUCK);
        assert_eq!(strike("the-password-in-it").0, STRUCK);
    }

    #[test]
    fn nothing_is_cut_within_a_secret() {
        learn(["the-planted-secret"], Reach::Everywhere);
        let text = format!("{}the-planted-secret{}", "x".repeat(195), "y".repeat(300));
        assert_eq!(beginning(&text, false, 200), format!("{}***yy", "x".repeat(195)));
        let cut = format!("{}the-planted-se", "x".repeat(100));
        assert!(!beginning(&cut, true, 200).contains("the-p"));
        let cut = format!("lanted-secret{}", "y".repeat(100));
        assert!(!end(&cut, true, 200).contains("lanted"));
        assert!(end(&"z".repeat(9000), false, 4000).starts_with('…'));
    }

    #[test]
    fn what_steers_a_terminal_or_a_runner_is_shown_as_what_it_is() {
        assert_eq!(
            harmless("a\u{1b}[31mb\r\nc\0d\re\u{9b}f\u{202e}g\th"),
            "a\\u{1b}[31mb\nc\\u{0}d\\re\\u{9b}f\\u{202e}g\th"
        );
        assert_eq!(harmless("x\n  ::error::y\n::add-mask::z"), "x\n  \\::error::y\n\\::add-mask::z");
        assert_eq!(harmless("a ##[error]b ##vso[task.complete] c#1"), "a #\\#[error]b #\\#vso[task.complete] c#1");
        assert_eq!(harmless(&harmless("\u{1b}::a")), harmless("\u{1b}::a"));
        assert_eq!(harmless("arn:aws:x::1 – größer"), "arn:aws:x::1 – größer");
    }

    #[test]
    fn names_tell_secrets() {
        for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "db_password", "TF_VAR_db_password"]
        {
            assert_eq!(reach_of(name), Some(Reach::Everywhere), "{name}");
        }
        assert_eq!(reach_of("TF_VAR_anything"), Some(Reach::Outside));
        for name in ["PATH", "AWS_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
            assert_eq!(reach_of(name), None, "{name}");
        }
    }
}
