//! `entroos math …`: the catalogue of the equations in use.

// These documentation comments are the help that users read.
#![allow(clippy::doc_markdown, rustdoc::bare_urls)]

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, Format, Table};
use crate::math::{Arithmetic, Equation, registry};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the equations that are in use
    List {
        /// What to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one equation
    Explain(Explain),
}

#[derive(Debug, Args)]
pub struct Explain {
    /// Its number, its name, or a part of its name: 14, entropy_score, SHANNON
    name: String,
    /// What to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command.
///
/// # Errors
/// Where there is no such equation.
pub fn run(verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { output: Format::Table } => output::write(list().render())?,
        Verb::List { output } => output::value(output, &registry().iter().map(value).collect())?,
        Verb::Explain(asked) => {
            let equation = find(&asked.name)?;
            match asked.output {
                Format::Table => output::write(page(equation))?,
                format => output::value(format, &value(equation))?,
            }
        }
    }
    Ok(0)
}

fn list() -> Table {
    let mut table = Table::new(["number", "name", "formula", "used for"]);
    for e in registry() {
        table.row([e.number.to_string().as_str(), e.name, e.formula, e.used]);
    }
    table
}

fn page(e: &Equation) -> String {
    let alike = match e.arithmetic {
        Arithmetic::Consensus => "fixed point: every node computes it to the same bit",
        Arithmetic::Local => "floating point: one node computes it for itself",
    };
    format!(
        "Number:      {}\nName:        {}\nFormula:     {}\nSource:      {}\nUsed for:    {}\nArithmetic:  {alike}\n",
        e.number, e.name, e.formula, e.source, e.used
    )
}

fn value(e: &Equation) -> Value {
    let arithmetic = e.arithmetic.letter().to_string();
    json!({"number": e.number, "name": e.name, "formula": e.formula, "source": e.source, "used": e.used,
        "arithmetic": arithmetic})
}

/// By number, by name, or by a part of the name that only one equation has.
fn find(name: &str) -> anyhow::Result<&'static Equation> {
    let wanted = name.to_lowercase().replace('-', "_");
    let exact = registry().iter().find(|e| e.name == wanted || e.number.to_string() == wanted);
    if let Some(equation) = exact {
        return Ok(equation);
    }
    let found: Vec<&Equation> = registry().iter().filter(|e| e.name.contains(&wanted)).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => bail!("no equation in use is called {name:?}: see `entroos math list`"),
        several => {
            let names: Vec<&str> = several.iter().map(|e| e.name).collect();
            bail!("{name:?} may be {}: say which", names.join(" or "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_found_as_people_call_them() {
        assert_eq!(find("SHANNON").unwrap().number, 1);
        assert_eq!(find("14").unwrap().name, "entropy_score");
        assert_eq!(find("entropy-score").unwrap().number, 14);
        assert!(find("entropy").unwrap_err().to_string().contains("say which"));
        assert!(find("nonsense").unwrap_err().to_string().contains("math list"));
        assert!(page(find("35").unwrap()).contains("same bit"));
        assert_eq!(list().render().lines().count(), registry().len() + 1);
    }
}
