//! What names, labels and the like may be: Kubernetes' rules, each with the sentence that leads to the cure.

use std::collections::BTreeMap;

use super::command::Refusal;

/// Most bytes of all annotations of one object, keys included.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;
/// Most characters of a DNS label, of a label's value and of the name part of its key.
pub const LABEL_MAX: usize = 63;
/// Most characters of a DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// A refusal for what stands at `field`.
pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::Invalid { field: field.into(), message: message.into() }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=LABEL_MAX).contains(&bytes.len())
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
        && bytes.iter().all(|&b| inner(b) || b == b'-')
}

fn is_subdomain(text: &str) -> bool {
    // Each part follows the rule of a label but for its length, as Kubernetes has it.
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        !bytes.is_empty()
            && inner(bytes[0])
            && inner(bytes[bytes.len() - 1])
            && bytes.iter().all(|&b| inner(b) || b == b'-')
    };
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(part)
}

/// `[A-Za-z0-9]` at both ends, `-_.` too between them, at most 63 characters.
fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=LABEL_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A DNS-1123 label: namespaces, containers, host names.
pub fn label(field: &str, text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(invalid(field, "is required"));
    }
    if is_label(text) {
        return Ok(());
    }
    let rule = "at most 63 lower-case letters, digits and '-', with a letter or digit at both ends, such as 'my-name'";
    Err(invalid(field, format!("{text:?} is not a DNS-1123 label: use {rule}")))
}

/// A DNS-1123 subdomain: most names.
pub fn subdomain(field: &str, text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(invalid(field, "is required"));
    }
    if is_subdomain(text) {
        return Ok(());
    }
    let rule = "at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part, \
                such as 'example.com'";
    Err(invalid(field, format!("{text:?} is not a DNS-1123 subdomain: use {rule}")))
}

/// A key of a `ConfigMap` or Secret.
pub fn data_key(field: &str, text: &str) -> Result<(), Refusal> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=SUBDOMAIN_MAX).contains(&text.len()) && text.bytes().all(good) && text != "." && !text.starts_with("..") {
        return Ok(());
    }
    Err(invalid(field, format!("{text:?} is not a key: use at most 253 letters, digits, '-', '_' and '.'")))
}

/// The key of a label or annotation: `prefix/name` or `name`.
fn qualified_key(field: &str, key: &str) -> Result<(), Refusal> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(is_subdomain) && is_qualified_name(name) {
        return Ok(());
    }
    let rule = "at most 63 letters, digits, '-', '_' and '.', after an optional DNS name and '/', such as 'example.com/my-name'";
    Err(invalid(field, format!("{key:?} is not a qualified name: use {rule}")))
}

/// Labels, or a node selector.
pub fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (key, value) in labels {
        qualified_key(field, key)?;
        if !value.is_empty() && !is_qualified_name(value) {
            let rule = "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
            return Err(invalid(field, format!("{value:?} cannot be the value of label {key:?}: use {rule}")));
        }
    }
    Ok(())
}

/// Annotations: keys as labels have them, any text as value, bounded in sum.
pub fn annotations(field: &str, annotations: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let mut total = 0;
    for (key, value) in annotations {
        qualified_key(field, &key.to_ascii_lowercase())?;
        total += key.len() + value.len();
    }
    if total > ANNOTATIONS_MAX {
        return Err(invalid(
            field,
            format!("{total} bytes are too long: annotations may have {ANNOTATIONS_MAX} in sum"),
        ));
    }
    Ok(())
}

/// The name of an environment variable: printable ASCII without '='.
pub fn env_name(field: &str, text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(invalid(field, "is required"));
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Ok(());
    }
    Err(invalid(field, format!("{text:?} cannot name a variable: use printable ASCII characters without '='")))
}

/// The name of a port: an IANA service name.
pub fn port_name(field: &str, text: &str) -> Result<(), Refusal> {
    let letter = text.bytes().any(|b| b.is_ascii_lowercase());
    if text.len() <= 15 && is_label(text) && letter && !text.contains("--") {
        return Ok(());
    }
    let rule = "at most 15 lower-case letters, digits and single '-', at least one a letter";
    Err(invalid(field, format!("{text:?} cannot name a port: use {rule}")))
}

/// Text that ends up in a process or a file: a NUL would cut it short there.
pub fn no_nul(field: &str, text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        return Err(invalid(field, "holds a NUL character, which no program can be given: remove it"));
    }
    Ok(())
}

/// `text` cut to at most `max` bytes, at the border of a character.
pub fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
