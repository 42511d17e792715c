//! From a pod's container and its image to the process to run. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::env::expand;
use crate::base::Bytes;
use crate::container::image::ImageConfig;
use crate::container::spec::{ContainerSpec, Limits};
use crate::orchestrator::object::{Container, PodSpec};

/// Containerd's, for images that set none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the node adds to what pod and image say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub log_max: Bytes,
    pub log_files_max: u32,
    pub pids: u64,
}

/// There is nothing to run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither the image nor the container says what to run: set `command` in the container")]
pub struct NoCommand;

/// The host name inside the pod.
#[must_use]
pub fn hostname(pod_name: &str, spec: &PodSpec) -> String {
    let name = if spec.hostname.is_empty() { pod_name } else { &spec.hostname };
    // Linux keeps at most 64 bytes, names of pods may be longer; a dot or dash must not end it.
    name.get(..name.len().min(63)).unwrap_or(name).trim_end_matches(['.', '-']).to_owned()
}

/// The attempt to hand to the shim. `variables` are the pod's own, resolved.
#[allow(clippy::too_many_arguments)] // each is a source of its own, and there is one caller
pub fn container_spec(
    pod: &PodSpec,
    container: &Container,
    image: &ImageConfig,
    layers: Vec<PathBuf>,
    variables: Vec<(String, String)>,
    hostname: &str,
    attempt: u32,
    bounds: Bounds,
) -> Result<ContainerSpec, NoCommand> {
    let known: BTreeMap<String, String> = variables.iter().cloned().collect();
    let args = arguments(container, image, &known);
    if args.first().is_none_or(String::is_empty) {
        return Err(NoCommand);
    }
    let requests = container.effective_requests();
    let limits = container.effective_limits();
    let own = &container.security;
    let user = own.run_as_user.or(pod.security.run_as_user);
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt,
        layers,
        args,
        env: environment(container, image, variables, hostname),
        cwd: [&container.working_dir, &image.working_dir]
            .into_iter()
            .find(|d| !d.is_empty())
            .map_or("/", |d| d)
            .to_owned(),
        user: user.map_or_else(|| image.user.clone(), |uid| uid.to_string()),
        run_as_group: own.run_as_group.or(pod.security.run_as_group),
        run_as_non_root: own.run_as_non_root.or(pod.security.run_as_non_root).unwrap_or(false),
        read_only_root: own.read_only_root.unwrap_or(false),
        limits: Limits { cpu: limits.cpu, cpu_request: requests.cpu, memory: limits.memory, pids: Some(bounds.pids) },
        tty: container.tty,
        stdin: container.stdin,
        log_max: bounds.log_max,
        log_files_max: bounds.log_files_max,
    })
}

/// Kubernetes' rule: `command` replaces entrypoint and command of the image, `args` alone its command.
fn arguments(container: &Container, image: &ImageConfig, known: &BTreeMap<String, String>) -> Vec<String> {
    let own = |words: &[String]| words.iter().map(|w| expand(w, known)).collect::<Vec<_>>();
    match (container.command.is_empty(), container.args.is_empty()) {
        (false, _) => [own(&container.command), own(&container.args)].concat(),
        (true, false) => [image.entrypoint.clone(), own(&container.args)].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

/// Later ones win: the node's defaults, the image's, the pod's.
fn environment(
    container: &Container,
    image: &ImageConfig,
    variables: Vec<(String, String)>,
    hostname: &str,
) -> Vec<String> {
    let mut env: Vec<(String, String)> = vec![("PATH".into(), PATH.into()), ("HOSTNAME".into(), hostname.into())];
    if container.tty {
        env.push(("TERM".into(), "xterm".into()));
    }
    let of_image = image.env.iter().filter_map(|v| v.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned()));
    for (name, value) in of_image.chain(variables) {
        match env.iter_mut().find(|(n, _)| *n == name) {
            Some(old) => old.1 = value,
            None => env.push((name, value)),
        }
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The number of a stop signal as an image names it (`SIGQUIT`, `QUIT`, `3`); SIGTERM where it is none.
#[must_use]
pub fn stop_signal(name: &str) -> i32 {
    const SIGTERM: i32 = 15;
    if let Ok(number) = name.parse::<i32>() {
        return if (1..=64).contains(&number) { number } else { SIGTERM };
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(offset) = full.strip_prefix("SIGRTMIN+").and_then(|n| n.parse::<i32>().ok()) {
        return if (0..=30).contains(&offset) { 34 + offset } else { SIGTERM };
    }
    full.parse::<nix::sys::signal::Signal>().map_or(SIGTERM, |s| s as i32)
}
