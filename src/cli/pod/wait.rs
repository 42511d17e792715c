//! `pod wait`, and waiting for what was applied.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use super::super::client::{Client, until};
use super::super::output;
use super::{Wait, bare, collection};

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A condition of the status has this value.
    Is {
        name: String,
        status: String,
    },
    Phase(String),
    /// It is gone.
    Delete,
    /// It is ready or has succeeded (`apply --wait`); failure ends the waiting.
    Settled,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const PHASES: [&str; 4] = ["Pending", "Running", "Succeeded", "Failed"];
        let wrong = || format!("{text:?}: write condition=Ready, phase=Succeeded or delete");
        match text.split_once('=') {
            None if text == "delete" => Ok(Self::Delete),
            Some(("condition", rest)) if !rest.is_empty() => {
                let (name, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Is { name: name.to_owned(), status: status.to_owned() })
            }
            Some(("phase", phase)) => match PHASES.iter().find(|known| known.eq_ignore_ascii_case(phase)) {
                Some(known) => Ok(Self::Phase((*known).to_owned())),
                None => Err(format!("{phase:?} is not a phase: there are {}", PHASES.join(", "))),
            },
            _ => Err(wrong()),
        }
    }
}

/// Waits and says so.
pub async fn run(client: &Client, args: &Wait) -> anyhow::Result<()> {
    let name = bare(&args.target.name);
    wait_for(client, &args.target.namespace.namespace, name, &args.condition, args.timeout).await?;
    let met = if args.condition == Condition::Delete { "deleted" } else { "condition met" };
    output::line(format!("pod/{name} {met}"))
}

/// Waits until the pod has come to the condition.
///
/// # Errors
/// Where the time is over, with why the pod is not there yet; where it never can come there.
pub async fn wait_for(
    client: &Client,
    namespace: &str,
    name: &str,
    condition: &Condition,
    timeout: Duration,
) -> anyhow::Result<()> {
    let mut seen: Option<Value> = None;
    let collection = collection(namespace, "pods")?;
    let waiting = until(client, &collection, name, |object| {
        let met = look(name, condition, object, seen.is_some());
        if let Some(object) = object {
            seen = Some(object.clone());
        }
        met
    });
    if let Ok(met) = tokio::time::timeout(timeout, waiting).await {
        return met;
    }
    let state = seen.as_ref().map_or_else(String::new, |object| format!(": it is {}", state(object)));
    let after = super::super::duration::human(timeout.as_secs());
    Err(anyhow!("pod/{name} did not come there within {after}{state}"))
}

fn look(name: &str, condition: &Condition, object: Option<&Value>, was_there: bool) -> anyhow::Result<Option<()>> {
    let Some(object) = object else {
        return match condition {
            Condition::Delete => Ok(Some(())),
            _ if was_there => bail!("pod/{name} was deleted meanwhile"),
            _ => bail!("pod/{name} not found: see what there is with `entroos pod list -A`"),
        };
    };
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let ready = |wanted: &str, status: &str| {
        let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|c| is(&c["type"], wanted) && is(&c["status"], status))
    };
    let met = match condition {
        Condition::Delete => false,
        Condition::Is { name, status } => ready(name, status),
        Condition::Phase(wanted) => phase == wanted,
        Condition::Settled => phase == "Succeeded" || ready("Ready", "True"),
    };
    let over = matches!(phase, "Succeeded" | "Failed");
    let hopeless = match condition {
        Condition::Settled => phase == "Failed",
        // A pod that has ended stays so.
        Condition::Phase(_) => over,
        Condition::Is { name, status } => over && name == "Ready" && status.eq_ignore_ascii_case("true"),
        Condition::Delete => false,
    };
    if hopeless && !met {
        bail!(
            "pod/{name} cannot come there any more: it is {} (see `entroos pod logs {name}` and `entroos pod describe {name}`)",
            state(object)
        );
    }
    Ok(met.then_some(()))
}

fn is(value: &Value, wanted: &str) -> bool {
    value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(wanted))
}

/// Where a pod stands, in one line: its phase, and why each container is not running.
#[must_use]
pub fn state(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &object["status"];
    let phase = text(&status["phase"]);
    let mut parts = vec![if phase.is_empty() { "Unknown".into() } else { phase }];
    let mut because = |reason: String, message: String| match (reason.is_empty(), message.is_empty()) {
        (true, true) => {}
        (true, false) => parts.push(message),
        (false, true) => parts.push(reason),
        (false, false) => parts.push(format!("{reason}: {message}")),
    };
    because(text(&status["reason"]), text(&status["message"]));
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if is(&condition["type"], "PodScheduled") && is(&condition["status"], "False") {
            because(text(&condition["reason"]), text(&condition["message"]));
        }
    }
    for container in status["containerStatuses"].as_array().into_iter().flatten() {
        let state = &container["state"];
        let name = text(&container["name"]);
        if let Some(waiting) = state.get("waiting") {
            because(format!("container {name} {}", text(&waiting["reason"])), text(&waiting["message"]));
        } else if let Some(ended) = state.get("terminated") {
            let code = ended["exitCode"].as_i64().unwrap_or_default();
            let what = format!("container {name} {} with exit code {code}", text(&ended["reason"]));
            because(what, text(&ended["message"]));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_read_or_refused_with_the_cure() {
        assert_eq!("delete".parse(), Ok(Condition::Delete));
        assert_eq!("phase=succeeded".parse(), Ok(Condition::Phase("Succeeded".into())));
        let ready = Condition::Is { name: "Ready".into(), status: "True".into() };
        assert_eq!("condition=Ready".parse(), Ok(ready));
        let not = Condition::Is { name: "Ready".into(), status: "False".into() };
        assert_eq!("condition=Ready=False".parse(), Ok(not));
        assert!("phase=Done".parse::<Condition>().unwrap_err().contains("Succeeded"));
        assert!("ready".parse::<Condition>().unwrap_err().contains("condition=Ready"));
    }

    #[test]
    fn a_failed_pod_ends_the_waiting_with_the_reason() {
        let pod = json!({"status": {"phase": "Failed", "containerStatuses": [
            {"name": "c", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}});
        let error = look("a", &Condition::Settled, Some(&pod), true).unwrap_err().to_string();
        assert!(error.contains("container c Error with exit code 3"), "{error}");
        assert!(look("a", &Condition::Phase("Failed".into()), Some(&pod), true).unwrap().is_some());
        assert!(look("a", &Condition::Delete, Some(&pod), true).unwrap().is_none());
        assert!(look("a", &Condition::Delete, None, false).unwrap().is_some());
        assert!(look("a", &Condition::Settled, None, false).unwrap_err().to_string().contains("not found"));
    }

    #[test]
    fn a_ready_or_succeeded_pod_has_settled() {
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(look("a", &Condition::Settled, Some(&running), true).unwrap().is_some());
        let done = json!({"status": {"phase": "Succeeded"}});
        assert!(look("a", &Condition::Settled, Some(&done), true).unwrap().is_some());
        let pending = json!({"status": {"phase": "Pending"}});
        assert!(look("a", &Condition::Settled, Some(&pending), true).unwrap().is_none());
    }
}
