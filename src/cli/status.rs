//! `entroos status`.

use clap::Args;
use serde_json::Value;

use super::client::{Ask, Client};
use super::duration;
use super::output::{self, Format};

#[derive(Debug, Args)]
pub struct Show {
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Shows what the node says of itself.
pub async fn run(client: &Client, args: &Show) -> anyhow::Result<u8> {
    let status = client.json(Ask::get("/entroos/v1/status")).await?;
    match args.output {
        Format::Table => output::write(render(&client.server.to_string(), &status))?,
        format => output::value(format, &status)?,
    }
    Ok(0)
}

/// Every field on a line of its own; those within others under their name.
fn render(server: &str, status: &Value) -> String {
    let mut fields = vec![("asked at".to_owned(), server.to_owned())];
    collect("", status, &mut fields);
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 3;
    let line =
        |(name, value): &(String, String)| format!("{:<width$}{}\n", format!("{name}:"), output::printable(value));
    fields.iter().map(line).collect()
}

fn collect(name: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let (key, value) = for_people(key, value);
                let key = words(&key);
                collect(&if name.is_empty() { key } else { format!("{name} {key}") }, &value, fields);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            fields.push((name.to_owned(), items.join(", ")));
        }
        Value::Null => {}
        other => fields.push((name.to_owned(), text(other))),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A quantity whose name ends in its unit, without the unit.
fn for_people(key: &str, value: &Value) -> (String, Value) {
    let same = || (key.to_owned(), value.clone());
    let Some(number) = value.as_u64() else { return same() };
    if let Some(key) = key.strip_suffix("Seconds") {
        return (key.to_owned(), duration::human(number).into());
    }
    if let Some(key) = key.strip_suffix("Bytes") {
        return (key.to_owned(), super::image::size(number).into());
    }
    if let Some(key) = key.strip_suffix("Millis")
        && let Some(time) = i64::try_from(number).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        return (key.to_owned(), time.to_string().into());
    }
    same()
}

/// `dataDir` and `data_dir` are `data dir` for people.
fn words(key: &str) -> String {
    let mut words = String::new();
    for c in key.chars() {
        match c {
            '_' => words.push(' '),
            c if c.is_ascii_uppercase() => {
                words.push(' ');
                words.push(c.to_ascii_lowercase());
            }
            c => words.push(c),
        }
    }
    // `Pending` of the phases begins with a capital.
    words.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_the_node_tells_is_shown() {
        let status = json!({"version": "0.1.0", "node": {"name": "a", "dataDir": "/d"}, "pods": {"Running": 3}, "none": null, "residentBytes": 12_000_000,
            "uptimeSeconds": 130, "blockTimeMillis": 1_000});
        let text = render("unix:///d/run/api.sock", &status);
        assert!(text.starts_with("asked at:       unix:///d/run/api.sock\n"), "{text}");
        assert!(text.contains("node data dir:  /d\n") && text.contains("pods running:   3\n"), "{text}");
        assert!(text.contains("resident:       12.0 MB\n") && text.contains("uptime:         2m10s\n"), "{text}");
        assert!(text.contains("block time:     1970-01-01T00:00:01Z\n"), "{text}");
        assert!(!text.contains("none"));
    }
}
