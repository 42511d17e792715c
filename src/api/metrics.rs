//! `/metrics`: this node in Prometheus' text format. Counters live as long as the process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::context::Context;
use super::error;
use crate::orchestrator::object::Phase;
use crate::orchestrator::{Body, Kind, State};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counts what came. Its keys are routes of the table, known methods and status codes, so it cannot grow without bound.
#[derive(Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    committed: AtomicU64,
    refused: AtomicU64,
}

impl Metrics {
    /// `route`: the path of a row of the table; empty where none was reached.
    pub fn request(&self, method: &Method, route: &str, code: StatusCode) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => "other",
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, route.to_owned(), code.as_u16())).or_default() += 1;
    }

    pub fn command(&self, committed: bool) {
        let counter = if committed { &self.committed } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Pods of each phase, all phases named.
pub(super) fn pods_by_phase(state: &State) -> [(&'static str, u64); 5] {
    let mut phases = [("Pending", 0), ("Running", 0), ("Succeeded", 0), ("Failed", 0), ("Unknown", 0)];
    for object in state.list(Kind::Pod, None) {
        if let Body::Pod(pod) = &object.body {
            let index = match pod.status.phase {
                Phase::Pending => 0,
                Phase::Running => 1,
                Phase::Succeeded => 2,
                Phase::Failed => 3,
                Phase::Unknown => 4,
            };
            phases[index].1 += 1;
        }
    }
    phases
}

pub(super) fn page(context: &Context) -> Response {
    let snapshot = context.api.client.snapshot();
    let mut page = Page::default();
    page.head("entroos_build_info", "gauge", "The version that runs.");
    page.line("entroos_build_info", &[("version", context.api.version)], 1);
    page.one("entroos_ledger_height", "gauge", "Blocks applied.", snapshot.height.0);
    page.one("entroos_state_revision", "counter", "Changes of objects applied.", snapshot.state.revision());
    page.head("entroos_pods", "gauge", "Pods by phase.");
    for (phase, count) in pods_by_phase(&snapshot.state) {
        page.line("entroos_pods", &[("phase", phase)], count);
    }
    page.head("entroos_commands_total", "counter", "Commands submitted by the api.");
    let metrics = &context.metrics;
    page.line("entroos_commands_total", &[("outcome", "committed")], metrics.committed.load(Ordering::Relaxed));
    page.line("entroos_commands_total", &[("outcome", "refused")], metrics.refused.load(Ordering::Relaxed));
    let open = u64::try_from(context.streams.open()).unwrap_or(u64::MAX);
    page.one("entroos_watches", "gauge", "Watches, followed logs and exec sessions open.", open);
    page.one("entroos_runtime_ready", "gauge", "Whether pods can run here.", u64::from(context.api.runtime.is_some()));
    page.head("entroos_http_requests_total", "counter", "Requests answered, by route and code.");
    for ((method, route, code), count) in metrics.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let labels = [("method", *method), ("route", route.as_str()), ("code", &code.to_string())];
        page.line("entroos_http_requests_total", &labels, *count);
    }
    process(&mut page);
    error::stream_response(FORMAT, page.text.into())
}

/// What the process takes of the machine; what cannot be read is left out.
fn process(page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        page.one("process_resident_memory_bytes", "gauge", "Memory resident in RAM.", bytes);
    }
    if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        use nix::sys::time::TimeValLike;
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        page.head("process_cpu_seconds_total", "counter", "CPU time used, user and system.");
        let _ = writeln!(page.text, "process_cpu_seconds_total {}.{:06}", micros / 1_000_000, micros % 1_000_000);
    }
}

pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _ = writeln!(self.text, "{name}{{{}}} {value}", labels.join(","));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.text, "{name} {value}");
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_share_one_series() {
        let metrics = Metrics::default();
        for method in ["BREW", "WHEN", "GET"] {
            metrics.request(&Method::from_bytes(method.as_bytes()).unwrap(), "", StatusCode::NOT_FOUND);
        }
        let requests = metrics.requests.lock().unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[&("other", String::new(), 404)], 2);
    }

    #[test]
    fn the_process_knows_its_memory() {
        assert!(resident_bytes().unwrap() > 1024 * 1024);
    }
}
