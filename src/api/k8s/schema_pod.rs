//! The part of the table of `schema` that is about pods.

use super::schema::Shape::{Decimal, Integer, List, MergeList, Quantities, Ref, Text, TextList, TextMap, Time, Truth};
use super::schema::{Shape, Type};
use super::schema_types::{API_VERSION, CONDITION_FIELDS, KIND, METADATA};

pub(super) const POD: Type = Type {
    name: "Pod",
    about: "Containers that run together on one node.",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        ("spec", Ref("PodSpec"), "What is to run. Only labels and annotations of a pod can be changed afterwards."),
        ("status", Ref("PodStatus"), "How it is. Set by the cluster."),
    ],
    required: &[],
};

pub(super) const POD_SPEC: Type = Type {
    name: "PodSpec",
    about: "What a pod is to run, and how.",
    fields: &[
        ("containers", MergeList("Container", "name"), "The containers; at least one."),
        ("restartPolicy", Text, "Always (the default), OnFailure or Never."),
        ("terminationGracePeriodSeconds", Integer, "Seconds between SIGTERM and SIGKILL; 30 unless said."),
        ("hostNetwork", Truth, "Shares the machine's network. For the node's operator, where its policy allows it."),
        ("hostname", Text, "The pod's host name; its own name unless said."),
        ("nodeName", Text, "The node to run on; the scheduler chooses where it is not said."),
        ("nodeSelector", TextMap, "Labels a node must have to be chosen."),
        ("securityContext", Ref("PodSecurityContext"), "As whom the containers run, unless they say otherwise."),
        ("constraints", Ref("Constraints"), "What the node chosen must be worth (EntroOS)."),
        ("dnsPolicy", Text, "ClusterFirst or Default; others are not enforced yet and refused."),
        ("schedulerName", Text, "default-scheduler; others are refused."),
        ("enableServiceLinks", Truth, "There are no services yet: either way nothing is linked."),
        ("automountServiceAccountToken", Truth, "Only false is accepted: there are no service accounts."),
        ("serviceAccountName", Text, "Only default is accepted: there are no service accounts."),
        ("serviceAccount", Text, "Only default is accepted: there are no service accounts."),
        ("preemptionPolicy", Text, "Only PreemptLowerPriority is accepted; nothing preempts."),
        ("priority", Integer, "Only 0 is accepted."),
        ("hostPID", Truth, "Only false is accepted."),
        ("hostIPC", Truth, "Only false is accepted."),
        ("hostUsers", Truth, "Only true is accepted."),
        ("shareProcessNamespace", Truth, "Only false is accepted."),
        ("setHostnameAsFQDN", Truth, "Only false is accepted."),
        ("os", Ref("PodOS"), "The operating system of the containers."),
    ],
    required: &["containers"],
};

pub(super) const CONSTRAINTS: Type = Type {
    name: "Constraints",
    about: "What the node chosen must be worth (EntroOS).",
    fields: &[(
        "entropy_score",
        Decimal,
        "Least ratio of the node's entropy score to the best node's, from 0 to 1, such as 0.8.",
    )],
    required: &[],
};

pub(super) const CONTAINER: Type = Type {
    name: "Container",
    about: "One program and the image it comes in.",
    fields: &[
        ("name", Text, "Its name, unique in the pod."),
        ("image", Text, "The image; absent: the image or module named like the container (EntroOS)."),
        ("imagePullPolicy", Text, "IfNotPresent (the default, for every tag), Always or Never."),
        ("command", TextList, "Takes the place of the image's entrypoint."),
        ("args", TextList, "Takes the place of the image's command."),
        ("workingDir", Text, "The directory to start in; the image's unless said."),
        ("env", MergeList("EnvVar", "name"), "Variables of the environment."),
        ("ports", MergeList("ContainerPort", "containerPort"), "Ports it listens on; informational."),
        ("resources", Ref("ResourceRequirements"), "What it may use and what is set aside for it."),
        (
            "resource_requirements",
            Ref("EntroosResourceRequirements"),
            "Request and limit at once, where resources is silent (EntroOS).",
        ),
        ("connectivity_requirements", Ref("ConnectivityRequirements"), "What its node's network must offer (EntroOS)."),
        ("securityContext", Ref("SecurityContext"), "As whom it runs."),
        ("stdin", Truth, "Keeps its standard input open for attach."),
        ("stdinOnce", Truth, "Closes its standard input after the first attach."),
        ("tty", Truth, "Gives it a terminal."),
        ("terminationMessagePath", Text, "Only /dev/termination-log is accepted."),
        ("terminationMessagePolicy", Text, "Only File is accepted."),
    ],
    required: &["name"],
};

pub(super) const RESOURCE_REQUIREMENTS: Type = Type {
    name: "EntroosResourceRequirements",
    about: "Request and limit at once (EntroOS).",
    fields: &[("cpu", Decimal, "Cores, such as 0.5 or 500m."), ("memory", Decimal, "Bytes, such as 256Mi.")],
    required: &[],
};

pub(super) const CONNECTIVITY_REQUIREMENTS: Type = Type {
    name: "ConnectivityRequirements",
    about: "What a node's network must offer (EntroOS).",
    fields: &[("bandwidth_min", Text, "Such as 10Mbps; units bps, kbps, Mbps, Gbps.")],
    required: &[],
};

pub(super) const RESOURCES: Type = Type {
    name: "ResourceRequirements",
    about: "What a container may use and what is set aside for it.",
    fields: &[
        ("limits", Quantities, "The most it may use: cpu and memory."),
        ("requests", Quantities, "What is set aside for it: cpu and memory; the limits unless said."),
    ],
    required: &[],
};

pub(super) const CONTAINER_PORT: Type = Type {
    name: "ContainerPort",
    about: "A port a container listens on.",
    fields: &[
        ("containerPort", Integer, "From 1 to 65535."),
        ("name", Text, "Its name."),
        ("protocol", Text, "TCP (the default), UDP or SCTP."),
        ("hostPort", Integer, "Only 0 is accepted: ports of the machine are not published yet."),
    ],
    required: &["containerPort"],
};

pub(super) const ENV_VAR: Type = Type {
    name: "EnvVar",
    about: "A variable of the environment.",
    fields: &[
        ("name", Text, "Its name."),
        ("value", Text, "Its value; $(NAME) of an earlier variable is expanded."),
        ("valueFrom", Ref("EnvVarSource"), "Where its value comes from."),
    ],
    required: &["name"],
};

pub(super) const ENV_VAR_SOURCE: Type = Type {
    name: "EnvVarSource",
    about: "Where a variable's value comes from: one of these.",
    fields: &[
        ("configMapKeyRef", Ref("ConfigMapKeySelector"), "A key of a config map."),
        ("secretKeyRef", Ref("SecretKeySelector"), "A key of a secret."),
        ("fieldRef", Ref("ObjectFieldSelector"), "A field of the pod."),
        ("resourceFieldRef", Ref("ResourceFieldSelector"), "A limit or request of a container."),
    ],
    required: &[],
};

pub(super) const CONFIG_MAP_KEY: Type = Type {
    name: "ConfigMapKeySelector",
    about: "A key of a config map in the pod's namespace.",
    fields: KEY_FIELDS,
    required: &["name", "key"],
};

pub(super) const SECRET_KEY: Type = Type {
    name: "SecretKeySelector",
    about: "A key of a secret in the pod's namespace.",
    fields: KEY_FIELDS,
    required: &["name", "key"],
};

const KEY_FIELDS: &[(&str, Shape, &str)] = &[
    ("name", Text, "The object's name."),
    ("key", Text, "The key in it."),
    ("optional", Truth, "Whether the pod starts without it."),
];

pub(super) const OBJECT_FIELD: Type = Type {
    name: "ObjectFieldSelector",
    about: "A field of the pod.",
    fields: &[
        (
            "fieldPath",
            Text,
            "metadata.name, metadata.namespace, metadata.uid, metadata.labels['KEY'], metadata.annotations['KEY'], spec.nodeName, status.hostIP or status.podIP.",
        ),
        ("apiVersion", Text, "Always v1."),
    ],
    required: &["fieldPath"],
};

pub(super) const RESOURCE_FIELD: Type = Type {
    name: "ResourceFieldSelector",
    about: "A limit or request of a container.",
    fields: &[
        ("resource", Text, "limits.cpu, limits.memory, requests.cpu or requests.memory."),
        ("containerName", Text, "The container; this one unless said."),
        ("divisor", Decimal, "Only 1 is accepted."),
    ],
    required: &["resource"],
};

pub(super) const POD_SECURITY: Type = Type {
    name: "PodSecurityContext",
    about: "As whom the containers of a pod run.",
    fields: &[
        ("runAsUser", Integer, "The user's number."),
        ("runAsGroup", Integer, "The group's number."),
        ("runAsNonRoot", Truth, "Refuses to start as root."),
        ("seccompProfile", Ref("SeccompProfile"), "The filter of system calls."),
    ],
    required: &[],
};

pub(super) const SECURITY: Type = Type {
    name: "SecurityContext",
    about: "As whom a container runs; wins over the pod's.",
    fields: &[
        ("runAsUser", Integer, "The user's number."),
        ("runAsGroup", Integer, "The group's number."),
        ("runAsNonRoot", Truth, "Refuses to start as root."),
        ("readOnlyRootFilesystem", Truth, "Mounts its root read-only."),
        ("privileged", Truth, "Only false is accepted."),
        ("allowPrivilegeEscalation", Truth, "Only true is accepted: set-user-id programs work."),
        ("procMount", Text, "Only Default is accepted."),
        ("seccompProfile", Ref("SeccompProfile"), "The filter of system calls."),
    ],
    required: &[],
};

pub(super) const SECCOMP: Type = Type {
    name: "SeccompProfile",
    about: "The filter of system calls.",
    fields: &[("type", Text, "Only RuntimeDefault is accepted, and every container has it.")],
    required: &["type"],
};

pub(super) const POD_OS: Type = Type {
    name: "PodOS",
    about: "The operating system of a pod's containers.",
    fields: &[("name", Text, "Only linux is accepted.")],
    required: &["name"],
};

pub(super) const POD_STATUS: Type = Type {
    name: "PodStatus",
    about: "How a pod is.",
    fields: &[
        ("phase", Text, "Pending, Running, Succeeded, Failed or Unknown."),
        ("conditions", MergeList("PodCondition", "type"), "PodScheduled, Initialized, ContainersReady, Ready."),
        ("reason", Text, "Why, in one word."),
        ("message", Text, "Why, for people."),
        ("hostIP", Text, "The address of its node."),
        ("hostIPs", MergeList("HostIP", "ip"), "The addresses of its node."),
        ("startTime", Time, "When its node took it up."),
        ("qosClass", Text, "Guaranteed, Burstable or BestEffort."),
        ("containerStatuses", List("ContainerStatus"), "How each container is."),
    ],
    required: &[],
};

pub(super) const POD_CONDITION: Type = Type {
    name: "PodCondition",
    about: "Something that holds of a pod, or does not.",
    fields: CONDITION_FIELDS,
    required: &["type", "status"],
};

pub(super) const HOST_IP: Type =
    Type { name: "HostIP", about: "An address of a node.", fields: &[("ip", Text, "The address.")], required: &["ip"] };

pub(super) const CONTAINER_STATUS: Type = Type {
    name: "ContainerStatus",
    about: "How a container is.",
    fields: &[
        ("name", Text, "Its name."),
        ("state", Ref("ContainerState"), "How it is now."),
        ("lastState", Ref("ContainerState"), "How the attempt before this one ended."),
        ("ready", Truth, "Whether it is ready."),
        ("started", Truth, "Whether it has started."),
        ("restartCount", Integer, "How often it was started again."),
        ("image", Text, "Its image, in full."),
        ("imageID", Text, "The digest of what runs."),
        ("containerID", Text, "The attempt that runs."),
    ],
    required: &["name", "ready", "restartCount", "image", "imageID"],
};

pub(super) const CONTAINER_STATE: Type = Type {
    name: "ContainerState",
    about: "One of these.",
    fields: &[
        ("waiting", Ref("ContainerStateWaiting"), "It does not run yet."),
        ("running", Ref("ContainerStateRunning"), "It runs."),
        ("terminated", Ref("ContainerStateTerminated"), "It has ended."),
    ],
    required: &[],
};

pub(super) const WAITING: Type = Type {
    name: "ContainerStateWaiting",
    about: "A container that does not run yet.",
    fields: &[("reason", Text, "Why, in one word."), ("message", Text, "Why, for people.")],
    required: &[],
};

pub(super) const RUNNING: Type = Type {
    name: "ContainerStateRunning",
    about: "A container that runs.",
    fields: &[("startedAt", Time, "Since when.")],
    required: &[],
};

pub(super) const TERMINATED: Type = Type {
    name: "ContainerStateTerminated",
    about: "A container that has ended.",
    fields: &[
        ("exitCode", Integer, "Its exit code; 128 + n after signal n."),
        ("signal", Integer, "The signal that ended it."),
        ("reason", Text, "Completed, Error, OOMKilled and the like."),
        ("message", Text, "Why, for people."),
        ("startedAt", Time, "When it started."),
        ("finishedAt", Time, "When it ended."),
        ("containerID", Text, "The attempt that ended."),
    ],
    required: &["exitCode"],
};
