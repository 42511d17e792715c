//! `pod list` and `pod get`: the node's own tables, as kubectl asks for them.

use serde_json::Value;

use super::super::client::{Ask, Client, Error, Watch, query};
use super::super::output::{self, Format, ListFormat, Table};
use super::{Get, List, collection, pod_path};

/// What kubectl sends to get a table; the plain object where there is none.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const AS_OBJECT: &str = "application/json";

/// Lists pods, and goes on with `--watch`.
pub async fn run(client: &Client, args: &List) -> anyhow::Result<()> {
    let path =
        if args.all_namespaces { "/api/v1/pods".to_owned() } else { collection(&args.namespace.namespace, "pods")? };
    let selectors: Vec<_> = args.selector.iter().map(|labels| ("labelSelector", labels.clone())).collect();
    let accept = accept(args.output);
    let mut printer = Printer::new(args.output, args.all_namespaces);
    printer.watching = args.watch;
    loop {
        let list = client.json(Ask::get(format!("{path}{}", query(&selectors))).accept(accept)).await?;
        if args.watch {
            printer.changes(&list)?;
        } else {
            printer.list(&list, &args.namespace.namespace)?;
            return Ok(());
        }
        let mut revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        // The node ends a watch now and then; go on from where it was, or list again where that is too long ago.
        loop {
            match follow(client, &path, &selectors, accept, &mut revision, &mut printer).await {
                Ok(()) => {}
                Err(e) if matches!(e.downcast_ref(), Some(Error::Refused(refused)) if refused.code == 410) => break,
                Err(e) => return Err(e),
            }
        }
    }
}

async fn follow(
    client: &Client,
    path: &str,
    selectors: &[(&str, String)],
    accept: &'static str,
    revision: &mut String,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut watch = Watch::start(client, path, selectors, revision, accept).await?;
    while let Some((kind, object)) = watch.next().await? {
        let seen = object["metadata"]["resourceVersion"].as_str();
        let seen = seen.or_else(|| object["rows"][0]["object"]["metadata"]["resourceVersion"].as_str());
        if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
            seen.clone_into(revision);
        }
        if kind != "BOOKMARK" {
            printer.changes(&object)?;
        }
    }
    Ok(())
}

/// Shows one pod.
pub async fn get(client: &Client, args: &Get) -> anyhow::Result<()> {
    let ask = Ask::get(pod_path(&args.namespace.namespace, &args.name)?).accept(accept(args.output));
    let object = client.json(ask).await?;
    Printer::new(args.output, false).list(&object, &args.namespace.namespace)
}

fn accept(format: ListFormat) -> &'static str {
    match format {
        ListFormat::Table | ListFormat::Wide => AS_TABLE,
        _ => AS_OBJECT,
    }
}

/// Prints lists, objects and tables, whole or change by change.
struct Printer {
    format: ListFormat,
    namespaces: bool,
    watching: bool,
    /// Of the columns printed so far; empty before the headings.
    widths: Vec<usize>,
    /// The headings of the first table: a watch's later ones leave them out.
    columns: Vec<Value>,
}

impl Printer {
    fn new(format: ListFormat, namespaces: bool) -> Self {
        Self { format, namespaces, watching: false, widths: Vec::new(), columns: Vec::new() }
    }

    fn list(&mut self, list: &Value, namespace: &str) -> anyhow::Result<()> {
        let table = matches!(self.format, ListFormat::Table | ListFormat::Wide);
        if table && list["rows"].as_array().is_none_or(Vec::is_empty) {
            let place = if self.namespaces { String::new() } else { format!(" in {namespace} namespace") };
            eprintln!("No resources found{place}.");
            return Ok(());
        }
        if table { output::write(self.table(list).render()) } else { self.objects(list) }
    }

    fn changes(&mut self, list: &Value) -> anyhow::Result<()> {
        if !matches!(self.format, ListFormat::Table | ListFormat::Wide) {
            let items = list["items"].as_array().map_or(std::slice::from_ref(list), Vec::as_slice);
            return items.iter().try_for_each(|item| self.objects(item));
        }
        if list["rows"].as_array().is_none_or(Vec::is_empty) {
            self.remember(list);
            return Ok(());
        }
        let first = self.widths.is_empty();
        let table = self.table(list);
        let rows = table.render_rows(&mut self.widths);
        output::write(if first { table.render() } else { rows })
    }

    fn objects(&self, value: &Value) -> anyhow::Result<()> {
        match self.format {
            ListFormat::Yaml => {
                if self.watching {
                    output::write("---\n")?;
                }
                output::value(Format::Yaml, value)
            }
            ListFormat::Name => {
                let items = value["items"].as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                items.iter().try_for_each(|item| {
                    output::line(format!("pod/{}", item["metadata"]["name"].as_str().unwrap_or_default()))
                })
            }
            _ => output::value(Format::Json, value),
        }
    }

    fn remember(&mut self, table: &Value) {
        if let Some(columns) = table["columnDefinitions"].as_array().filter(|columns| !columns.is_empty()) {
            self.columns.clone_from(columns);
        }
    }

    /// The node's table as ours: its wide columns where they are asked for, the namespace in front.
    fn table(&mut self, value: &Value) -> Table {
        self.remember(value);
        let wide = self.format == ListFormat::Wide;
        let shown = |column: &Value| wide || column["priority"].as_i64().unwrap_or(0) == 0;
        let names = self.columns.iter().filter(|c| shown(c)).map(|c| c["name"].as_str().unwrap_or_default());
        let mut table = Table::new(self.namespaces.then_some("namespace").into_iter().chain(names));
        for row in value["rows"].as_array().into_iter().flatten() {
            let namespace = || row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
            let cells = row["cells"].as_array().map(Vec::as_slice).unwrap_or_default();
            let cells =
                self.columns.iter().zip(cells).filter(|(column, _)| shown(column)).map(|(_, cell)| match cell {
                    Value::String(text) => text.clone(),
                    Value::Null => "<none>".to_owned(),
                    other => other.to_string(),
                });
            table.row(self.namespaces.then(namespace).into_iter().chain(cells));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({"kind": "Table", "columnDefinitions": [
            {"name": "Name", "priority": 0}, {"name": "Restarts", "priority": 0}, {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["hello", 2, null], "object": {"metadata": {"namespace": "demo"}}}]})
    }

    #[test]
    fn a_nodes_table_is_shown_as_asked() {
        let render = |format, all| Printer::new(format, all).table(&sample()).render();
        assert_eq!(render(ListFormat::Table, false), "NAME    RESTARTS\nhello   2\n");
        assert_eq!(render(ListFormat::Wide, false), "NAME    RESTARTS   NODE\nhello   2          <none>\n");
        assert_eq!(render(ListFormat::Table, true), "NAMESPACE   NAME    RESTARTS\ndemo        hello   2\n");
    }

    #[test]
    fn a_watchs_later_tables_may_leave_the_headings_out() {
        let mut printer = Printer::new(ListFormat::Table, false);
        printer.remember(&sample());
        let later = json!({"kind": "Table", "rows": [{"cells": ["a", 0, "n"]}]});
        assert_eq!(printer.table(&later).render(), "NAME   RESTARTS\na      0\n");
    }
}
