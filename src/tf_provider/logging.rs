//! Logs as Terraform reads them from a plugin's standard error: one JSON object a line, as hclog writes them.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::secrets;

/// hclog's time format: `2006-01-02T15:04:05.000000Z07:00`.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
/// The host's scanner gives up on longer lines; 64 KiB is its limit.
const MAX_LINE_BYTES: usize = 60 * 1024;

/// Sends the process's logs to standard error. Terraform filters by TF_LOG and TF_LOG_PROVIDER itself; without
/// either nobody reads them, and nothing is formatted.
pub fn init(module: &'static str) {
    let wanted = ["TF_LOG_PROVIDER", "TF_LOG"].iter().find_map(|name| std::env::var(name).ok());
    let level = match wanted.unwrap_or_default().to_ascii_lowercase().as_str() {
        "trace" | "json" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" | "off" | "" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    };
    let filter = Targets::new().with_default(LevelFilter::ERROR).with_target(env!("CARGO_CRATE_NAME"), level);
    let subscriber = Registry::default().with(filter).with(HclogLayer { module });
    // A second call would be a test's; the first stays.
    drop(tracing::subscriber::set_global_default(subscriber));
    std::panic::set_hook(Box::new(|info| tracing::error!(panic = %info, "the provider panicked")));
}

struct HclogLayer {
    module: &'static str,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for HclogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = OffsetDateTime::from(crate::clock::wall());
        let mut line = line(self.module, *event.metadata().level(), now, |fields| event.record(fields));
        line.push('\n');
        // Standard error may be closed; there is nowhere left to say so.
        drop(std::io::stderr().lock().write_all(line.as_bytes()));
    }
}

/// One log line without its line feed.
fn line(module: &str, level: Level, now: OffsetDateTime, record: impl FnOnce(&mut Fields)) -> String {
    let mut fields = Fields(Map::new());
    record(&mut fields);
    let Fields(mut map) = fields;
    let message = map.remove("message").unwrap_or_else(|| json!(""));
    map.insert("@level".to_owned(), json!(level.as_str().to_ascii_lowercase()));
    map.insert("@message".to_owned(), message);
    map.insert("@module".to_owned(), json!(module));
    map.insert("@timestamp".to_owned(), json!(now.format(TIMESTAMP).unwrap_or_default()));
    let text = Value::Object(map.clone()).to_string();
    if text.len() <= MAX_LINE_BYTES {
        return text;
    }
    map.retain(|key, _| key.starts_with('@'));
    let message = map.get("@message").and_then(Value::as_str).unwrap_or_default();
    let cut: String = message.chars().take(MAX_LINE_BYTES / 16).collect();
    map.insert("@message".to_owned(), json!(format!("{cut}… (cut)")));
    Value::Object(map).to_string()
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.0.insert(field.name().to_owned(), json!(secrets::masked(&text)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(secrets::masked(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_hclog_writes() {
        let now = OffsetDateTime::from_unix_timestamp(0).unwrap();
        let text = line("bluegreen", Level::INFO, now, |fields| {
            fields.0.insert("message".to_owned(), json!("moved"));
            fields.0.insert("weight".to_owned(), json!(100));
        });
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["@timestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            (&json["@level"], &json["@message"], &json["weight"]),
            (&json!("info"), &json!("moved"), &json!(100))
        );
    }

    #[test]
    fn a_long_line_is_cut_below_the_hosts_limit() {
        let text = line("bluegreen", Level::WARN, OffsetDateTime::UNIX_EPOCH, |fields| {
            fields.0.insert("message".to_owned(), json!("é".repeat(200_000)));
        });
        assert!(text.len() < 64 * 1024);
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}
