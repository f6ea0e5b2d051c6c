//! The table of routes. A route without a permission cannot be written down.

use super::Admin;
use super::call::{Call, Needs};
use crate::http::Problem;
use crate::service::Permission;
use axum::Router;
use axum::response::Response;
use axum::routing::{self, MethodFilter};

/// A route and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The method.
    pub method: &'static str,
    /// The path, with `{name}` for what varies.
    pub path: &'static str,
    /// Held against the caller's roles before anything else is looked at.
    pub permission: Permission,
}

/// Routes being put together.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Admin>,
    declared: Vec<Declared>,
}

/// An asynchronous answer to a call that has permission `P`.
pub(super) trait Answer: Future<Output = Result<Response, Problem>> + Send + 'static {}

impl<F: Future<Output = Result<Response, Problem>> + Send + 'static> Answer for F {}

impl Routes {
    pub(super) fn get<P: Needs, A: Answer>(self, path: &'static str, handler: fn(Call<P>) -> A) -> Self {
        self.add("GET", MethodFilter::GET, path, handler)
    }

    pub(super) fn post<P: Needs, A: Answer>(self, path: &'static str, handler: fn(Call<P>) -> A) -> Self {
        self.add("POST", MethodFilter::POST, path, handler)
    }

    pub(super) fn put<P: Needs, A: Answer>(self, path: &'static str, handler: fn(Call<P>) -> A) -> Self {
        self.add("PUT", MethodFilter::PUT, path, handler)
    }

    pub(super) fn patch<P: Needs, A: Answer>(self, path: &'static str, handler: fn(Call<P>) -> A) -> Self {
        self.add("PATCH", MethodFilter::PATCH, path, handler)
    }

    pub(super) fn delete<P: Needs, A: Answer>(self, path: &'static str, handler: fn(Call<P>) -> A) -> Self {
        self.add("DELETE", MethodFilter::DELETE, path, handler)
    }

    fn add<P: Needs, A: Answer>(
        mut self,
        method: &'static str,
        filter: MethodFilter,
        path: &'static str,
        handler: fn(Call<P>) -> A,
    ) -> Self {
        self.router = self.router.route(path, routing::on(filter, handler));
        self.declared.push(Declared { method, path, permission: P::PERMISSION });
        self
    }

    pub(super) fn into_parts(self) -> (Router<Admin>, Vec<Declared>) {
        (self.router, self.declared)
    }
}
