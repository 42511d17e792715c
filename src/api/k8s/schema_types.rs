//! The table of `schema`: every field that is read or printed, and nothing else.

use super::schema::Shape::{
    BytesMap, Decimal, Free, Integer, List, MergeList, MergeSet, Quantities, Ref, Text, TextList, TextMap, Time, Truth,
};
use super::schema::{Shape, Type};

const API_VERSION: (&str, Shape, &str) = ("apiVersion", Text, "Always v1; may be left out.");
const KIND: (&str, Shape, &str) = ("kind", Text, "What this is; may be left out where the path says it.");
const METADATA: (&str, Shape, &str) = ("metadata", Ref("ObjectMeta"), "Name, labels and the like.");

/// Every type.
pub(super) const TYPES: &[Type] = &[
    POD,
    POD_SPEC,
    CONSTRAINTS,
    CONTAINER,
    RESOURCE_REQUIREMENTS,
    CONNECTIVITY_REQUIREMENTS,
    RESOURCES,
    CONTAINER_PORT,
    ENV_VAR,
    ENV_VAR_SOURCE,
    CONFIG_MAP_KEY,
    SECRET_KEY,
    OBJECT_FIELD,
    RESOURCE_FIELD,
    POD_SECURITY,
    SECURITY,
    SECCOMP,
    POD_OS,
    POD_STATUS,
    POD_CONDITION,
    HOST_IP,
    CONTAINER_STATUS,
    CONTAINER_STATE,
    WAITING,
    RUNNING,
    TERMINATED,
    NODE,
    NODE_SPEC,
    NODE_STATUS,
    NODE_CONDITION,
    NODE_ADDRESS,
    NODE_INFO,
    NAMESPACE,
    NAMESPACE_SPEC,
    NAMESPACE_STATUS,
    CONFIG_MAP,
    SECRET,
    EVENT,
    OBJECT_REFERENCE,
    EVENT_SOURCE,
    OBJECT_META,
    LIST_META,
    MANAGED_FIELDS,
    DELETE_OPTIONS,
    PRECONDITIONS,
    STATUS,
];

const POD: Type = Type {
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

const POD_SPEC: Type = Type {
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

const CONSTRAINTS: Type = Type {
    name: "Constraints",
    about: "What the node chosen must be worth (EntroOS).",
    fields: &[(
        "entropy_score",
        Decimal,
        "Least ratio of the node's entropy score to the best node's, from 0 to 1, such as 0.8.",
    )],
    required: &[],
};

const CONTAINER: Type = Type {
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

const RESOURCE_REQUIREMENTS: Type = Type {
    name: "EntroosResourceRequirements",
    about: "Request and limit at once (EntroOS).",
    fields: &[("cpu", Decimal, "Cores, such as 0.5 or 500m."), ("memory", Decimal, "Bytes, such as 256Mi.")],
    required: &[],
};

const CONNECTIVITY_REQUIREMENTS: Type = Type {
    name: "ConnectivityRequirements",
    about: "What a node's network must offer (EntroOS).",
    fields: &[("bandwidth_min", Text, "Such as 10Mbps; units bps, kbps, Mbps, Gbps.")],
    required: &[],
};

const RESOURCES: Type = Type {
    name: "ResourceRequirements",
    about: "What a container may use and what is set aside for it.",
    fields: &[
        ("limits", Quantities, "The most it may use: cpu and memory."),
        ("requests", Quantities, "What is set aside for it: cpu and memory; the limits unless said."),
    ],
    required: &[],
};

const CONTAINER_PORT: Type = Type {
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

const ENV_VAR: Type = Type {
    name: "EnvVar",
    about: "A variable of the environment.",
    fields: &[
        ("name", Text, "Its name."),
        ("value", Text, "Its value; $(NAME) of an earlier variable is expanded."),
        ("valueFrom", Ref("EnvVarSource"), "Where its value comes from."),
    ],
    required: &["name"],
};

const ENV_VAR_SOURCE: Type = Type {
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

const CONFIG_MAP_KEY: Type = Type {
    name: "ConfigMapKeySelector",
    about: "A key of a config map in the pod's namespace.",
    fields: KEY_FIELDS,
    required: &["name", "key"],
};

const SECRET_KEY: Type = Type {
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

const OBJECT_FIELD: Type = Type {
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

const RESOURCE_FIELD: Type = Type {
    name: "ResourceFieldSelector",
    about: "A limit or request of a container.",
    fields: &[
        ("resource", Text, "limits.cpu, limits.memory, requests.cpu or requests.memory."),
        ("containerName", Text, "The container; this one unless said."),
        ("divisor", Decimal, "Only 1 is accepted."),
    ],
    required: &["resource"],
};

const POD_SECURITY: Type = Type {
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

const SECURITY: Type = Type {
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

const SECCOMP: Type = Type {
    name: "SeccompProfile",
    about: "The filter of system calls.",
    fields: &[("type", Text, "Only RuntimeDefault is accepted, and every container has it.")],
    required: &["type"],
};

const POD_OS: Type = Type {
    name: "PodOS",
    about: "The operating system of a pod's containers.",
    fields: &[("name", Text, "Only linux is accepted.")],
    required: &["name"],
};

const POD_STATUS: Type = Type {
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

const POD_CONDITION: Type = Type {
    name: "PodCondition",
    about: "Something that holds of a pod, or does not.",
    fields: CONDITION_FIELDS,
    required: &["type", "status"],
};

const CONDITION_FIELDS: &[(&str, Shape, &str)] = &[
    ("type", Text, "What it is about."),
    ("status", Text, "True, False or Unknown."),
    ("reason", Text, "Why, in one word."),
    ("message", Text, "Why, for people."),
    ("lastTransitionTime", Time, "When it last changed."),
    ("lastProbeTime", Time, "Not kept."),
    ("lastHeartbeatTime", Time, "When it was last confirmed."),
];

const HOST_IP: Type =
    Type { name: "HostIP", about: "An address of a node.", fields: &[("ip", Text, "The address.")], required: &["ip"] };

const CONTAINER_STATUS: Type = Type {
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

const CONTAINER_STATE: Type = Type {
    name: "ContainerState",
    about: "One of these.",
    fields: &[
        ("waiting", Ref("ContainerStateWaiting"), "It does not run yet."),
        ("running", Ref("ContainerStateRunning"), "It runs."),
        ("terminated", Ref("ContainerStateTerminated"), "It has ended."),
    ],
    required: &[],
};

const WAITING: Type = Type {
    name: "ContainerStateWaiting",
    about: "A container that does not run yet.",
    fields: &[("reason", Text, "Why, in one word."), ("message", Text, "Why, for people.")],
    required: &[],
};

const RUNNING: Type = Type {
    name: "ContainerStateRunning",
    about: "A container that runs.",
    fields: &[("startedAt", Time, "Since when.")],
    required: &[],
};

const TERMINATED: Type = Type {
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

const NODE: Type = Type {
    name: "Node",
    about: "A machine. It makes itself known; labels, annotations and spec.unschedulable can be changed.",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        ("spec", Ref("NodeSpec"), "What its operators want of it."),
        ("status", Ref("NodeStatus"), "What it says of itself."),
    ],
    required: &[],
};

const NODE_SPEC: Type = Type {
    name: "NodeSpec",
    about: "What the operators want of a node.",
    fields: &[
        ("unschedulable", Truth, "Whether it is to take no further pods (kubectl cordon)."),
        ("providerID", Text, "Its key; cannot be changed."),
    ],
    required: &[],
};

const NODE_STATUS: Type = Type {
    name: "NodeStatus",
    about: "What a node says of itself.",
    fields: &[
        ("capacity", Quantities, "What it has."),
        ("allocatable", Quantities, "What pods may use of it."),
        ("conditions", MergeList("NodeCondition", "type"), "Whether it is ready."),
        ("addresses", MergeList("NodeAddress", "type"), "Where it is found."),
        ("nodeInfo", Ref("NodeSystemInfo"), "Its hardware and software."),
    ],
    required: &[],
};

const NODE_CONDITION: Type = Type {
    name: "NodeCondition",
    about: "Something that holds of a node, or does not.",
    fields: CONDITION_FIELDS,
    required: &["type", "status"],
};

const NODE_ADDRESS: Type = Type {
    name: "NodeAddress",
    about: "Where a node is found.",
    fields: &[("type", Text, "Hostname, InternalIP or InternalDNS."), ("address", Text, "The address.")],
    required: &["type", "address"],
};

const NODE_INFO: Type = Type {
    name: "NodeSystemInfo",
    about: "A node's hardware and software.",
    fields: &[
        ("architecture", Text, "amd64 or arm64."),
        ("operatingSystem", Text, "linux."),
        ("kernelVersion", Text, "Its kernel."),
        ("osImage", Text, "Its operating system."),
        ("machineID", Text, "From its /etc/machine-id."),
        ("systemUUID", Text, "From its /etc/machine-id."),
        ("bootID", Text, "Of its last start."),
        ("kubeletVersion", Text, "Version of EntroOS it runs."),
        ("kubeProxyVersion", Text, "Empty."),
        ("containerRuntimeVersion", Text, "What runs its containers."),
    ],
    required: &[],
};

const NAMESPACE: Type = Type {
    name: "Namespace",
    about: "A place for names.",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        ("spec", Ref("NamespaceSpec"), "Empty."),
        ("status", Ref("NamespaceStatus"), "How it is."),
    ],
    required: &[],
};

const NAMESPACE_SPEC: Type = Type { name: "NamespaceSpec", about: "Empty.", fields: &[], required: &[] };

const NAMESPACE_STATUS: Type = Type {
    name: "NamespaceStatus",
    about: "How a namespace is.",
    fields: &[("phase", Text, "Active or Terminating.")],
    required: &[],
};

const CONFIG_MAP: Type = Type {
    name: "ConfigMap",
    about: "Configuration for pods.",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        ("data", TextMap, "Values as text."),
        ("binaryData", BytesMap, "Values that are not text, in base64."),
        ("immutable", Truth, "Whether the data is to stay as it is."),
    ],
    required: &[],
};

const SECRET: Type = Type {
    name: "Secret",
    about: "Configuration that is nobody else's business: it is kept encrypted.",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        ("type", Text, "What the data is for; Opaque unless said."),
        ("data", BytesMap, "Values in base64."),
        ("stringData", TextMap, "Values as text; becomes data, and wins over it."),
        ("immutable", Truth, "Whether the data is to stay as it is."),
    ],
    required: &[],
};

const EVENT: Type = Type {
    name: "Event",
    about: "Something that happened to an object.",
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        ("involvedObject", Ref("ObjectReference"), "What it happened to."),
        ("type", Text, "Normal or Warning."),
        ("reason", Text, "Why, in one word."),
        ("message", Text, "What happened."),
        ("count", Integer, "How often."),
        ("firstTimestamp", Time, "When first."),
        ("lastTimestamp", Time, "When last."),
        ("eventTime", Time, "Not kept."),
        ("source", Ref("EventSource"), "Who reported it."),
        ("reportingComponent", Text, "Who reported it."),
        ("reportingInstance", Text, "Not kept."),
    ],
    required: &["metadata", "involvedObject"],
};

const OBJECT_REFERENCE: Type = Type {
    name: "ObjectReference",
    about: "An object.",
    fields: &[
        ("apiVersion", Text, "Always v1."),
        ("kind", Text, "Its kind."),
        ("namespace", Text, "Its namespace."),
        ("name", Text, "Its name."),
        ("uid", Text, "Its uid."),
    ],
    required: &[],
};

const EVENT_SOURCE: Type = Type {
    name: "EventSource",
    about: "Who reported an event.",
    fields: &[("component", Text, "The scheduler, or a node.")],
    required: &[],
};

const OBJECT_META: Type = Type {
    name: "ObjectMeta",
    about: "What every object has.",
    fields: &[
        ("name", Text, "Its name, unique among its kind in its namespace."),
        ("generateName", Text, "Prefix of a name that the cluster completes."),
        ("namespace", Text, "Its namespace; default unless said."),
        ("labels", TextMap, "What it is selected by."),
        ("annotations", TextMap, "What else is to be remembered of it."),
        ("uid", Text, "Names this object for all time. Set by the cluster."),
        ("resourceVersion", Text, "Changes with every change. Set by the cluster."),
        ("generation", Integer, "Counts changes of the specification. Set by the cluster."),
        ("creationTimestamp", Time, "When it was created. Set by the cluster."),
        ("deletionTimestamp", Time, "When it will be gone. Set by the cluster."),
        ("deletionGracePeriodSeconds", Integer, "How long it has for it. Set by the cluster."),
        ("finalizers", MergeSet, "Not enforced yet: refused where not empty."),
        ("managedFields", List("ManagedFieldsEntry"), "Not kept."),
        ("selfLink", Text, "Not kept."),
    ],
    required: &[],
};

const LIST_META: Type = Type {
    name: "ListMeta",
    about: "What every list has.",
    fields: &[("resourceVersion", Text, "Where a watch may go on."), ("continue", Text, "Not used.")],
    required: &[],
};

const MANAGED_FIELDS: Type = Type {
    name: "ManagedFieldsEntry",
    about: "Who set which field; not kept.",
    fields: &[("manager", Text, "Who."), ("fieldsV1", Free, "Which fields.")],
    required: &[],
};

const DELETE_OPTIONS: Type = Type {
    name: "DeleteOptions",
    about: "How to delete.",
    fields: &[
        API_VERSION,
        KIND,
        ("gracePeriodSeconds", Integer, "Seconds between SIGTERM and SIGKILL; the pod's own unless said."),
        ("preconditions", Ref("Preconditions"), "What must hold of the object."),
        ("propagationPolicy", Text, "Background, Foreground or Orphan: objects own nothing yet."),
        ("orphanDependents", Truth, "Objects own nothing yet."),
        ("dryRun", TextList, "All: nothing is to change."),
    ],
    required: &[],
};

const PRECONDITIONS: Type = Type {
    name: "Preconditions",
    about: "What must hold of an object.",
    fields: &[("uid", Text, "Its uid."), ("resourceVersion", Text, "Its version.")],
    required: &[],
};

const STATUS: Type = Type {
    name: "Status",
    about: "What came of a request.",
    fields: &[
        API_VERSION,
        KIND,
        ("metadata", Ref("ListMeta"), "Empty."),
        ("status", Text, "Success or Failure."),
        ("message", Text, "For people."),
        ("reason", Text, "For programs."),
        ("details", Free, "Which object and which fields."),
        ("code", Integer, "The HTTP status."),
    ],
    required: &[],
};
