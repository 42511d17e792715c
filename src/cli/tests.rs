//! The command lines: that each can be asked for help, and errors lead on.

use super::*;
use clap::{CommandFactory, error::ErrorKind};

/// Every command below this one, with the words that lead to it.
fn commands(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    found.push(path.to_vec());
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path: Vec<String> = path.iter().cloned().chain([sub.get_name().to_owned()]).collect();
        commands(sub, &path, found);
    }
}

fn every_help(command: clap::Command) -> Vec<(String, String)> {
    let mut command = command;
    command.build();
    let mut found = Vec::new();
    commands(&command, &[command.get_name().to_owned()], &mut found);
    let help = |path: &Vec<String>| {
        let args = path.iter().cloned().chain(["--help".to_owned()]);
        let error = command.clone().try_get_matches_from(args).expect_err("help is an early end");
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{path:?}");
        (path.join(" "), error.to_string())
    };
    found.iter().map(help).collect()
}

fn all() -> Vec<(String, String)> {
    let mut all = every_help(args::Entroos::command());
    all.extend(applets::commands().into_iter().flat_map(every_help));
    all
}

#[test]
fn the_command_lines_hold_together() {
    args::Entroos::command().debug_assert();
    applets::commands().into_iter().for_each(clap::Command::debug_assert);
}

#[test]
fn every_command_and_applet_helps() {
    let all = all();
    for (command, help) in &all {
        assert!(help.contains("Usage:"), "{command}: {help}");
        for line in help.lines() {
            // An option without a word on it is no help.
            assert!(!line.trim().is_empty() || !line.contains("--"), "{command}");
        }
    }
    #[cfg(feature = "full")]
    for wanted in
        ["entroos node", "entroos pod apply", "entroos image import", "entroos status", "mockdocker run", "nko"]
    {
        assert!(all.iter().any(|(command, _)| command == wanted), "{wanted}");
    }
    assert!(all.iter().any(|(command, help)| command == "entroos" && help.contains("Exit codes:")));
}

/// Each `entroos …` command that a help, or an error of ours, sends the reader to is one that there is.
#[test]
fn help_mentions_only_what_there_is() {
    let all = all();
    for (command, help) in &all {
        for mentioned in help.split('`').skip(1).step_by(2).filter(|text| text.starts_with("entroos ")) {
            let words: Vec<&str> =
                mentioned.split_whitespace().take_while(|w| w.chars().all(|c| c.is_ascii_lowercase())).collect();
            let known = all.iter().any(|(known, _)| *known == words.join(" "));
            assert!(known, "{command} mentions `{mentioned}`");
        }
    }
}

/// What is not in this version says so where it is listed.
#[test]
fn what_is_refused_says_so_in_its_help() {
    let all = all();
    for command in
        ["nko execute-contract", "morphdb store", "entropy_router run", "mock_k8 deploy", "mock_k8 consensus propose"]
    {
        let (_, help) = all.iter().find(|(known, _)| known == command).expect(command);
        assert!(help.to_lowercase().contains("not in this version yet"), "{command}: {help}");
    }
    for (applet, line) in [
        ("nko", "nko execute-contract --verify-execution --input a=b --output-hash-to blockchain x.wasm"),
        ("entropy_router", "entropy_router run --bind 127.0.0.1:9000"),
        ("morphdb", "morphdb query metadata.a='b' --output-format=json"),
        (
            "mock_k8",
            "mock_k8 consensus propose --action a=75MB --voting-method entropy_weighted --quorum 0.66 --voting-period 48h",
        ),
        (
            "mock_k8",
            "mock_k8 deploy --resource-optimized --target-devices t --max-memory-per-node 50MB --cpu-limit 0.1 --application f.yaml",
        ),
    ] {
        let args = line.split(' ').map(OsString::from);
        let error = applets::run(applet, args).expect_err(line);
        assert!(error.to_string().contains("not in this version"), "{line}: {error}");
    }
}

#[test]
fn a_wrong_word_gets_the_nearest_right_one() {
    let error = |line: &str| args::Entroos::try_parse_from(line.split(' ')).expect_err(line).to_string();
    assert!(error("entroos applet install x").contains("applets"));
    #[cfg(feature = "full")]
    assert!(error("entroos pod lst").contains("list"));
    assert_eq!(args::Entroos::try_parse_from(["entroos", "pdo"]).expect_err("wrong").exit_code(), 2);
}

#[cfg(feature = "full")]
#[test]
fn command_lines_of_the_specification_parse() {
    for line in [
        "entroos node --config node.toml",
        "entroos node --data-dir /tmp/x --api 127.0.0.1:0 --net 127.0.0.1:7000",
        "entroos pod apply app.json",
        "entroos pod apply - --wait=30s -n demo",
        "entroos pod apply dir --wait",
        "entroos pod list -A -o wide -l a=b -w",
        "entroos pod get a -o yaml --server http://127.0.0.1:1",
        "entroos pod logs -f --tail 3 -c main --since 5m --timestamps -p hello",
        "entroos pod exec -it hello -c main -- sh -c true",
        "entroos pod delete a b --grace-period 0 --wait",
        "entroos pod wait a --for=phase=Succeeded --timeout 1m",
        "entroos image import x.tar --tag a:1",
        "entroos image remove a:1",
        "entroos status --output json",
        "entroos applets install /tmp/x",
    ] {
        assert!(args::Entroos::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    for line in [
        "entroos pod list -A -n x",
        "entroos pod exec hello ls",
        "entroos pod wait a --for=ready",
        "entroos pod delete",
    ] {
        assert!(args::Entroos::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

#[cfg(feature = "full")]
#[test]
fn errors_say_what_why_and_what_next() {
    let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let error = client::Error::Unreachable { server: "http://127.0.0.1:8080".into(), source };
    let text = words(&anyhow::Error::new(error).context("cannot list"));
    assert!(
        text.starts_with("error: cannot list: no node answers at http://127.0.0.1:8080: connection refused\n"),
        "{text}"
    );
    assert!(text.contains("hint: start one with `entroos node`"), "{text}");
}
