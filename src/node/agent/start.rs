//! The worker's way to a running container: image, environment, sandbox, attempt.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::env::Source;
use super::local::{Local, prune_logs};
use super::process::{container_spec, hostname};
use super::status::Waiting;
use super::worker::Worker;
use super::{chain, local::Setback};
use crate::base::UnixMillis;
use crate::container::image::{self, Image};
use crate::container::logs;
use crate::container::spec::{ContainerSpec, ContainerState, SandboxSpec};
use crate::orchestrator::Object;
use crate::orchestrator::object::{Container, Pod, PullPolicy};

/// Why a container cannot be started yet, and when to try again (`None`: when something changes).
pub(super) struct Stuck {
    pub(super) waiting: Waiting,
    pub(super) until: Option<UnixMillis>,
}

/// What came of a pull.
pub(super) struct Pulled {
    container: String,
    attempt: u32,
    reference: String,
    image: Result<Arc<Image>, image::Error>,
}

/// Milliseconds after which an image that may be imported meanwhile is looked for again: a look costs nothing.
const LOOK_AGAIN: u64 = 3_000;

impl Worker {
    /// Starts an attempt, or says what is in its way.
    pub(super) async fn start(
        &mut self,
        object: &Arc<Object>,
        pod: &Pod,
        container: &Container,
        attempt: u32,
    ) -> Result<(), Stuck> {
        let image = self.image(container, attempt)?;
        let create = &self.local(container).create;
        if let Some(until) = create.blocked(UnixMillis::now()) {
            return Err(Stuck {
                waiting: Waiting::new("CreateContainerError", create.message.clone()),
                until: Some(until),
            });
        }
        let spec = self.spec(object, pod, container, &image, attempt)?;
        // The semaphore is closed never.
        let context = self.context.clone();
        let _permit = context.starts.acquire().await;
        if self.sandbox.is_none() {
            self.create_sandbox(pod, container).await?;
        }
        let Some(sandbox) = self.sandbox.clone() else {
            return Err(Stuck { waiting: Waiting::creating(), until: Some(UnixMillis::now()) });
        };
        let record = match sandbox.start(spec).await {
            Ok(record) => record,
            // Its shim went down: the next look replaces the sandbox.
            Err(_) if !sandbox.alive() => {
                return Err(Stuck { waiting: Waiting::creating(), until: Some(UnixMillis::now()) });
            }
            Err(e) => return Err(self.setback(container, "CreateContainerError", "Failed", &chain(&e))),
        };
        self.local(container).create.clear();
        self.local(container).complaint.clear();
        let name = &container.name;
        if let ContainerState::StartFailed { message, .. } = &record.state {
            self.note(true, "Failed", &format!("container {name} cannot be started: {message}"));
        } else {
            self.note(false, "Created", &format!("Created container {name}"));
            self.note(false, "Started", &format!("Started container {name}"));
        }
        if attempt > 1 {
            let pod_dir = logs::pod_dir(&context.agent.data_dir, &self.key.namespace, &self.key.name, &self.uid);
            let dir = pod_dir.join(name);
            let pruned = tokio::task::spawn_blocking(move || prune_logs(&dir, attempt)).await;
            if let Ok(Err(e)) = pruned {
                tracing::warn!(pod = self.key.name, "old logs cannot be removed: {e}");
            }
        }
        Ok(())
    }

    fn local(&mut self, container: &Container) -> &mut Local {
        self.locals.entry(container.name.clone()).or_default()
    }

    /// The attempt to hand to the shim, once everything it refers to is there.
    fn spec(
        &mut self,
        object: &Arc<Object>,
        pod: &Pod,
        container: &Container,
        image: &Image,
        attempt: u32,
    ) -> Result<ContainerSpec, Stuck> {
        let context = self.context.clone();
        let agent = &context.agent;
        // What it refers to may appear at any commit: whoever commits after this line wakes the worker.
        let wanted = self.wants_all.swap(true, Ordering::SeqCst);
        let snapshot = agent.client.snapshot();
        let source = Source {
            state: &snapshot.state,
            object,
            pod,
            node: agent.node,
            node_name: &agent.node_name,
            address: &agent.address,
            allocatable: agent.allocatable,
            seal: &agent.seal,
        };
        let variables = source.variables(container).map_err(|e| {
            let message = chain(&e);
            self.complain(container, "Failed", &message);
            Stuck { waiting: Waiting::new("CreateContainerConfigError", message), until: None }
        })?;
        self.wants_all.store(wanted, Ordering::SeqCst);
        let layers = agent.images.layer_dirs(image);
        let host = hostname(&self.key.name, &pod.spec);
        let bounds = agent.config.bounds;
        container_spec(&pod.spec, container, &image.config, layers, variables, &host, attempt, bounds).map_err(|e| {
            self.complain(container, "Failed", &e.to_string());
            Stuck { waiting: Waiting::new("CreateContainerError", e.to_string()), until: None }
        })
    }

    async fn create_sandbox(&mut self, pod: &Pod, container: &Container) -> Result<(), Stuck> {
        let context = self.context.clone();
        let Ok(runtime) = &context.agent.runtime else {
            return Err(Stuck { waiting: Waiting::creating(), until: None });
        };
        let spec = SandboxSpec {
            uid: self.uid,
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
            hostname: hostname(&self.key.name, &pod.spec),
            host_network: pod.spec.host_network,
        };
        match runtime.create(spec).await {
            Ok(sandbox) => self.hold(sandbox),
            Err(e) => {
                return Err(self.setback(container, "CreatePodSandboxError", "FailedCreatePodSandBox", &chain(&e)));
            }
        }
        let first = pod.status.containers.iter().all(|c| c.id.is_empty());
        if first && !pod.spec.host_network {
            let message = "the pod has its own loopback interface and no other network until the pod network comes";
            self.note(false, "NetworkLoopbackOnly", message);
        }
        Ok(())
    }

    /// The runtime failed: again later, ever more rarely.
    fn setback(&mut self, container: &Container, reason: &str, event: &str, message: &str) -> Stuck {
        let backoff = self.context.agent.config.backoff;
        self.complain(container, event, message);
        let create = &mut self.local(container).create;
        create.fail(message.to_owned(), 1_000, backoff.cap);
        Stuck { waiting: Waiting::new(reason, message), until: create.retry_at }
    }

    /// A warning event, once for each thing there is to complain of.
    fn complain(&mut self, container: &Container, event: &str, message: &str) {
        let complaint = format!("container {}: {message}", container.name);
        let local = self.local(container);
        if local.complaint != complaint {
            local.complaint.clone_from(&complaint);
            self.note(true, event, &complaint);
        }
    }

    /// The image by the pull policy, or why it is not here.
    fn image(&mut self, container: &Container, attempt: u32) -> Result<Arc<Image>, Stuck> {
        let context = self.context.clone();
        let images = &context.agent.images;
        let now = UnixMillis::now();
        if container.image.is_empty() {
            return self.image_by_name(container, images.find(&container.name));
        }
        let local = self.local(container);
        if local.pulling.is_some() {
            return Err(Stuck { waiting: Waiting::new("ContainerCreating", "pulling the image"), until: None });
        }
        let fresh = local.pulled_for == Some(attempt);
        if container.pull_policy != PullPolicy::Always || fresh {
            match images.find(&container.image) {
                Ok(image) => {
                    self.found(container, &image, fresh);
                    return Ok(image);
                }
                Err(e @ image::Error::Reference(..)) => {
                    self.complain(container, "InspectFailed", &chain(&e));
                    return Err(Stuck { waiting: Waiting::new("InvalidImageName", chain(&e)), until: None });
                }
                Err(image::Error::NotFound(_)) => {}
                Err(e) => return Err(self.setback(container, "ImageInspectError", "InspectFailed", &chain(&e))),
            }
        }
        if container.pull_policy == PullPolicy::Never {
            let image = &container.image;
            let message = format!(
                "image {image} is not on this node and imagePullPolicy is Never: `entroos image import FILE` brings it"
            );
            self.complain(container, "ErrImageNeverPull", &message);
            let until = Some(now.plus(LOOK_AGAIN));
            return Err(Stuck { waiting: Waiting::new("ErrImageNeverPull", message), until });
        }
        let pull = &self.local(container).pull;
        if let Some(retry) = pull.blocked(now) {
            let reason = if pull.count < 2 { "ErrImagePull" } else { "ImagePullBackOff" };
            // Meanwhile it may be imported by hand.
            let until = Some(retry.min(now.plus(LOOK_AGAIN)));
            return Err(Stuck { waiting: Waiting::new(reason, pull.message.clone()), until });
        }
        self.pull(container, attempt);
        Err(Stuck { waiting: Waiting::new("ContainerCreating", "pulling the image"), until: None })
    }

    /// The container names no image: the one of its own name, which must be here.
    fn image_by_name(
        &mut self,
        container: &Container,
        found: Result<Arc<Image>, image::Error>,
    ) -> Result<Arc<Image>, Stuck> {
        let name = &container.name;
        if let Ok(image) = found {
            self.found(container, &image, false);
            return Ok(image);
        }
        let message = format!(
            "the container has no `image`, and no image or module named {name:?} is on this node: set `image`, or bring one by \
             `entroos image import FILE` or `entroos image pull {name}`"
        );
        self.complain(container, "ImageNotFound", &message);
        let until = Some(UnixMillis::now().plus(LOOK_AGAIN));
        Err(Stuck { waiting: Waiting::new("ImageNotFound", message), until })
    }

    fn found(&mut self, container: &Container, image: &Arc<Image>, pulled: bool) {
        let local = self.local(container);
        local.pull.clear();
        let known = local.image.replace(image.clone()).is_some();
        if !pulled && !known {
            let name = if container.image.is_empty() { &container.name } else { &container.image };
            self.note(false, "Pulled", &format!("Container image \"{name}\" already present on machine"));
        }
    }

    fn pull(&mut self, container: &Container, attempt: u32) {
        let reference = container.image.clone();
        self.note(false, "Pulling", &format!("Pulling image \"{reference}\""));
        self.local(container).pulling = Some(UnixMillis::now());
        let (context, name) = (self.context.clone(), container.name.clone());
        self.pulls.spawn(async move {
            let _permit = context.pulls.acquire().await;
            let image = context.agent.images.pull(&reference, None).await;
            Pulled { container: name, attempt, reference, image }
        });
    }

    /// A pull's task was cut short: it is begun again.
    pub(super) fn pull_lost(&mut self) {
        if self.pulls.is_empty() {
            self.locals.values_mut().for_each(|local| local.pulling = None);
        }
    }

    /// Takes in what came of a pull.
    pub(super) fn pulled(&mut self, pulled: Pulled) {
        let backoff = self.context.agent.config.backoff;
        let Pulled { container, attempt, reference, image } = pulled;
        let local = self.locals.entry(container).or_default();
        let took = local.pulling.take().map_or(0, |since| UnixMillis::now().0.saturating_sub(since.0));
        match image {
            Ok(image) => {
                local.pull = Setback::default();
                local.pulled_for = Some(attempt);
                local.image = Some(image);
                let seconds = format!("{}.{:03}s", took / 1000, took % 1000);
                self.note(false, "Pulled", &format!("Successfully pulled image \"{reference}\" in {seconds}"));
            }
            Err(e) => {
                let cause = chain(&e);
                local.pull.fail(cause.clone(), backoff.base, backoff.cap);
                self.note(true, "Failed", &format!("Failed to pull image \"{reference}\": {cause}"));
            }
        }
    }
}
