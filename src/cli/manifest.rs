//! Reading what is to be applied: files, directories, standard input; JSON or YAML; one object, many, or a list.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of one file.
const FILE_MAX: u64 = 16 << 20;
/// Most objects of one command.
const OBJECTS_MAX: usize = 10_000;

/// One object as the user wrote it, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// `app.yaml`, or `app.yaml, document 2`.
    pub origin: String,
    pub value: Value,
}

/// Reads everything `path` names; `-` is standard input.
///
/// # Errors
/// Where something cannot be read, is no object, or there is nothing.
pub fn read(path: &Path) -> anyhow::Result<Vec<Document>> {
    let documents = if path == Path::new("-") {
        let text = read_bounded(std::io::stdin().lock()).context("cannot read standard input")?;
        parse("standard input", &text)?
    } else if path.is_dir() {
        let mut documents = Vec::new();
        for file in files(path)? {
            documents.extend(read_file(&file)?);
        }
        documents
    } else {
        read_file(path)?
    };
    match documents.len() {
        0 => bail!(
            "{}: there is no object in it (files of a directory must end in .json, .yaml or .yml)",
            path.display()
        ),
        1..=OBJECTS_MAX => Ok(documents),
        n => bail!("{}: {n} objects are more than the {OBJECTS_MAX} of one command: apply it in parts", path.display()),
    }
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Document>> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
    let text = read_bounded(file).with_context(|| format!("cannot read {name}"))?;
    parse(&name, &text)
}

fn read_bounded(source: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    source.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        bail!("it is larger than {FILE_MAX} bytes");
    }
    Ok(text)
}

/// The manifests of a directory, in the order of their names; directories below it are left alone, as kubectl does.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let manifest = path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml");
        if manifest && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the objects of one text.
///
/// # Errors
/// With the place (line and column) where the text is neither JSON nor YAML.
pub fn parse(name: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let is_json = text.trim_start().starts_with('{');
    let values = match json(text) {
        Ok(values) if is_json => values,
        // YAML may begin with a brace too; but where a file says that it is JSON, JSON's error helps more.
        Err(e) if is_json && Path::new(name).extension().is_some_and(|ext| ext == "json") => {
            return Err(e).with_context(|| format!("{name} is not JSON"));
        }
        _ => yaml(text).with_context(|| format!("{name} is not YAML"))?,
    };
    let several = values.len() > 1;
    let mut documents = Vec::new();
    for (i, value) in values.into_iter().enumerate() {
        let origin = if several { format!("{name}, document {}", i + 1) } else { name.to_owned() };
        flatten(origin, value, 0, &mut documents)?;
    }
    Ok(documents)
}

fn json(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

fn yaml(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut values = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        values.push(Value::deserialize(document)?);
        if values.len() > OBJECTS_MAX {
            bail!("it has more than {OBJECTS_MAX} documents");
        }
    }
    Ok(values)
}

/// Opens lists (`List`, `PodList`); empty documents (a file that ends in `---`) are nothing.
fn flatten(origin: String, mut value: Value, depth: u8, documents: &mut Vec<Document>) -> anyhow::Result<()> {
    if value.is_null() {
        return Ok(());
    }
    if !value.is_object() {
        bail!("{origin}: an object is a mapping with metadata and spec, this is {}", kind_of(&value));
    }
    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
    let Some(item_kind) = kind.strip_suffix("List").filter(|_| value["items"].is_array()) else {
        documents.push(Document { origin, value });
        return Ok(());
    };
    if depth > 3 {
        bail!("{origin}: lists within lists within lists");
    }
    let version = value["apiVersion"].take();
    let Value::Array(items) = value["items"].take() else { return Ok(()) };
    for (i, mut item) in items.into_iter().enumerate() {
        if item.is_object() && !item_kind.is_empty() && item["kind"].is_null() {
            item["kind"] = item_kind.into();
            item["apiVersion"] = version.clone();
        }
        flatten(format!("{origin}, items[{i}]"), item, depth + 1, documents)?;
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let documents = parse("x.yaml", text).unwrap();
        documents.iter().map(|d| format!("{}/{}", d.value["kind"], d.value["metadata"]["name"])).collect()
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        assert_eq!(
            names("kind: Pod\nmetadata: {name: a}\n---\n---\nkind: Secret\nmetadata: {name: b}\n---\n").len(),
            2
        );
        assert_eq!(names(r#"{"metadata":{"name":"a"}} {"metadata":{"name":"b"}}"#), [r#"null/"a""#, r#"null/"b""#]);
        assert_eq!(names("{kind: Pod, metadata: {name: a}}"), [r#""Pod"/"a""#]);
        let list =
            "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- kind: Secret\n  metadata: {name: b}\n";
        assert_eq!(names(list), [r#""Pod"/"a""#, r#""Secret"/"b""#]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let error = |name: &str, text: &str| format!("{:#}", parse(name, text).unwrap_err());
        assert!(error("a.json", "{\"a\": }").contains("a.json is not JSON: expected value at line 1 column 7"));
        assert!(error("a.yaml", "a: b: c").contains("a.yaml is not YAML"));
        assert!(error("a.yaml", "- 1\n").contains("this is a list"));
        assert!(error("a.yaml", "a: 1\n---\nhello").contains("document 2"));
    }

    #[test]
    fn numbers_keep_their_decimal_text() {
        let documents = parse("x", "spec: {constraints: {entropy_score: 0.8}}").unwrap();
        assert_eq!(documents[0].value["spec"]["constraints"]["entropy_score"].to_string(), "0.8");
    }

    #[test]
    fn a_directory_gives_its_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("2.yaml"), "metadata: {name: b}").unwrap();
        std::fs::write(dir.path().join("1.json"), r#"{"metadata":{"name":"a"}}"#).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!(found.iter().map(|d| d.value["metadata"]["name"].clone()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(read(&dir.path().join("none.json")).is_err());
        let empty = tempfile::tempdir().unwrap();
        assert!(read(empty.path()).unwrap_err().to_string().contains("no object"));
    }
}
