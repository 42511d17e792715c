//! Bodies by their content type: JSON, YAML, Kubernetes' protobuf.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::ApiError;

/// Most values a body may unfold to: a YAML body of a few lines can stand for billions.
const VALUES_MAX: usize = 1_000_000;

/// Reads a body by its content type: JSON, YAML or Kubernetes' protobuf. Absent or unknown types are read as JSON or refused with 415.
pub fn parse_body(content_type: Option<&str>, body: &[u8]) -> Result<Value, ApiError> {
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        ""
        | "application/json"
        | "application/json-patch+json"
        | "application/merge-patch+json"
        | "application/strategic-merge-patch+json" => json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => yaml(body),
        "application/vnd.kubernetes.protobuf" => super::proto::parse(body),
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(ApiError::unsupported_media_type(
            "server-side apply is not served by this version; use `kubectl apply` without --server-side",
        )),
        other => Err(ApiError::unsupported_media_type(format!(
            "the body of the request is of type \"{other}\", which is not supported; send application/json, \
             application/yaml or application/vnd.kubernetes.protobuf"
        ))),
    }
}

fn json(body: &[u8]) -> Result<Value, ApiError> {
    let budget = Cell::new(VALUES_MAX);
    let mut reader = serde_json::Deserializer::from_slice(body);
    Bounded(&budget)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| ApiError::bad_request(format!("the body is not JSON: {e}")))
}

fn yaml(body: &[u8]) -> Result<Value, ApiError> {
    let budget = Cell::new(VALUES_MAX.min(body.len().saturating_mul(4) + 1000));
    Bounded(&budget)
        .deserialize(serde_norway::Deserializer::from_slice(body))
        .map_err(|e| ApiError::bad_request(format!("the body is not one YAML document: {e}")))
}

/// Builds a value of at most so many parts, and refuses a field given twice: one of the two would be ignored.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| de::Error::custom("it unfolds to too many values"))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value JSON can hold")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom(format!("{v} is not a number JSON can hold")))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        // An alias may repeat one long text: its length counts too.
        let left = self.0.get().checked_sub(v.len() / 64).ok_or_else(|| E::custom("it unfolds to too much text"))?;
        self.0.set(left);
        Ok(v.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(list.into())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(Name)? {
            let value = access.next_value_seed(self)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(de::Error::custom(format!("duplicate field \"{key}\"")));
            }
        }
        Ok(map.into())
    }
}

/// A field's name. YAML reads `8080:` and `true:` as a number and a truth; they are names all the same.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Name {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a field's name")
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<String, E> {
        Ok(v.to_owned())
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<String, E> {
        Ok(v.to_string())
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<String, E> {
        Ok(v.to_string())
    }
    fn visit_bool<E: de::Error>(self, v: bool) -> Result<String, E> {
        Ok(v.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_and_yaml_say_the_same() {
        let object = json!({ "metadata": { "name": "x" }, "n": 0.8, "list": [1, null, true], "8080": "port" });
        assert_eq!(parse_body(None, object.to_string().as_bytes()).unwrap(), object);
        let text = "metadata: {name: x}\nn: 0.8\nlist: [1, null, true]\n8080: port\n";
        assert_eq!(parse_body(Some("application/yaml; charset=utf-8"), text.as_bytes()).unwrap(), object);
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for (kind, body) in [
            ("application/json", r#"{"a": 1, "a": 2}"#),
            ("application/json", r#"{"a": 1} {"b": 2}"#),
            ("application/json", ""),
            ("application/yaml", "a: 1\n---\nb: 2\n"),
            ("application/yaml", "a: .nan"),
        ] {
            assert_eq!(parse_body(Some(kind), body.as_bytes()).unwrap_err().code, 400, "{body}");
        }
    }

    /// Nine lines that stand for 10^9 values.
    #[test]
    fn an_alias_bomb_is_refused() {
        let line = |i: usize| match i.checked_sub(1) {
            None => "a0: &a0 [x,x,x,x,x,x,x,x,x,x]".to_owned(),
            Some(last) => format!("a{i}: &a{i} [{}]", vec![format!("*a{last}"); 10].join(",")),
        };
        let bomb = (0..9).map(line).collect::<Vec<_>>().join("\n");
        assert_eq!(parse_body(Some("application/yaml"), bomb.as_bytes()).unwrap_err().code, 400);
        let deep = "[".repeat(100_000);
        assert_eq!(parse_body(Some("application/yaml"), deep.as_bytes()).unwrap_err().code, 400);
        assert_eq!(parse_body(None, deep.as_bytes()).unwrap_err().code, 400);
    }

    #[test]
    fn server_side_apply_is_refused_with_the_way_out() {
        let refused = parse_body(Some("application/apply-patch+yaml"), b"{}").unwrap_err();
        assert_eq!(refused.code, 415);
        assert!(refused.message.contains("without --server-side"));
        assert_eq!(parse_body(Some("image/png"), b"").unwrap_err().code, 415);
    }
}
