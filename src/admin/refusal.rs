//! What the admin plane answers where it refuses, by stable codes; and what the verbs' common reasons come to.

use crate::http::Problem;
use crate::service::{AlreadyDone, ExceedsCeiling, GuardError, OutOfReach, Sealed, StoreError};
use crate::subkey::DefinitionError;
use http::StatusCode;

const RETRY_SECONDS: u64 = 1;
const SEALED_RETRY_SECONDS: u64 = 10;

/// 401, whatever was presented.
pub(super) fn unauthenticated() -> Problem {
    Problem::unauthorized("unauthenticated", "present an operator token: Authorization: Bearer bo_...")
}

/// 403 by role.
pub(super) fn forbidden() -> Problem {
    Problem::forbidden("forbidden", "none of your operator's roles grants this")
}

/// 403 by project.
pub(super) fn out_of_reach(error: OutOfReach) -> Problem {
    Problem::forbidden("forbidden", error.to_string())
}

/// 403 by the ceiling of a project.
pub(super) fn exceeds_ceiling(error: ExceedsCeiling) -> Problem {
    let (detail, ExceedsCeiling { project, field, allowed }) = (error.to_string(), error);
    Problem::forbidden("exceeds_ceiling", detail).with_field(field, allowed).with_member("project", project)
}

/// 404 for a path that is no route.
pub(super) fn no_such_path() -> Problem {
    Problem::not_found("not_found", "there is nothing at this path")
}

/// 404 for a thing; also for one that the caller may not know of.
pub(super) fn not_found(what: &str) -> Problem {
    Problem::not_found("not_found", format!("there is no such {what}"))
}

/// 412.
pub(super) fn version_mismatch(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", detail)
}

/// 409 with the id of who has the name.
pub(super) fn name_taken(detail: impl Into<String>, id: String) -> Problem {
    Problem::conflict("name_taken", detail).with_member("id", id)
}

/// 409 with the id of what was done.
pub(super) fn already_done(error: AlreadyDone) -> Problem {
    Problem::conflict("already_done", error.to_string()).with_member("id", error.id)
}

/// 400 with the field of a body.
pub(super) fn invalid_field(field: &str, detail: &str) -> Problem {
    let place = if field.is_empty() { "the body" } else { field };
    Problem::bad_request("invalid_field", format!("{place}: {detail}")).with_field(field, detail)
}

/// 400 with the field of a sub-key.
pub(super) fn invalid_definition(error: &DefinitionError) -> Problem {
    invalid_field(&error.field, &error.detail)
}

/// 400 with the name of a query parameter.
pub(super) fn invalid_param(name: &str, detail: &str) -> Problem {
    let name = crate::base::clip(name, 64);
    Problem::bad_request("invalid_field", format!("the query parameter {name}: {detail}"))
        .with_field(name, detail)
}

/// 400 for a query parameter that this route does not have.
pub(super) fn unknown_param(name: &str) -> Problem {
    let name = crate::base::clip(name, 64);
    let detail = format!("there is no query parameter {name} here");
    Problem::bad_request("unknown_field", detail).with_field(name, "unknown")
}

/// 400 for a header.
pub(super) fn invalid_header(name: &str, detail: &str) -> Problem {
    Problem::bad_request("invalid_header", format!("{name}: {detail}"))
}

/// 503: written, and not everywhere in force.
pub(super) fn not_confirmed(error: &StoreError) -> Problem {
    tracing::error!(%error, "a change is written and could not be put in force");
    let detail = "the change is written, but could not be put in force; repeat the call";
    Problem::unavailable("not_confirmed", detail, RETRY_SECONDS)
}

/// What cannot be used comes to: sealed, tampered with, or a failure of the database.
pub(super) fn guard(error: &GuardError) -> Problem {
    match error {
        GuardError::Sealed(reason) => sealed(*reason),
        GuardError::Tampered(row) => {
            let detail = format!("{row}; it is not used until an operator has looked (bitting alarm list)");
            Problem::conflict("row_tampered", detail)
        }
        GuardError::Store(error) => store(error),
    }
}

/// 503 while the vault is closed.
pub(super) fn sealed(Sealed(reason): Sealed) -> Problem {
    Problem::unavailable("sealed", reason.advice(), SEALED_RETRY_SECONDS)
        .with_member("reason", reason.as_str().to_owned())
}

/// What the database's failure comes to. Its text goes to the log.
pub(super) fn store(error: &StoreError) -> Problem {
    match error {
        StoreError::Unavailable(_) => {
            tracing::error!(%error, "the store did not answer");
            Problem::unavailable("store_unavailable", "the database did not answer; try again", RETRY_SECONDS)
        }
        StoreError::TooManyRows { rows_max } => {
            let detail =
                format!("the answer has more than {rows_max} rows; ask for a shorter time or fewer groups");
            Problem::bad_request("too_many_rows", detail)
        }
        StoreError::Corrupt { .. } | StoreError::Conflict { .. } | StoreError::Reference { .. } => {
            Problem::internal(error)
        }
    }
}
