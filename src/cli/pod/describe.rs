//! `pod describe`: what kubectl describe shows of a pod.

use std::fmt::Write;

use serde_json::Value;

use super::super::client::{Ask, Client, query};
use super::super::duration;
use super::super::output::{self, printable};
use super::{Target, collection, pod_path};

/// Where values begin, in columns from the key's own indentation.
const POD_COLUMN: usize = 18;
const CONTAINER_COLUMN: usize = 16;

pub async fn run(client: &Client, args: &Target) -> anyhow::Result<()> {
    let namespace = &args.namespace.namespace;
    let pod = client.json(Ask::get(pod_path(namespace, &args.name)?)).await?;
    let uid = text(&pod["metadata"]["uid"]);
    let selector = [("fieldSelector", format!("involvedObject.uid={uid}"))];
    let path = format!("{}{}", collection(namespace, "events")?, query(&selector));
    let events = client.json(Ask::get(path)).await?;
    output::write(render(&pod, &events, jiff::Timestamp::now()))
}

fn render(pod: &Value, events: &Value, now: jiff::Timestamp) -> String {
    let (metadata, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    let mut out = Page::default();
    out.field(0, POD_COLUMN, "Name", text(&metadata["name"]));
    out.field(0, POD_COLUMN, "Namespace", text(&metadata["namespace"]));
    let node = match (text(&spec["nodeName"]), text(&status["hostIP"])) {
        ("", _) => "<none>".to_owned(),
        (node, "") => node.to_owned(),
        (node, ip) => format!("{node}/{ip}"),
    };
    out.field(0, POD_COLUMN, "Node", &node);
    if let Some(start) = status["startTime"].as_str() {
        out.field(0, POD_COLUMN, "Start Time", &time(start));
    }
    out.map(0, POD_COLUMN, "Labels", &metadata["labels"], "=");
    out.map(0, POD_COLUMN, "Annotations", &metadata["annotations"], ": ");
    if let Some(deadline) = metadata["deletionTimestamp"].as_str() {
        out.field(0, POD_COLUMN, "Status", &format!("Terminating (by {})", time(deadline)));
        let grace = metadata["deletionGracePeriodSeconds"].to_string();
        out.field(0, POD_COLUMN, "Termination Grace Period", &format!("{grace}s"));
    } else {
        out.field(0, POD_COLUMN, "Status", text(&status["phase"]));
    }
    for (name, field) in [("Reason", "reason"), ("Message", "message"), ("IP", "podIP")] {
        if let Some(value) = status[field].as_str().filter(|v| !v.is_empty()) {
            out.field(0, POD_COLUMN, name, value);
        }
    }
    out.line(0, "Containers:");
    for container in spec["containers"].as_array().into_iter().flatten() {
        let statuses = status["containerStatuses"].as_array();
        let of = statuses.and_then(|all| all.iter().find(|s| s["name"] == container["name"]));
        container_page(&mut out, container, of.unwrap_or(&Value::Null));
    }
    if let Some(conditions) = status["conditions"].as_array().filter(|c| !c.is_empty()) {
        out.line(0, "Conditions:");
        let mut table = Aligned::new(2);
        table.row(["Type", "Status", "Reason", "Message"]);
        for c in conditions {
            table.row([text(&c["type"]), text(&c["status"]), text(&c["reason"]), text(&c["message"])]);
        }
        out.0.push_str(&table.render());
    }
    out.map(0, POD_COLUMN, "Node-Selectors", &spec["nodeSelector"], "=");
    out.0.push_str(&event_table(events, now));
    out.0
}

fn container_page(out: &mut Page, container: &Value, status: &Value) {
    const W: usize = CONTAINER_COLUMN;
    out.line(2, &format!("{}:", text(&container["name"])));
    for (name, value) in
        [("Container ID", &status["containerID"]), ("Image", &container["image"]), ("Image ID", &status["imageID"])]
    {
        out.field(4, W, name, text(value));
    }
    let ports: Vec<String> = container["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| format!("{}/{}", p["containerPort"], p["protocol"].as_str().unwrap_or("TCP")))
        .collect();
    out.field(4, W, "Port", &if ports.is_empty() { "<none>".into() } else { ports.join(", ") });
    for (name, field) in [("Command", "command"), ("Args", "args")] {
        if let Some(words) = container[field].as_array().filter(|words| !words.is_empty()) {
            out.line(4, &format!("{name}:"));
            for word in words {
                out.line(6, text(word));
            }
        }
    }
    state(out, "State", &status["state"]);
    if status["lastState"].as_object().is_some_and(|state| !state.is_empty()) {
        state(out, "Last State", &status["lastState"]);
    }
    out.field(4, W, "Ready", if status["ready"] == true { "True" } else { "False" });
    out.field(4, W, "Restart Count", &status["restartCount"].as_u64().unwrap_or(0).to_string());
    for (name, field) in [("Limits", "limits"), ("Requests", "requests")] {
        if let Some(map) = container["resources"][field].as_object().filter(|map| !map.is_empty()) {
            out.line(4, &format!("{name}:"));
            map.iter().for_each(|(key, value)| out.field(6, 10, key, text(value)));
        }
    }
    let env = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
    if env.is_empty() {
        out.field(4, W, "Environment", "<none>");
    } else {
        out.line(4, "Environment:");
        let width = env.iter().map(|e| text(&e["name"]).chars().count()).max().unwrap_or(0) + 3;
        for e in env {
            out.field(6, width, text(&e["name"]), &variable(e));
        }
    }
}

fn variable(env: &Value) -> String {
    let from = &env["valueFrom"];
    let optional = |source: &Value| if source["optional"] == true { "true" } else { "false" };
    for (field, what) in [("configMapKeyRef", "config map"), ("secretKeyRef", "secret")] {
        if let Some(source) = from.get(field) {
            let (key, name) = (text(&source["key"]), text(&source["name"]));
            return format!("<set to the key '{key}' in {what} '{name}'>  Optional: {}", optional(source));
        }
    }
    if let Some(field) = from.get("fieldRef") {
        return format!(" (v1:{})", text(&field["fieldPath"]));
    }
    if let Some(resource) = from.get("resourceFieldRef") {
        return format!(" ({})", text(&resource["resource"]));
    }
    text(&env["value"]).to_owned()
}

fn state(out: &mut Page, title: &str, state: &Value) {
    const W: usize = CONTAINER_COLUMN;
    let Some((kind, of)) = state.as_object().and_then(|map| map.iter().next()) else {
        out.field(4, W, title, "Waiting");
        return;
    };
    let mut name = kind.clone();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    out.field(4, W, title, &name);
    for (label, field) in [("Reason", "reason"), ("Message", "message")] {
        if let Some(value) = of[field].as_str().filter(|v| !v.is_empty()) {
            out.field(6, W - 2, label, value);
        }
    }
    for (label, field) in [("Exit Code", "exitCode"), ("Signal", "signal")] {
        if let Some(number) = of[field].as_i64().filter(|n| label == "Exit Code" || *n != 0) {
            out.field(6, W - 2, label, &number.to_string());
        }
    }
    for (label, field) in [("Started", "startedAt"), ("Finished", "finishedAt")] {
        if let Some(at) = of[field].as_str() {
            out.field(6, W - 2, label, &time(at));
        }
    }
}

fn event_table(events: &Value, now: jiff::Timestamp) -> String {
    let items = events["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return format!("{:<POD_COLUMN$}<none>\n", "Events:");
    }
    let mut items: Vec<&Value> = items.iter().collect();
    items.sort_by_key(|e| text(&e["lastTimestamp"]));
    let mut table = Aligned::new(2);
    table.row(["Type", "Reason", "Age", "From", "Message"]);
    table.row(["----", "------", "----", "----", "-------"]);
    for event in items {
        let last = age(&event["lastTimestamp"], now);
        let count = event["count"].as_u64().unwrap_or(1);
        let age =
            if count > 1 { format!("{last} (x{count} over {})", age(&event["firstTimestamp"], now)) } else { last };
        let from = text(&event["source"]["component"]);
        let from = if from.is_empty() { text(&event["reportingComponent"]) } else { from };
        table.row([text(&event["type"]), text(&event["reason"]), &age, from, text(&event["message"])]);
    }
    format!("Events:\n{}", table.render())
}

fn age(time: &Value, now: jiff::Timestamp) -> String {
    text(time).parse::<jiff::Timestamp>().map_or_else(
        |_| "<unknown>".into(),
        |then| duration::human(u64::try_from(now.duration_since(then).as_secs()).unwrap_or(0)),
    )
}

/// As kubectl prints times: `Tue, 24 Nov 2026 03:27:19 +0000`.
fn time(text: &str) -> String {
    text.parse::<jiff::Timestamp>()
        .map_or_else(|_| printable(text), |time| time.strftime("%a, %d %b %Y %H:%M:%S %z").to_string())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Lines of `Key:   value`.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        let _ = writeln!(self.0, "{:indent$}{}", "", printable(text));
    }

    fn field(&mut self, indent: usize, column: usize, key: &str, value: &str) {
        let key = format!("{}:", printable(key));
        let line = format!("{:indent$}{key:<column$}{}", "", printable(value));
        let _ = writeln!(self.0, "{}", if value.is_empty() { line.trim_end() } else { line.as_str() });
    }

    fn map(&mut self, indent: usize, column: usize, key: &str, map: &Value, between: &str) {
        let Some(map) = map.as_object().filter(|map| !map.is_empty()) else {
            return self.field(indent, column, key, "<none>");
        };
        for (i, (name, value)) in map.iter().enumerate() {
            let entry = format!("{name}{between}{}", text(value));
            if i == 0 {
                self.field(indent, column, key, &entry);
            } else {
                self.line(indent + column, &entry);
            }
        }
    }
}

/// A table in kubectl describe's look: indented, headings as they are, two spaces between.
struct Aligned {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Aligned {
    const fn new(indent: usize) -> Self {
        Self { indent, rows: Vec::new() }
    }

    fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |i: usize| self.rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(text, "{:indent$}{}", "", cells.join("  ").trim_end(), indent = self.indent);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_described_like_kubectl_does() {
        let pod = json!({
            "metadata": {"name": "hello", "namespace": "default", "labels": {"a": "1", "b": "2"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "alpine", "command": ["echo", "hi"],
                "env": [{"name": "A", "value": "b"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]},
            "status": {"phase": "Succeeded", "hostIP": "10.0.0.1", "startTime": "2026-11-24T03:27:19Z",
                "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}],
                "containerStatuses": [{"name": "c", "restartCount": 0, "ready": false,
                    "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": "2026-11-24T03:27:20Z"}}}]}});
        let events = json!({"items": [{"type": "Normal", "reason": "Started", "count": 3, "message": "started c",
            "firstTimestamp": "2026-11-24T03:26:20Z", "lastTimestamp": "2026-11-24T03:27:20Z", "source": {"component": "n1"}}]});
        let page = render(&pod, &events, "2026-11-24T03:27:30Z".parse().unwrap());
        for line in [
            "Name:             hello",
            "Node:             n1/10.0.0.1",
            "Start Time:       Tue, 24 Nov 2026 03:27:19 +0000",
            "Labels:           a=1",
            "                  b=2",
            "Annotations:      <none>",
            "    Image:          alpine",
            "    State:          Terminated",
            "      Exit Code:    0",
            "      S:  <set to the key 'k' in secret 's'>  Optional: false",
            "  Type    Reason   Age                  From  Message",
            "  Normal  Started  10s (x3 over 70s)    n1    started c",
        ] {
            // The age's column is as wide as its widest cell: compare without runs of spaces there.
            let squeeze = |s: &str| {
                if s.contains("Started") || s.contains("Age") {
                    s.split_whitespace().collect::<Vec<_>>().join(" ")
                } else {
                    s.to_owned()
                }
            };
            assert!(page.lines().any(|l| squeeze(l) == squeeze(line)), "{line}\n--\n{page}");
        }
        assert!(render(&pod, &json!({}), jiff::Timestamp::UNIX_EPOCH).ends_with("Events:           <none>\n"));
    }
}
