//! `pod explain`: the scheduler's reasons.

use std::fmt::Write;

use serde_json::Value;

use super::super::client::{Ask, Client};
use super::super::output::{self, Format, Table};
use super::{Explain, bare, checked};

/// Shows the terms of eq. 35 for each candidate, and why the others could not take the pod.
pub async fn run(client: &Client, args: &Explain) -> anyhow::Result<()> {
    let (namespace, name) = (&args.target.namespace.namespace, bare(&args.target.name));
    let path = format!("/entroos/v1/pods/{}/{}/explain", checked(namespace)?, checked(name)?);
    let answer = client.json(Ask::get(path)).await?;
    match args.output {
        Format::Table => output::write(render(namespace, name, &answer)),
        format => output::value(format, &answer),
    }
}

fn render(namespace: &str, name: &str, answer: &Value) -> String {
    // The node may wrap the placement in what else it knows of the pod.
    let placement = if answer.get("candidates").is_some() { answer } else { &answer["placement"] };
    if placement.is_null() {
        let why = answer["message"]
            .as_str()
            .filter(|why| !why.is_empty())
            .unwrap_or("the scheduler has not looked at it yet");
        return format!("pod/{name} in {namespace}: {}\n", output::printable(why));
    }
    let node = placement["node"].as_str().filter(|node| !node.is_empty());
    let mut text = match node {
        Some(node) => format!("pod/{name} in {namespace} is placed on {}", output::printable(node)),
        None => format!("pod/{name} in {namespace} is not placed: no node can take it"),
    };
    let count = |field: &str| placement.get(field).map_or_else(|| "?".into(), cell);
    let looked = placement.get("looked_at").or_else(|| placement.get("lookedAt")).map_or_else(|| "?".into(), cell);
    let _ = writeln!(text, " (block {}, nodes looked at: {looked})", count("height"));
    let candidates = placement["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (refused, able): (Vec<_>, Vec<_>) = candidates.iter().partition(|c| c["refused"].is_string());
    for candidate in able {
        let chosen = if candidate["node"].as_str() == node { ", chosen" } else { "" };
        let (node, score) = (cell(&candidate["node"]), cell(&candidate["score"]));
        let _ = writeln!(
            text,
            "
{node} (score {score} by eq. 35{chosen})"
        );
        let mut table = Table::new(["equation", "name", "value", "weight"]);
        for term in candidate["terms"].as_array().into_iter().flatten() {
            table.row([&term["equation"], &term["name"], &term["value"], &term["weight"]].map(cell));
        }
        text.push_str(&table.render());
    }
    if !refused.is_empty() {
        text.push('\n');
        let mut table = Table::new(["node", "cannot take it because"]);
        for candidate in refused {
            table.row([cell(&candidate["node"]), cell(&candidate["refused"])]);
        }
        text.push_str(&table.render());
    }
    text
}

/// Fixed-point numbers come as text; six digits behind the point are enough to read (`-o json` has them all).
fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => output::printable(text),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    match text.split_once('.') {
        Some((whole, digits))
            if digits.len() > 6 && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-')) =>
        {
            format!("{whole}.{}", &digits[..6])
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terms_candidates_and_refusals_are_shown() {
        let placement = json!({"height": 7, "node": "a", "looked_at": 2, "candidates": [
            {"node": "a", "refused": null, "score": "0.75", "terms": [
                {"equation": 14, "name": "entropy_score", "value": "0.66666666666", "weight": "0.5"}]},
            {"node": "b", "refused": "has 10Mi of memory left, the pod asks for 64Mi", "score": "0", "terms": []}]});
        let text = render("default", "hello", &placement);
        assert!(text.starts_with("pod/hello in default is placed on a (block 7, nodes looked at: 2)\n"), "{text}");
        assert!(
            text.contains("a (score 0.75 by eq. 35, chosen)\nEQUATION   NAME            VALUE      WEIGHT\n"),
            "{text}"
        );
        assert!(text.contains("14         entropy_score   0.666666   0.5\n"), "{text}");
        assert!(
            text.contains("NODE   CANNOT TAKE IT BECAUSE\nb      has 10Mi of memory left, the pod asks for 64Mi\n"),
            "{text}"
        );
        assert_eq!(render("default", "hello", &json!({"placement": placement})), text);
        assert!(render("default", "x", &json!({"message": "", "placement": null})).contains("not looked at it yet"));
    }
}
