//! Webhooks of subscriptions: as they are asked for and shown, and what is done to them.

use api::broker::{
    PUSH_RESUME, PUSH_ROTATE, PUSH_TEST, PushFormat, PushPaused, PushSpec, PushTested,
    RotateSecretRequest, RotatedSecret, SubscriptionView,
};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use client::Url;
use messaging::catalog::{self, CatalogRefused, MAX_PUSH_URL, NewPush, Push, Secret};
use messaging::ids::Name;

use super::outgoing::rfc3339;
use super::settings::{invalid, milliseconds, seconds};
use super::subscriptions::describe;
use crate::broker::Broker;
use crate::directory::SubscriptionHandle;
use crate::error::AdminError;
use crate::push::sign;

/// Most calls at a time that may be asked for, and as many as there are if nothing is.
const IN_FLIGHT: (u32, u32) = (32, 1_000);
/// How long a call may take, in seconds.
const TIMEOUT: (f64, f64) = (0.1, 300.0);
/// How long a former secret signs, in seconds: at most, and if nothing is said.
const KEEP: (f64, f64) = (7.0 * 86_400.0, 86_400.0);

pub(super) fn router() -> Router<Broker> {
    Router::new()
        .route(PUSH_RESUME, post(resume))
        .route(PUSH_ROTATE, post(rotate))
        .route(PUSH_TEST, post(test))
}

/// Goes on pushing, after the endpoint had answered 410.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/resume",
    tag = "subscriptions", params(("topic" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = SubscriptionView)))]
async fn resume(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
) -> Result<Json<SubscriptionView>, Problem> {
    let (_, push) = pushing(&broker, &topic, &name)?;
    broker.pause_push((topic.clone(), name.clone()), push.url, None).await?;
    describe(&broker, &*broker.directory().topic(&topic)?, &name).await.map(Json)
}

/// Signs with another secret: drawn, unless one is given. For a while calls are signed with the
/// former one too.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/rotate-secret",
    tag = "subscriptions", params(("topic" = String, Path), ("name" = String, Path)),
    request_body = RotateSecretRequest, responses((status = 200, body = RotatedSecret)))]
async fn rotate(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
    request: Option<Json<RotateSecretRequest>>,
) -> Result<Json<RotatedSecret>, Problem> {
    let Json(RotateSecretRequest { secret, keep_seconds }) = request.unwrap_or_default();
    pushing(&broker, &topic, &name)?;
    let (secret, _) = secret_of(secret.as_deref())?;
    let keep_seconds = Some(keep_seconds.unwrap_or(KEEP.1));
    let keep_ms = milliseconds("keep_seconds", keep_seconds, (0.0, KEEP.0))?.unwrap_or_default();
    broker.rotate_secret((topic, name), secret.clone(), keep_ms).await?;
    let former_until = rfc3339(broker.now_ms().saturating_add(keep_ms));
    Ok(Json(RotatedSecret { secret: sign::show(&secret), former_until }))
}

/// Calls the endpoint once with a made-up, signed message (`webhook-id: msg_test_…`), and tells
/// what it answered. Also while it is paused.
#[utoipa::path(post, path = "/v1/topics/{topic}/subscriptions/{name}/test",
    tag = "subscriptions", params(("topic" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = PushTested)))]
async fn test(
    State(broker): State<Broker>,
    Path((topic, name)): Path<(Name, Name)>,
) -> Result<Json<PushTested>, Problem> {
    pushing(&broker, &topic, &name)?;
    let subscription = broker.directory().topic(&topic)?.subscription(&name)?;
    match broker.test_push(&subscription).await {
        Some(tested) => {
            let crate::push::Tested { delivered, status, detail } = tested;
            Ok(Json(PushTested { delivered, status, detail }))
        }
        None => Err(refused(topic, name)),
    }
}

/// The subscription, with its webhook.
fn pushing(
    broker: &Broker,
    topic: &Name,
    name: &Name,
) -> Result<(std::sync::Arc<SubscriptionHandle>, Push), Problem> {
    let subscription = broker.directory().topic(topic)?.subscription(name)?;
    let push = subscription.entry.push.clone();
    let push = push.ok_or_else(|| refused(topic.clone(), name.clone()))?;
    Ok((subscription, push))
}

fn refused(topic: Name, name: Name) -> Problem {
    AdminError::Refused(CatalogRefused::NoPush { topic, name }).into()
}

/// A webhook as it is asked for.
pub(super) fn asked(broker: &Broker, spec: PushSpec) -> Result<NewPush, Problem> {
    let PushSpec { url, secret, format, max_in_flight, timeout_seconds } = spec;
    check_url(broker, &url)?;
    let (secret, is_drawn) = secret_of(secret.as_deref())?;
    let in_flight = super::settings::count("push.max_in_flight", max_in_flight, IN_FLIGHT)?;
    let timeout = milliseconds("push.timeout_seconds", timeout_seconds, TIMEOUT)?;
    let default = broker.limits().webhooks.timeout_seconds * 1_000;
    Ok(NewPush {
        url,
        secret,
        is_drawn,
        format: match format {
            PushFormat::Raw => catalog::PushFormat::Raw,
            PushFormat::CloudeventsBinary => catalog::PushFormat::CloudeventsBinary,
            PushFormat::CloudeventsStructured => catalog::PushFormat::CloudeventsStructured,
        },
        max_in_flight: u32::try_from(in_flight).expect("at most 1,000"),
        timeout_ms: timeout.unwrap_or(default),
    })
}

fn check_url(broker: &Broker, text: &str) -> Result<(), Problem> {
    if MAX_PUSH_URL < text.len() {
        return Err(invalid(format!("push.url has at most {MAX_PUSH_URL} bytes")));
    }
    let url: Url = text.parse().map_err(|error| {
        invalid(format!("push.url `{text}` is no URL ({error}); write http://host[:port]/path"))
    })?;
    match url.scheme() {
        "http" if url.has_host() => (),
        "https" => {
            let detail = "push.url: this version calls http only; put a proxy that speaks TLS in \
                          front of the endpoint. What is sent is signed, not encrypted";
            return Err(invalid(detail));
        }
        _ => return Err(invalid("push.url begins with http://")),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(invalid("push.url has no user, password or fragment: calls are signed"));
    }
    broker.shared.pushing.caller.check(&url).map_err(|forbidden| {
        invalid(format!("push.url: {forbidden}; broker.webhooks.allow_private would allow it"))
    })
}

/// The secret, and whether it was drawn.
fn secret_of(text: Option<&str>) -> Result<(Secret, bool), Problem> {
    match text {
        None => Ok((sign::draw(), true)),
        Some(text) => match sign::parse(text) {
            Ok(secret) => Ok((secret, false)),
            Err(error) => Err(Problem::from_error(Code::InvalidRequest, &error)),
        },
    }
}

/// As it is, without its secret.
pub(super) fn shown(push: &Push) -> PushSpec {
    PushSpec {
        url: push.url.clone(),
        secret: None,
        format: match push.format {
            catalog::PushFormat::Raw => PushFormat::Raw,
            catalog::PushFormat::CloudeventsBinary => PushFormat::CloudeventsBinary,
            catalog::PushFormat::CloudeventsStructured => PushFormat::CloudeventsStructured,
        },
        max_in_flight: Some(push.max_in_flight),
        timeout_seconds: Some(seconds(push.timeout_ms)),
    }
}

pub(super) fn shown_pause(push: &Push) -> Option<PushPaused> {
    let (reason, since) = push.paused.as_ref()?;
    Some(PushPaused { reason: reason.clone(), since: rfc3339(*since) })
}

/// Who has caused a secret to be drawn sees it, this once.
pub(super) fn show_new(
    view: &mut SubscriptionView,
    subscription: &SubscriptionHandle,
    drawn: &Secret,
) {
    let is_new = subscription.entry.push.as_ref().is_some_and(|push| push.secret == *drawn);
    if let Some(push) = view.config.push.as_mut().filter(|_| is_new) {
        push.secret = Some(sign::show(drawn));
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(resume, rotate, test))]
pub(super) struct Api;
