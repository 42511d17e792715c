//! `morphdb`: Morph, the store.

// These documentation comments are the help that users read.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::not_yet;

/// Morph, the content-addressed store. NOT IN THIS VERSION YET: every command is refused.
#[derive(Debug, Parser)]
#[command(name = "morphdb", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Morphdb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Not in this version yet: store a file or standard input
    Store(Store),
    /// Not in this version yet: find entries by their metadata
    Query(Query),
    /// Not in this version yet: read an entry
    Get {
        /// The content's id
        id: String,
    },
}

#[derive(Debug, Args)]
struct Store {
    /// The file [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its media type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A JSON object
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
}

#[derive(Debug, Args)]
struct Query {
    /// Such as: metadata.customer_id = 'CUST123'
    query: String,
    /// What to print
    #[arg(long, value_name = "FORMAT", value_parser = ["json", "table"])]
    output_format: Option<String>,
}

pub fn run(asked: Morphdb) -> anyhow::Result<u8> {
    const NEEDS: &str = "the Morph store";
    Err(match asked.verb {
        Verb::Store(store) => {
            let source = store.file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string());
            let kind = store.content_type.unwrap_or_else(|| "no content type".to_owned());
            let labelled = if store.metadata.is_some() { ", with metadata" } else { "" };
            not_yet(&format!("morphdb store ({source}, {kind}{labelled})"), NEEDS)
        }
        Verb::Query(query) => {
            let format = query.output_format.unwrap_or_else(|| "table".to_owned());
            not_yet(&format!("morphdb query ({:?} as {format})", query.query), NEEDS)
        }
        Verb::Get { id } => not_yet(&format!("morphdb get ({id:?})"), NEEDS),
    })
}
