//! A call: a request whose caller is known and has the permission that its route needs.
//!
//! It is made from the matched route and the token alone, before the body is read. Handlers take nothing else.

use super::Admin;
use super::params::Params;
use super::refusal;
use crate::http::json::parse_strict;
use crate::http::{BodyBound, Problem, RequestId, StrictJson, read_body};
use crate::service::{Actor, Operator, OperatorError, Permission, Sealed, Services};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::marker::PhantomData;

/// Names a permission as a type.
pub(super) trait Needs: Send + Sync + 'static {
    const PERMISSION: Permission;
    /// Whether it can be used while the vault is sealed. Then the operator is known by a row that nothing vouches for.
    const WHILE_SEALED: bool = false;
}

macro_rules! needs {
    ($($name:ident),+) => {$(
        #[derive(Debug)]
        pub(super) enum $name {}

        impl Needs for $name {
            const PERMISSION: Permission = Permission::$name;
        }
    )+};
}
needs!(
    View,
    ViewUsage,
    ReadAccessLog,
    ReadAdminLog,
    ChangeProviders,
    StopProviders,
    WriteCredentials,
    StopCredentials,
    RotateVault,
    SetPrices,
    IssueSubkeys,
    ChangeSubkeys,
    StopSubkeys,
    ChangeProjects,
    StopProjects,
    ViewAlarms,
    CloseAlarms,
    Seal,
    ReleaseQuarantine,
    ReleaseCharges
);

/// Looks at the vault, sealed or not.
#[derive(Debug)]
pub(super) enum ViewVault {}

impl Needs for ViewVault {
    const PERMISSION: Permission = Permission::View;
    const WHILE_SEALED: bool = true;
}

/// Unseals the vault.
#[derive(Debug)]
pub(super) enum Unseal {}

impl Needs for Unseal {
    const PERMISSION: Permission = Permission::Unseal;
    const WHILE_SEALED: bool = true;
}

/// A request of an operator who has the permission `P`.
pub(super) struct Call<P> {
    pub(super) services: Services,
    pub(super) actor: Actor,
    path: Vec<(String, String)>,
    parts: Parts,
    body: Body,
    bound: BodyBound,
    import_bound: BodyBound,
    permission: PhantomData<P>,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
const MERGE_PATCH: &str = "application/merge-patch+json";

impl<P: Needs> FromRequest<Admin> for Call<P> {
    type Rejection = Problem;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let operator = authenticate(&parts.headers, &admin.services).await?;
        if !operator.may(P::PERMISSION) {
            return Err(refusal::forbidden());
        }
        if let (false, Some(reason)) = (P::WHILE_SEALED, admin.services.vault.sealed()) {
            return Err(refusal::sealed(Sealed(reason)));
        }
        let path = Path::<Vec<(String, String)>>::from_request_parts(&mut parts, &()).await;
        let path = path.map_err(|_| refusal::no_such_path())?.0;
        let Ok(id) = RequestId::from_request_parts(&mut parts, &()).await;
        let idempotency_key = idempotency_key(&parts.headers)?;
        let actor = Actor { operator, request_id: id.as_str().to_owned(), idempotency_key };
        let services = admin.services.clone();
        let (bound, import_bound) = (admin.body.clone(), admin.import_body.clone());
        Ok(Self { services, actor, path, parts, body, bound, import_bound, permission: PhantomData })
    }
}

/// One `Authorization: Bearer bo_...`, and nothing else.
async fn authenticate(headers: &HeaderMap, services: &Services) -> Result<Operator, Problem> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return Err(refusal::unauthenticated()) };
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token =
        token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    match services.authenticate_operator(token.ok_or_else(refusal::unauthenticated)?).await {
        Ok(operator) => Ok(operator),
        Err(OperatorError::Unknown) => Err(refusal::unauthenticated()),
        Err(OperatorError::Store(error)) => Err(refusal::store(&error)),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else { return Ok(None) };
    let text = key.to_str().ok().filter(|text| (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()));
    match (text, given.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        (Some(_) | None, _) => {
            Err(refusal::invalid_header("Idempotency-Key", "one value of 1 to 128 visible ASCII characters"))
        }
    }
}

impl<P> Call<P> {
    /// A piece of the path by its name in the route.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The query, each parameter of which has to be taken.
    pub(super) fn params(&self) -> Result<Params, Problem> {
        Params::read(&self.parts.uri)
    }

    /// A call that takes no query has none.
    pub(super) fn no_params(&self) -> Result<(), Problem> {
        self.params()?.finish()
    }

    /// The version that the caller made its change for.
    pub(super) fn expected_version(&self) -> Result<Option<i64>, Problem> {
        let wrong =
            || refusal::invalid_header("If-Match", "one version in quotes, as the ETag header has it");
        let mut given = self.parts.headers.get_all(IF_MATCH).iter();
        let Some(value) = given.next() else { return Ok(None) };
        let text = value.to_str().ok().filter(|_| given.next().is_none()).ok_or_else(wrong)?.trim();
        if text == "*" {
            return Ok(None);
        }
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(wrong)?;
        version.parse().map(Some).map_err(|_| wrong())
    }

    /// The JSON body.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let Self { parts, body, bound, .. } = self;
        StrictJson::from_request(Request::from_parts(parts, body), &Bound(bound))
            .await
            .map(|StrictJson(value)| value)
    }

    /// The JSON body of a route that takes price lists.
    pub(super) async fn import_json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        Self { bound: self.import_bound.clone(), ..self }.json().await
    }

    /// The JSON body, or what its absence means.
    pub(super) async fn json_or_default<T: DeserializeOwned + Default>(self) -> Result<T, Problem> {
        let bytes = read_body(&self.parts.headers, self.body, self.bound.clone()).await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        let request = Request::from_parts(self.parts, Body::from(bytes));
        StrictJson::from_request(request, &Bound(self.bound)).await.map(|StrictJson(value)| value)
    }

    /// A call without a body has none, or an empty object.
    pub(super) async fn no_json(self) -> Result<(), Problem> {
        self.json_or_default::<Nothing>().await.map(|Nothing {}| ())
    }

    /// The body as a JSON merge patch (RFC 7396); plain JSON is taken for one.
    pub(super) async fn merge_patch(self) -> Result<Map<String, Value>, Problem> {
        let kind =
            self.parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(MERGE_PATCH) {
            return self.json().await;
        }
        let bytes = read_body(&self.parts.headers, self.body, self.bound).await?;
        parse_strict(&bytes)
    }
}

/// An empty object.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The bound of one body as the JSON extractor asks for it.
struct Bound(BodyBound);

impl axum::extract::FromRef<Bound> for BodyBound {
    fn from_ref(bound: &Bound) -> Self {
        bound.0.clone()
    }
}
