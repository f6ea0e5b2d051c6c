//! The rows of files. Both dialects that keep files have one path for them, and headers say which is spoken.

use super::super::Parts;
use super::{Answer, Dialect, Effect, Field, Form, Method, ObjectKind, Operation, Parameter, Row, Template};
use super::{any, ask, at, object_at};

const PATH: &str = "/v1/files";

/// What a list can be asked for. It is answered here, so each is a promise to answer by it, or to say why it is not:
/// `OpenAI`'s own parameters, and Mistral's, which speaks the dialect.
const LISTED_OPENAI: &[Parameter] = &[
    any("after"),
    Parameter { name: "include_total", values: &["true", "false", "True", "False"] },
    any("limit"),
    any("mimetypes"),
    Parameter { name: "order", values: &["asc", "desc"] },
    any("page"),
    any("page_size"),
    any("purpose"),
    any("sample_type"),
    any("search"),
    any("source"),
];
const LISTED_ANTHROPIC: &[Parameter] = &[
    any("after_id"),
    any("before_id"),
    any("beta"),
    any("ids[]"),
    any("ids%5B%5D"),
    any("limit"),
    any("page"),
    any("scope_id"),
];

/// Anthropic's older clients say `beta=true`.
const fn plain(dialect: Dialect) -> &'static [Parameter] {
    match dialect {
        Dialect::Anthropic => const { &[any("beta")] },
        Dialect::OpenAi | Dialect::Gemini => &[],
    }
}

pub(super) const fn upload(dialect: Dialect) -> Row {
    let fields = match dialect {
        Dialect::Anthropic => ask::UPLOAD_ANTHROPIC,
        Dialect::OpenAi | Dialect::Gemini => ask::UPLOAD,
    };
    let (at_path, effect) = (at_path(dialect, false, ""), Effect::Keeps(ObjectKind::File));
    row(
        dialect,
        Method::POST,
        at_path,
        (Form::Parts(Parts::Upload), fields, plain(dialect)),
        (effect, Answer::Json),
    )
}

/// Answered from our own record.
pub(super) const fn list(dialect: Dialect) -> Row {
    let query = match dialect {
        Dialect::Anthropic => LISTED_ANTHROPIC,
        Dialect::OpenAi | Dialect::Gemini => LISTED_OPENAI,
    };
    let (at_path, effect) = (at_path(dialect, false, ""), Effect::Lists(ObjectKind::File));
    row(dialect, Method::GET, at_path, (Form::Empty, &[], query), (effect, Answer::Json))
}

pub(super) const fn show(dialect: Dialect) -> Row {
    one(dialect, Method::GET, "", (Effect::Shows(ObjectKind::File), Answer::Json))
}

pub(super) const fn delete(dialect: Dialect) -> Row {
    one(dialect, Method::DELETE, "", (Effect::Deletes(ObjectKind::File), Answer::Json))
}

pub(super) const fn content(dialect: Dialect) -> Row {
    one(dialect, Method::GET, "/content", (Effect::Shows(ObjectKind::File), Answer::Opaque))
}

/// A row for one file, or for something of it.
const fn one(dialect: Dialect, method: Method, after: &'static str, comes: (Effect, Answer)) -> Row {
    row(dialect, method, at_path(dialect, true, after), (Form::Empty, &[], plain(dialect)), comes)
}

/// The path as the client has it, and below the dialect's base URL, which for `OpenAI` includes `/v1`.
const fn at_path(dialect: Dialect, names_file: bool, after: &'static str) -> (Template, Template) {
    match (dialect, names_file) {
        (Dialect::Anthropic, false) => (at(PATH), at(PATH)),
        (Dialect::Anthropic, true) => (object_at("/v1/files/", after), object_at("/v1/files/", after)),
        (Dialect::OpenAi | Dialect::Gemini, false) => (at(PATH), at("/files")),
        (Dialect::OpenAi | Dialect::Gemini, true) => {
            (object_at("/v1/files/", after), object_at("/files/", after))
        }
    }
}

const fn row(
    dialect: Dialect,
    method: Method,
    (template, upstream): (Template, Template),
    (form, fields, query): (Form, &'static [Field], &'static [Parameter]),
    (effect, answer): (Effect, Answer),
) -> Row {
    Row {
        operation: Operation::Files,
        dialect,
        method,
        template,
        upstream,
        form,
        fields,
        query,
        effect,
        answer,
    }
}
