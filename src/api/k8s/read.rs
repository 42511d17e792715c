//! A JSON value and where it stands, so that every complaint names its field.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Cause;

/// A value at a path.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub path: String,
    pub value: &'a Value,
}

type Read<T> = Result<T, Cause>;

impl<'a> At<'a> {
    pub fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value }
    }

    pub fn child_path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// A cause at this path.
    pub fn wrong(&self, message: impl Into<String>) -> Cause {
        Cause::invalid(self.path.clone(), message)
    }

    /// The field `key`; absent and null are the same, as in Kubernetes.
    pub fn get(&self, key: &str) -> Read<Option<At<'a>>> {
        let map = self.value.as_object().ok_or_else(|| self.wrong(format!("must be an object, is {}", self.kind())))?;
        Ok(map.get(key).filter(|v| !v.is_null()).map(|value| At { path: self.child_path(key), value }))
    }

    pub fn text(&self) -> Read<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong(format!("must be text, is {}", self.kind())))
    }

    /// Text of a field, empty where absent.
    pub fn text_of(&self, key: &str) -> Read<String> {
        Ok(self.get(key)?.map(|at| at.text().map(str::to_owned)).transpose()?.unwrap_or_default())
    }

    /// Text of a field that must be there.
    pub fn required_text(&self, key: &str) -> Read<String> {
        let text = self.text_of(key)?;
        if text.is_empty() { Err(Cause::required(self.child_path(key), "is required")) } else { Ok(text) }
    }

    pub fn truth(&self) -> Read<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong(format!("must be true or false, is {}", self.kind())))
    }

    pub fn truth_of(&self, key: &str) -> Read<Option<bool>> {
        self.get(key)?.map(|at| at.truth()).transpose()
    }

    /// A whole number from `min` to `max`.
    pub fn number(&self, min: u64, max: u64) -> Read<u64> {
        self.value
            .as_u64()
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| self.wrong(format!("must be a whole number from {min} to {max}, is {}", brief(self.value))))
    }

    pub fn number_of(&self, key: &str, min: u64, max: u64) -> Read<Option<u64>> {
        self.get(key)?.map(|at| at.number(min, max)).transpose()
    }

    /// One of a few words; `None` where absent or empty.
    pub fn choice_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Read<Option<T>> {
        let Some(at) = self.get(key)? else { return Ok(None) };
        let text = at.text()?;
        if text.is_empty() {
            return Ok(None);
        }
        choices.iter().find(|(word, _)| *word == text).map(|&(_, choice)| Some(choice)).ok_or_else(|| {
            let allowed: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Cause {
                reason: "FieldValueNotSupported",
                field: at.path.clone(),
                message: format!("\"{text}\" is not supported; allowed: {}", allowed.join(", ")),
            }
        })
    }

    /// The elements of a list field; none where absent.
    pub fn list_of(&self, key: &str) -> Read<Vec<At<'a>>> {
        let Some(at) = self.get(key)? else { return Ok(Vec::new()) };
        let list = at.value.as_array().ok_or_else(|| at.wrong(format!("must be a list, is {}", at.kind())))?;
        Ok(list.iter().enumerate().map(|(i, value)| At { path: format!("{}[{i}]", at.path), value }).collect())
    }

    pub fn texts_of(&self, key: &str) -> Read<Vec<String>> {
        self.list_of(key)?.iter().map(|at| at.text().map(str::to_owned)).collect()
    }

    /// The entries of an object field; none where absent. Null values are left out.
    pub fn entries_of(&self, key: &str) -> Read<Vec<(&'a str, At<'a>)>> {
        let Some(at) = self.get(key)? else { return Ok(Vec::new()) };
        let map = at.value.as_object().ok_or_else(|| at.wrong(format!("must be an object, is {}", at.kind())))?;
        Ok(map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.as_str(), At { path: join(&at.path, name), value }))
            .collect())
    }

    pub fn text_map_of(&self, key: &str) -> Read<BTreeMap<String, String>> {
        self.entries_of(key)?.into_iter().map(|(name, at)| Ok((name.to_owned(), at.text()?.to_owned()))).collect()
    }

    /// A number or text, as its text: numbers by their shortest decimal, so that 0.8 is 0.8.
    pub fn decimal_text(&self) -> Read<String> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.wrong(format!("must be a number or text, is {}", self.kind()))),
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// `spec` + `nodeName` → `spec.nodeName`; keys with dots or brackets stand in brackets: `metadata.labels[a.b/c]`.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && !key.contains(['.', '[', ']', '/']);
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key}]"),
    }
}

/// A value for a message: its JSON, cut short.
pub(super) fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Whether there is nothing in it that could be enforced.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
