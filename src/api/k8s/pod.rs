//! A pod's specification, from Kubernetes' JSON and back.

use serde_json::{Map, Value, json};

use super::container;
use super::error::Cause;
use super::quantity::parse_decimal;
use super::read::At;
use crate::math::fixed::Fx;
use crate::orchestrator::object::{Constraints, Pod, PodSpec, PodStatus, RestartPolicy, Security};

/// Kubernetes' default time between SIGTERM and SIGKILL.
const GRACE_SECONDS: u64 = 30;
/// A year: what is longer is a mistake.
const GRACE_SECONDS_MAX: u64 = 366 * 86_400;

const RESTART_POLICIES: [(&str, RestartPolicy); 3] =
    [("Always", RestartPolicy::Always), ("OnFailure", RestartPolicy::OnFailure), ("Never", RestartPolicy::Never)];

/// Reads `spec`; status and placement are the cluster's to say.
pub(super) fn decode(root: &At) -> Result<Pod, Cause> {
    let spec = root.get("spec")?.ok_or_else(|| Cause::required("spec", "is required, with at least one container"))?;
    let containers = spec.list_of("containers")?;
    if containers.is_empty() {
        return Err(Cause::required("spec.containers", "at least one container is required"));
    }
    let grace = spec.number_of("terminationGracePeriodSeconds", 0, GRACE_SECONDS_MAX)?;
    let spec = PodSpec {
        containers: containers.iter().map(container::decode).collect::<Result<_, _>>()?,
        restart_policy: spec.choice_of("restartPolicy", &RESTART_POLICIES)?.unwrap_or_default(),
        grace_seconds: grace.unwrap_or(GRACE_SECONDS),
        host_network: spec.truth_of("hostNetwork")?.unwrap_or(false),
        hostname: spec.text_of("hostname")?,
        node_selector: spec.text_map_of("nodeSelector")?,
        node_name: spec.text_of("nodeName")?,
        security: match spec.get("securityContext")? {
            Some(at) => decode_security(&at, false)?,
            None => Security::default(),
        },
        constraints: decode_constraints(&spec)?,
    };
    Ok(Pod { spec, status: PodStatus::default(), placement: None })
}

fn decode_constraints(spec: &At) -> Result<Constraints, Cause> {
    let Some(at) = spec.get("constraints")? else { return Ok(Constraints::default()) };
    let Some(at) = at.get("entropy_score")? else { return Ok(Constraints::default()) };
    let text = at.decimal_text()?;
    let score = parse_decimal(&text).filter(|score| (Fx::ZERO..=Fx::ONE).contains(score));
    score.map(|score| Constraints { entropy_score: Some(score) }).ok_or_else(|| {
        let said = super::read::brief(at.value);
        at.wrong(format!(
            "must be a decimal from 0 to 1 such as 0.8 (least ratio of the node's entropy score to the best node's), is {said}"
        ))
    })
}

/// A security context, of a `container` or of a pod.
pub(super) fn decode_security(at: &At, container: bool) -> Result<Security, Cause> {
    // 2^32 − 1 means "nobody asked" to the kernel's calls.
    let id = |key: &str| -> Result<Option<u32>, Cause> {
        let id = at.number_of(key, 0, u64::from(u32::MAX) - 1)?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    };
    Ok(Security {
        run_as_user: id("runAsUser")?,
        run_as_group: id("runAsGroup")?,
        run_as_non_root: at.truth_of("runAsNonRoot")?,
        read_only_root: if container { at.truth_of("readOnlyRootFilesystem")? } else { None },
    })
}

/// Prints `spec`.
pub(super) fn encode_spec(spec: &PodSpec) -> Value {
    let policy = RESTART_POLICIES.iter().find(|(_, p)| *p == spec.restart_policy).map_or("", |(word, _)| word);
    let mut out = Map::new();
    out.insert("containers".into(), spec.containers.iter().map(container::encode).collect());
    out.insert("restartPolicy".into(), policy.into());
    out.insert("terminationGracePeriodSeconds".into(), spec.grace_seconds.into());
    if spec.host_network {
        out.insert("hostNetwork".into(), true.into());
    }
    for (key, text) in [("hostname", &spec.hostname), ("nodeName", &spec.node_name)] {
        if !text.is_empty() {
            out.insert(key.into(), text.as_str().into());
        }
    }
    if !spec.node_selector.is_empty() {
        out.insert("nodeSelector".into(), json!(spec.node_selector));
    }
    out.insert("securityContext".into(), encode_security(&spec.security));
    if let Some(score) = spec.constraints.entropy_score {
        out.insert("constraints".into(), json!({ "entropy_score": print_decimal(score) }));
    }
    out.into()
}

pub(super) fn encode_security(security: &Security) -> Value {
    let mut out = Map::new();
    for (key, id) in [("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group)] {
        if let Some(id) = id {
            out.insert(key.into(), id.into());
        }
    }
    let truths = [("runAsNonRoot", security.run_as_non_root), ("readOnlyRootFilesystem", security.read_only_root)];
    for (key, truth) in truths {
        if let Some(truth) = truth {
            out.insert(key.into(), truth.into());
        }
    }
    out.into()
}

/// A number where JSON's number means the very same, else text.
fn print_decimal(value: Fx) -> Value {
    let text = value.to_string();
    let number: Option<serde_json::Number> = serde_json::from_str(&text).ok();
    number.filter(|n| parse_decimal(&n.to_string()) == Some(value)).map_or_else(|| Value::String(text), Value::Number)
}
