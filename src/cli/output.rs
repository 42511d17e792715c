//! What commands print: tables in kubectl's look, JSON, YAML.
//!
//! Everything goes through [`write`], so that a reader who has seen enough (`| head`) is not an error.

use std::io::{self, Write};

use clap::ValueEnum;

/// For people, or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    #[cfg(feature = "full")]
    Yaml,
}

/// As [`Format`], with what lists have besides.
#[cfg(feature = "full")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    Json,
    Yaml,
    /// `pod/NAME` lines.
    Name,
}

/// The standard output was closed by its reader: not an error, but there is nothing more to do.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has gone")]
pub struct ReaderGone;

/// Writes to standard output at once.
///
/// # Errors
/// [`ReaderGone`], or why the output cannot be written (a full disk).
pub fn write(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        Err(e) => Err(anyhow::Error::new(e).context("cannot write the output")),
    }
}

/// One line of it.
///
/// # Errors
/// As [`write`].
pub fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    write(format!("{}\n", text.as_ref()))
}

/// A value for programs. `Format::Table` is the caller's own; here it falls to JSON.
///
/// # Errors
/// As [`write`].
pub fn value(format: Format, value: &serde_json::Value) -> anyhow::Result<()> {
    match format {
        #[cfg(feature = "full")]
        Format::Yaml => write(serde_norway::to_string(value)?),
        _ => line(serde_json::to_string_pretty(value)?),
    }
}

/// Rows under headings. Cells are padded to the widest of their column and parted by three spaces, as kubectl does.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { headings: headings.into_iter().map(|h| h.into().to_uppercase()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell.into())).collect());
    }

    /// The whole as text, each line ended.
    #[must_use]
    pub fn render(&self) -> String {
        let mut widths = vec![0; self.headings.len()];
        let mut text = render_row(&self.headings, &self.widen(&mut widths));
        for row in &self.rows {
            text.push_str(&render_row(row, &widths));
        }
        text
    }

    /// The rows alone, in columns at least as wide as `widths`, which grow. For watches, whose rows come one by one.
    #[cfg(feature = "full")]
    #[must_use]
    pub fn render_rows(&self, widths: &mut Vec<usize>) -> String {
        widths.resize(self.headings.len(), 0);
        let widths = self.widen(widths);
        self.rows.iter().map(|row| render_row(row, &widths)).collect()
    }

    fn widen(&self, widths: &mut [usize]) -> Vec<usize> {
        for row in std::iter::once(&self.headings).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        widths.to_vec()
    }
}

fn render_row(cells: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (i, cell) in cells.iter().enumerate() {
        line.push_str(cell);
        if i + 1 < cells.len() {
            let width = widths.get(i).copied().unwrap_or(0) + 3;
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
        }
    }
    line.push('\n');
    line
}

/// A cell must not move the cursor of whoever reads the table: what came from elsewhere may hold escape sequences.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_three() {
        let mut table = Table::new(["name", "ready", "status"]);
        table.row(["hello-entroos", "0/1", "Completed"]);
        table.row(["é", "1/1", "Running"]);
        let text =
            "NAME            READY   STATUS\nhello-entroos   0/1     Completed\né               1/1     Running\n";
        assert_eq!(table.render(), text);
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let mut table = Table::new(["name"]);
        table.row(["a\x1b[2Jb\nc"]);
        assert_eq!(table.render(), "NAME\na [2Jb c\n");
    }

    #[cfg(feature = "full")]
    #[test]
    fn watched_rows_stay_in_their_columns() {
        let mut widths = vec![10, 3];
        let mut table = Table::new(["name", "x"]);
        table.row(["a", "b"]);
        assert_eq!(table.render_rows(&mut widths), "a            b\n");
        assert_eq!(widths, [10, 3]);
    }
}
