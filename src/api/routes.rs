//! The one table of routes: verb, path, who may call, what answers. A route that is not in it does not exist.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::path::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;

use super::context::{Call, Context};
use super::door::{Caller, Door, Peer};
use super::extract::Query;
use super::k8s::{self, ApiError, Resource};
use super::{error, exec, images, logs, metrics, native, objects, patch};

/// How long a request that does not stream may take.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Who may call a route. What a command may do is decided again where it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever reached loopback or the socket.
    Local,
    /// The same, but only the operator where the pod has the host's network or reads a Secret.
    LocalUnlessPrivileged,
    Operator,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Health,
    Ready,
    Metrics,
    Version,
    Discovery,
    OpenApi,
    List,
    Get,
    Create,
    Replace,
    Patch,
    Delete,
    DeleteCollection,
    Logs,
    Exec,
    NotYet,
    Status,
    Explain,
    Images,
    Image,
    Pull,
    Import,
    RemoveImage,
}

impl Action {
    /// Documents that no query changes; clients add some for caches (`hash`) or of habit (`verbose`).
    const fn is_document(self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Metrics | Self::Version | Self::Discovery | Self::OpenApi)
    }
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Route {
    pub method: Method,
    /// In axum's notation.
    pub path: String,
    pub access: Access,
    pub action: Action,
    /// What the objects at this path are.
    pub resource: Option<&'static Resource>,
}

type Row = (Method, &'static str, Access, Action);

/// Paths that are written out.
const FIXED: &[Row] = &[
    (Method::GET, "/healthz", Access::Local, Action::Health),
    (Method::GET, "/livez", Access::Local, Action::Health),
    (Method::GET, "/readyz", Access::Local, Action::Ready),
    (Method::GET, "/metrics", Access::Local, Action::Metrics),
    (Method::GET, "/version", Access::Local, Action::Version),
    (Method::GET, "/version/", Access::Local, Action::Version),
    (Method::GET, "/api", Access::Local, Action::Discovery),
    (Method::GET, "/api/", Access::Local, Action::Discovery),
    (Method::GET, "/api/v1", Access::Local, Action::Discovery),
    (Method::GET, "/api/v1/", Access::Local, Action::Discovery),
    (Method::GET, "/apis", Access::Local, Action::Discovery),
    (Method::GET, "/apis/", Access::Local, Action::Discovery),
    (Method::GET, "/apis/{*rest}", Access::Local, Action::Discovery),
    (Method::GET, "/openapi/v3", Access::Local, Action::OpenApi),
    (Method::GET, "/openapi/v3/{*rest}", Access::Local, Action::OpenApi),
    // The native surface.
    (Method::GET, "/entroos/v1/status", Access::Local, Action::Status),
    (Method::GET, "/entroos/v1/pods/{namespace}/{name}/explain", Access::Local, Action::Explain),
    (Method::GET, "/entroos/v1/images", Access::Local, Action::Images),
    // ?reference=alpine: lines of JSON, `{"progress":{…}}` … and at last `{"image":{…}}` or `{"error":Status}`.
    (Method::POST, "/entroos/v1/images/pull", Access::Local, Action::Pull),
    // ?tag=name:tag, the body is the archive: `{"images":[…]}`.
    (Method::POST, "/entroos/v1/images/import", Access::Operator, Action::Import),
    (Method::GET, "/entroos/v1/images/{*name}", Access::Local, Action::Image),
    (Method::DELETE, "/entroos/v1/images/{*name}", Access::Operator, Action::RemoveImage),
];

/// What a pod has beside the paths of every object.
const POD: &[Row] = &[
    (Method::GET, "/status", Access::Local, Action::Get),
    (Method::GET, "/log", Access::LocalUnlessPrivileged, Action::Logs),
    (Method::GET, "/exec", Access::LocalUnlessPrivileged, Action::Exec),
    (Method::POST, "/exec", Access::LocalUnlessPrivileged, Action::Exec),
    (Method::GET, "/attach", Access::LocalUnlessPrivileged, Action::NotYet),
    (Method::POST, "/attach", Access::LocalUnlessPrivileged, Action::NotYet),
    (Method::GET, "/portforward", Access::LocalUnlessPrivileged, Action::NotYet),
    (Method::POST, "/portforward", Access::LocalUnlessPrivileged, Action::NotYet),
];

/// Every route there is.
pub fn table() -> Vec<Route> {
    let row = |(method, path, access, action): &Row, prefix: &str, resource| Route {
        method: method.clone(),
        path: format!("{prefix}{path}"),
        access: *access,
        action: *action,
        resource,
    };
    let mut table: Vec<Route> = FIXED.iter().map(|fixed| row(fixed, "", None)).collect();
    for resource in k8s::resources() {
        let plural = resource.plural;
        let (collection, one) = if resource.kind.namespaced() {
            let inside = format!("/api/v1/namespaces/{{namespace}}/{plural}");
            // All namespaces at once: to read; and a pod without a path's namespace, as the specification types it.
            table.push(row(
                &(Method::GET, "", Access::Local, Action::List),
                &format!("/api/v1/{plural}"),
                Some(resource),
            ));
            if resource.kind == crate::orchestrator::Kind::Pod {
                table.push(row(
                    &(Method::POST, "", Access::Local, Action::Create),
                    &format!("/api/v1/{plural}"),
                    Some(resource),
                ));
                table.extend(POD.iter().map(|pod| row(pod, &format!("{inside}/{{name}}"), Some(resource))));
            }
            (inside.clone(), format!("{inside}/{{name}}"))
        } else {
            (format!("/api/v1/{plural}"), format!("/api/v1/{plural}/{{name}}"))
        };
        let verbs: [(&str, Method, &str, Action); 7] = [
            ("list", Method::GET, &collection, Action::List),
            ("create", Method::POST, &collection, Action::Create),
            ("delete", Method::DELETE, &collection, Action::DeleteCollection),
            ("get", Method::GET, &one, Action::Get),
            ("update", Method::PUT, &one, Action::Replace),
            ("patch", Method::PATCH, &one, Action::Patch),
            ("delete", Method::DELETE, &one, Action::Delete),
        ];
        for (verb, method, path, action) in verbs {
            if resource.verbs.contains(&verb) {
                table.push(row(&(method, "", Access::Local, action), path, Some(resource)));
            }
        }
    }
    table
}

/// Answers requests, whichever listener they came by.
#[derive(Clone)]
pub(super) struct Service {
    context: Arc<Context>,
    router: Router,
}

/// The label of the route in metrics, carried by its response.
#[derive(Clone)]
struct Label(Arc<Route>);

/// Builds the router from the table.
pub(super) fn service(context: Arc<Context>) -> Service {
    let mut router = Router::new();
    for route in table() {
        let (route, context) = (Arc::new(route), context.clone());
        let path = route.path.clone();
        let filter = MethodFilter::try_from(route.method.clone()).unwrap_or(MethodFilter::GET);
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            answer_route(context.clone(), route.clone(), params, request)
        };
        router = router.route(&path, on(filter, handler));
    }
    let router =
        router.fallback(async |request: Request| error::no_route(request.uri().path())).method_not_allowed_fallback(
            async |request: Request| error::method_not_allowed(request.method().as_str(), request.uri().path()),
        );
    Service { context, router }
}

impl Service {
    /// One request: through the door, to its route, into the counters.
    pub async fn answer(&self, peer: Peer, mut request: Request) -> Response {
        let api = &self.context.api;
        let door = Door {
            node: api.node,
            token: &api.token,
            address: self.context.address,
            uid: nix::unistd::geteuid().as_raw(),
        };
        let method = request.method().clone();
        let response = match door.enter(peer, request.uri(), request.headers()) {
            Err(refused) => refused.into_response(),
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                let router = hyper_util::service::TowerToHyperService::new(self.router.clone());
                match hyper::service::Service::call(&router, request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
        };
        let label = response.extensions().get::<Label>().map_or("", |label| label.0.path.as_str());
        self.context.metrics.request(&method, label, response.status());
        response
    }
}

async fn answer_route(
    context: Arc<Context>,
    route: Arc<Route>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let mut response = match call(&context, &route, params, request) {
        // A panic is our bug; it costs this request, not the connection of others, and the log has where it was.
        Ok(call) => match AssertUnwindSafe(bounded(&route, call)).catch_unwind().await {
            Ok(answer) => answer.unwrap_or_else(IntoResponse::into_response),
            Err(_) => error::internal("a bug in the node: its log says more").into_response(),
        },
        Err(refused) => refused.into_response(),
    };
    response.extensions_mut().insert(Label(route));
    response
}

fn call(
    context: &Arc<Context>,
    route: &Route,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Call, ApiError> {
    // No caller means the door was not passed, which no request can do.
    let caller: Caller = *request.extensions().get().ok_or_else(|| error::unauthorized("nobody is asking"))?;
    if route.access == Access::Operator && !caller.is_operator() {
        return Err(error::forbidden(format!(
            "only the operator may {} {}: {}",
            route.method,
            route.path,
            context.cure()
        )));
    }
    let params = params.map_err(|e| error::bad_request(format!("the path cannot be read: {e}")))?;
    let (parts, body) = request.into_parts();
    Ok(Call {
        context: context.clone(),
        caller,
        resource: route.resource,
        params: params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        query: if route.action.is_document() { Query::default() } else { Query::parse(&parts.uri)? },
        parts,
        body: std::sync::Mutex::new(body),
    })
}

/// Runs the action, within the time there is for all but pulls and imports, whose work takes as long as it takes.
async fn bounded(route: &Route, call: Call) -> Result<Response, ApiError> {
    let running = act(route.action, call);
    if matches!(route.action, Action::Pull | Action::Import) {
        return running.await;
    }
    tokio::time::timeout(REQUEST_TIMEOUT, running).await.unwrap_or_else(|_| {
        Err(error::timeout(format!("the request took longer than {} s", REQUEST_TIMEOUT.as_secs())))
    })
}

async fn act(action: Action, call: Call) -> Result<Response, ApiError> {
    match action {
        Action::Health => Ok(native::health()),
        Action::Ready => native::ready(&call),
        Action::Metrics => Ok(metrics::page(&call.context)),
        Action::Version => Ok(native::version(&call)),
        Action::Discovery => native::discovery(&call),
        Action::OpenApi => native::openapi(&call),
        Action::List => objects::list(call),
        Action::Get => objects::get(&call),
        Action::Create => Box::pin(objects::create(call)).await,
        Action::Replace => Box::pin(objects::replace(call)).await,
        Action::Patch => Box::pin(patch::patch(call)).await,
        Action::Delete => Box::pin(objects::delete(call)).await,
        Action::DeleteCollection => Box::pin(objects::delete_collection(call)).await,
        Action::Logs => logs::logs(&call),
        Action::Exec => Box::pin(exec::exec(call)).await,
        Action::NotYet => native::not_yet(&call),
        Action::Status => Ok(native::status(&call)),
        Action::Explain => native::explain(&call),
        Action::Images => Ok(images::list(&call)),
        Action::Image => images::inspect(&call),
        Action::Pull => Box::pin(images::pull(call)).await,
        Action::Import => Box::pin(images::import(call)).await,
        Action::RemoveImage => Box::pin(images::remove(&call)).await,
    }
}
