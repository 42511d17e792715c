//! The table of `schema`: every field that is read or printed, and nothing else.

use super::schema::Shape::{
    BytesMap, Free, Integer, List, MergeList, MergeSet, Quantities, Ref, Text, TextList, TextMap, Time, Truth,
};
use super::schema::{Shape, Type};
use super::schema_pod::{
    CONFIG_MAP_KEY, CONNECTIVITY_REQUIREMENTS, CONSTRAINTS, CONTAINER, CONTAINER_PORT, CONTAINER_STATE,
    CONTAINER_STATUS, ENV_VAR, ENV_VAR_SOURCE, HOST_IP, OBJECT_FIELD, POD, POD_CONDITION, POD_OS, POD_SECURITY,
    POD_SPEC, POD_STATUS, RESOURCE_FIELD, RESOURCE_REQUIREMENTS, RESOURCES, RUNNING, SECCOMP, SECRET_KEY, SECURITY,
    TERMINATED, WAITING,
};

pub(super) const API_VERSION: (&str, Shape, &str) = ("apiVersion", Text, "Always v1; may be left out.");
pub(super) const KIND: (&str, Shape, &str) = ("kind", Text, "What this is; may be left out where the path says it.");
pub(super) const METADATA: (&str, Shape, &str) = ("metadata", Ref("ObjectMeta"), "Name, labels and the like.");

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

pub(super) const CONDITION_FIELDS: &[(&str, Shape, &str)] = &[
    ("type", Text, "What it is about."),
    ("status", Text, "True, False or Unknown."),
    ("reason", Text, "Why, in one word."),
    ("message", Text, "Why, for people."),
    ("lastTransitionTime", Time, "When it last changed."),
    ("lastProbeTime", Time, "Not kept."),
    ("lastHeartbeatTime", Time, "When it was last confirmed."),
];

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
