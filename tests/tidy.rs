//! The house's rules, read from its sources: one-way imports, file and function sizes, where `unsafe` may stand.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from left to right; a module may import only from rooms to its left, and from its own.
const ROOMS: [&str; 12] =
    ["base", "math", "proof", "store", "net", "ledger", "kernel", "container", "orchestrator", "api", "node", "cli"];

/// A file beyond this many lines wants to be two rooms. Lower it when the largest shrinks; never raise it.
const FILE_LINES_MAX: usize = 620;
/// Likewise for functions, tests left out.
const FUNCTION_LINES_MAX: usize = 110;

/// Files that may hold `unsafe`, each with a SAFETY comment at every use.
const UNSAFE_FILES: [&str; 3] = ["src/cli/terminal.rs", "src/container/sys.rs", "src/node/memory.rs"];

struct Source {
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    files.sort();
    assert!(files.len() > 30, "the sources were not found");
    files
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(root).unwrap().to_string_lossy().into_owned(),
            text: fs::read_to_string(&file).unwrap(),
        })
        .collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn room(path: &str) -> Option<usize> {
    let name = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    ROOMS.iter().position(|room| *room == name)
}

/// Imports that run back to the right, as `file:line imports room`.
fn arrows_back(source: &Source) -> Vec<String> {
    let Some(own) = room(&source.path) else { return Vec::new() };
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            // `use crate::{base::X, node::Y}` names several rooms at once.
            let named = rest.strip_prefix('{').map_or_else(|| vec![rest], |list| list.split(", ").collect());
            for name in named {
                let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if ROOMS.iter().position(|room| *room == name).is_some_and(|other| other > own) {
                    found.push(format!("{}:{} imports {name}", source.path, index + 1));
                }
            }
        }
    }
    found
}

/// Functions longer than `max`, by rustfmt's indentation: from `fn` to the brace that closes at its column.
fn long_functions(source: &Source, max: usize) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().take_while(|line| !line.contains("mod tests {")).collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "pub(super) async fn ",
        ]
        .iter()
        .any(|start| trimmed.starts_with(start));
        if !is_function {
            continue;
        }
        let close = format!("{}}}", " ".repeat(line.len() - trimmed.len()));
        let Some(length) = lines[index..].iter().position(|line| *line == close) else { continue };
        if length + 1 > max {
            found.push(format!("{}:{} is {} lines long", source.path, index + 1, length + 1));
        }
    }
    found
}

fn refuse(found: &[String], rule: &str) {
    let mut message = String::new();
    for line in found {
        writeln!(message, "  {line}").unwrap();
    }
    assert!(found.is_empty(), "{rule}:\n{message}");
}

#[test]
fn imports_run_one_way() {
    let found: Vec<String> = sources().iter().flat_map(arrows_back).collect();
    refuse(&found, "a module imports only from rooms to its left (ARCHITECTURE.md)");
}

/// The check above can fail.
#[test]
fn an_arrow_back_is_seen() {
    let text = "use crate::{base::Uid, node::config};\nfn f() { crate::cli::main(); }\n// crate::cli in a comment\n";
    let source = Source { path: "src/store/mod.rs".into(), text: text.into() };
    assert_eq!(arrows_back(&source), ["src/store/mod.rs:1 imports node", "src/store/mod.rs:2 imports cli"]);
}

#[test]
fn files_and_functions_keep_their_size() {
    let sources = sources();
    let tests = |source: &&Source| !source.path.ends_with("tests.rs");
    let files: Vec<String> = sources
        .iter()
        .filter(tests)
        .map(|source| (source, source.text.lines().take_while(|line| !line.contains("mod tests {")).count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(source, lines)| format!("{} has {lines} lines", source.path))
        .collect();
    refuse(&files, "a file this long wants to be two rooms");
    let functions: Vec<String> =
        sources.iter().filter(tests).flat_map(|source| long_functions(source, FUNCTION_LINES_MAX)).collect();
    refuse(&functions, "a function this long wants to be two");
}

#[test]
fn a_long_function_is_seen() {
    let text = format!("pub fn long() {{\n{}}}\n\nfn short() {{\n    x();\n}}\n", "    x();\n".repeat(9));
    let source = Source { path: "src/base/x.rs".into(), text };
    assert_eq!(long_functions(&source, 10), ["src/base/x.rs:1 is 11 lines long"]);
}

#[test]
fn unsafe_stays_in_its_few_rooms() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.text.contains("unsafe")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("allow(unsafe_code)") && !UNSAFE_FILES.contains(&source.path.as_str()) {
                found.push(format!("{}:{} allows unsafe code", source.path, index + 1));
            }
            let uses = code.contains("unsafe {") || code.contains("unsafe impl");
            let explained = lines[index.saturating_sub(6)..index].iter().any(|above| above.contains("SAFETY"));
            if uses && !explained {
                found.push(format!("{}:{} has no SAFETY comment", source.path, index + 1));
            }
        }
    }
    refuse(&found, "`unsafe` only in small audited modules");
}

/// Replicated state may hold nothing on which two nodes could differ.
#[test]
fn replicated_code_is_deterministic() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/orchestrator/") && !s.path.ends_with("tests.rs"))
    {
        for (index, line) in source.text.lines().take_while(|line| !line.contains("mod tests {")).enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in ["f64", "f32", "HashMap", "HashSet", "SystemTime", "Instant", "UnixMillis::now", "getrandom"] {
                if code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').any(|token| token.ends_with(word))
                {
                    found.push(format!("{}:{} uses {word}", source.path, index + 1));
                }
            }
        }
    }
    refuse(&found, "no float, hash map, clock or randomness in replicated state");
}
