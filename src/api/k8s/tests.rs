//! Behaviour across the rooms of this folder.

use serde_json::{Value, json};

use super::*;
use crate::base::{Bytes, Millicores};
use crate::orchestrator::object::{Body, EnvValue, Pod, PullPolicy, RestartPolicy};
use crate::orchestrator::{Kind, Object};

fn pod(value: &Value) -> Result<(Object, Pod), ApiError> {
    let (object, _) = decode(Kind::Pod, "default", value, FieldValidation::Strict)?;
    let Body::Pod(pod) = object.body.clone() else { unreachable!("a pod was asked for") };
    Ok((object, pod))
}

fn refusal(value: &Value) -> ApiError {
    decode(Kind::Pod, "default", value, FieldValidation::Strict).unwrap_err()
}

/// A pod with `field` (a JSON pointer) set to `value`.
fn with(field: &str, value: Value) -> Value {
    let mut pod = json!({ "metadata": { "name": "x" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let (parent, key) = field.rsplit_once('/').unwrap();
    let mut at = &mut pod;
    for part in parent.split('/').skip(1) {
        at = if let Ok(index) = part.parse::<usize>() { &mut at[index] } else { &mut at[part] };
    }
    at[key] = value;
    pod
}

/// Line 3 of the specification, to the letter.
#[test]
fn the_first_pod_is_read() {
    let body = br#"{"metadata":{"name":"hello-entroos"},"spec":{"containers":[{"name":"hello","image":"alpine:latest","command":["echo","Hello, EntroOS!"]}]}}"#;
    let value = parse_body(Some("application/json"), body).unwrap();
    let (object, pod) = pod(&value).unwrap();
    assert_eq!((object.meta.namespace.as_str(), object.meta.name.as_str()), ("default", "hello-entroos"));
    assert_eq!(pod.spec.containers[0].command, ["echo", "Hello, EntroOS!"]);
    assert_eq!(pod.spec.containers[0].pull_policy, PullPolicy::IfNotPresent);
    assert_eq!((pod.spec.restart_policy, pod.spec.grace_seconds), (RestartPolicy::Always, 30));
}

/// Line 4: the three extra fields, and no image.
#[test]
fn the_specifications_fields_are_read_and_printed() {
    let value = json!({ "metadata": { "name": "x" }, "spec": {
        "constraints": { "entropy_score": 0.8 },
        "containers": [{ "name": "c", "resource_requirements": { "cpu": 0.5, "memory": "256Mi" },
            "connectivity_requirements": { "bandwidth_min": "10Mbps" } }],
    } });
    let (object, pod) = pod(&value).unwrap();
    assert_eq!(pod.spec.constraints.entropy_score, Some("0.8".parse().unwrap()));
    let container = &pod.spec.containers[0];
    assert_eq!(container.image, "");
    assert_eq!(container.requirements.cpu, Some(Millicores(500)));
    assert_eq!(container.requirements.memory, Some(Bytes(268_435_456)));
    assert_eq!(container.bandwidth_min, Some(10_000_000));
    let printed = encode(&object);
    assert_eq!(printed["spec"]["constraints"], json!({ "entropy_score": 0.8 }));
    let printed = &printed["spec"]["containers"][0];
    assert_eq!(printed["resource_requirements"], json!({ "cpu": "500m", "memory": "256Mi" }));
    assert_eq!(printed["connectivity_requirements"], json!({ "bandwidth_min": "10Mbps" }));
}

/// A wrong value is a 422 that names the field and what is allowed.
#[test]
fn wrong_values_are_named() {
    for (field, value, path, hint) in [
        ("/spec/constraints", json!({ "entropy_score": 1.5 }), "spec.constraints.entropy_score", "from 0 to 1"),
        ("/spec/constraints", json!({ "entropy_score": "high" }), "spec.constraints.entropy_score", "0.8"),
        (
            "/spec/containers/0/resource_requirements",
            json!({ "cpu": "much" }),
            "spec.containers[0].resource_requirements.cpu",
            "500m",
        ),
        (
            "/spec/containers/0/connectivity_requirements",
            json!({ "bandwidth_min": "10MB" }),
            "spec.containers[0].connectivity_requirements.bandwidth_min",
            "10Mbps",
        ),
        ("/spec/containers/0/image", json!(3), "spec.containers[0].image", "text"),
        ("/spec/containers/0/name", json!(""), "spec.containers[0].name", "required"),
        ("/spec/containers/0/command", json!("echo"), "spec.containers[0].command", "a list"),
        ("/spec/containers/0/command", json!([1]), "spec.containers[0].command[0]", "text"),
        (
            "/spec/containers/0/imagePullPolicy",
            json!("Sometimes"),
            "spec.containers[0].imagePullPolicy",
            "IfNotPresent",
        ),
        (
            "/spec/containers/0/ports",
            json!([{ "containerPort": 0 }]),
            "spec.containers[0].ports[0].containerPort",
            "65535",
        ),
        ("/spec/restartPolicy", json!("Perhaps"), "spec.restartPolicy", "OnFailure"),
        ("/spec/securityContext", json!({ "runAsUser": -1 }), "spec.securityContext.runAsUser", "0 to"),
        ("/spec/containers", json!([]), "spec.containers", "at least one"),
        ("/metadata/name", json!(""), "metadata.name", "required"),
        ("/metadata/namespace", json!("other"), "metadata.namespace", "default"),
    ] {
        let refused = refusal(&with(field, value));
        assert_eq!((refused.code, refused.reason), (422, "Invalid"), "{refused}");
        let cause = &refused.details.as_ref().unwrap()["causes"][0];
        assert_eq!(cause["field"], path);
        assert!(cause["message"].as_str().unwrap().contains(hint), "{cause}");
    }
}

#[test]
fn unknown_fields_are_named_as_people_write_them() {
    for (field, value, path) in [
        ("/spec/containers/0/imagee", json!("x"), "spec.containers[0].imagee"),
        ("/spec/containers/0/imagee", json!(0), "spec.containers[0].imagee"),
        ("/metadata/nam", json!("x"), "metadata.nam"),
        ("/spce", json!({ "a": 1 }), "spce"),
        ("/spec/constraints", json!({ "entropy": 1 }), "spec.constraints.entropy"),
        ("/spec/resource_requirements", json!({ "cpu": 1 }), "spec.resource_requirements"),
        (
            "/spec/containers/0/resource_requirements",
            json!({ "gpu": 1 }),
            "spec.containers[0].resource_requirements.gpu",
        ),
    ] {
        let body = with(field, value);
        let refused = refusal(&body);
        assert_eq!((refused.code, refused.reason), (400, "BadRequest"));
        assert!(refused.message.ends_with(&format!("strict decoding error: unknown field \"{path}\"")), "{refused}");
        let (_, warnings) = decode(Kind::Pod, "default", &body, FieldValidation::Warn).unwrap();
        assert_eq!(warnings, [format!("unknown field \"{path}\"")]);
        let (_, warnings) = decode(Kind::Pod, "default", &body, FieldValidation::Ignore).unwrap();
        assert!(warnings.is_empty());
    }
}

/// Whatever the validation: a field Kubernetes knows and we do not enforce is never dropped.
#[test]
fn fields_not_enforced_are_refused_always() {
    for (field, value, path) in [
        ("/spec/volumes", json!([{ "name": "v", "emptyDir": {} }]), "spec.volumes"),
        ("/spec/initContainers", json!([{ "name": "i" }]), "spec.initContainers"),
        ("/spec/hostPID", json!(true), "spec.hostPID"),
        ("/spec/activeDeadlineSeconds", json!(0), "spec.activeDeadlineSeconds"),
        ("/spec/tolerations", json!([{ "operator": "Exists" }]), "spec.tolerations"),
        ("/spec/automountServiceAccountToken", json!(true), "spec.automountServiceAccountToken"),
        ("/spec/dnsPolicy", json!("None"), "spec.dnsPolicy"),
        ("/spec/securityContext", json!({ "fsGroup": 5 }), "spec.securityContext.fsGroup"),
        ("/metadata/finalizers", json!(["a/b"]), "metadata.finalizers"),
        (
            "/spec/containers/0/livenessProbe",
            json!({ "exec": { "command": ["true"] } }),
            "spec.containers[0].livenessProbe.exec.command",
        ),
        ("/spec/containers/0/envFrom", json!([{ "secretRef": { "name": "s" } }]), "spec.containers[0].envFrom"),
        (
            "/spec/containers/0/ports",
            json!([{ "containerPort": 80, "hostPort": 80 }]),
            "spec.containers[0].ports[0].hostPort",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({ "privileged": true }),
            "spec.containers[0].securityContext.privileged",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({ "allowPrivilegeEscalation": false }),
            "spec.containers[0].securityContext.allowPrivilegeEscalation",
        ),
        (
            "/spec/containers/0/resources",
            json!({ "limits": { "cpu": 1, "nvidia.com/gpu": 1 } }),
            "spec.containers[0].resources.limits[nvidia.com/gpu]",
        ),
    ] {
        for validation in [FieldValidation::Strict, FieldValidation::Ignore] {
            let refused = decode(Kind::Pod, "default", &with(field, value.clone()), validation).unwrap_err();
            assert_eq!((refused.code, refused.reason), (422, "Invalid"), "{refused}");
            assert_eq!(refused.details.unwrap()["causes"][0]["field"], path);
        }
    }
}

/// What exported pods carry everywhere and asks for nothing.
#[test]
fn defaults_and_nothings_are_taken() {
    let value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "x", "creationTimestamp": null, "labels": { "a.b/c": "d" }, "annotations": {},
            "resourceVersion": "12", "uid": "01234567-89ab-8def-8123-456789abcdef", "managedFields": [{ "manager": "k" }] },
        "spec": {
            "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "enableServiceLinks": true,
            "hostNetwork": false, "volumes": [], "tolerations": null, "securityContext": {}, "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority", "restartPolicy": "Never", "serviceAccountName": "default",
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "i", "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File", "imagePullPolicy": "Always", "tty": false,
                "resources": { "requests": { "cpu": 0.5, "memory": 268_435_456 }, "limits": {} },
                "ports": [{ "containerPort": 80 }], "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
                "env": [
                    { "name": "A", "value": "" },
                    { "name": "B", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.labels['a']" } } },
                    { "name": "C", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu", "divisor": "0" } } },
                ] }],
        },
        "status": { "phase": "Running", "podIP": "10.0.0.1" },
    });
    let (object, pod) = pod(&value).unwrap();
    assert_eq!(object.meta.revision, 12);
    assert_eq!(pod.spec.containers[0].requests.cpu, Some(Millicores(500)));
    assert_eq!(pod.spec.containers[0].env[1].value, EnvValue::Field("metadata.labels['a']".into()));
    assert_eq!((pod.spec.grace_seconds, pod.spec.containers[0].ports[0].protocol.as_str()), (0, "TCP"));
}

#[test]
fn another_type_is_a_bad_request() {
    for value in [
        json!({ "kind": "Deployment" }),
        json!({ "apiVersion": "apps/v1" }),
        json!([]),
        json!("x"),
        json!({ "kind": 3 }),
    ] {
        assert_eq!(refusal(&value).code, 400);
    }
}

/// The copy of a secret's data that kubectl keeps is sealed with it.
#[test]
fn a_secret_takes_its_copy_along() {
    let value = json!({
        "metadata": { "name": "s", "annotations": { "note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{…}" } },
        "data": { "a": "AQI=" }, "stringData": { "b": "text" },
    });
    let (object, _) = decode(Kind::Secret, "default", &value, FieldValidation::Strict).unwrap();
    let Body::Secret(secret) = &object.body else { unreachable!("a secret was asked for") };
    assert_eq!((secret.data["a"].as_slice(), secret.data["b"].as_slice()), (&[1, 2][..], &b"text"[..]));
    assert_eq!((object.meta.annotations.len(), secret.sealed_annotations.len()), (1, 1));
    let printed = encode(&object);
    assert_eq!(printed["metadata"]["annotations"], value["metadata"]["annotations"]);
    assert_eq!((&printed["type"], &printed["stringData"]), (&json!("Opaque"), &Value::Null));
    let row = &table(Kind::Secret, &[object.into()], 1, "Metadata", true, crate::base::UnixMillis(0))["rows"][0];
    assert_eq!(row["object"]["metadata"]["annotations"], json!({ "note": "n" }), "a table needs no key");
    let wrong = json!({ "metadata": { "name": "s" }, "data": { "a": "!" } });
    let refused = decode(Kind::Secret, "default", &wrong, FieldValidation::Strict).unwrap_err();
    assert_eq!(refused.details.unwrap()["causes"][0]["field"], "data.a");
}
