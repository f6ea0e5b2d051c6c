//! The rows themselves.

mod files;

use super::super::ask::{self, Field};
use super::{Answer, Dialect, Effect, Form, Hole, ObjectKind, Parameter, Parts, Row, Template};
use crate::policy::Operation;
use http::Method;

/// Every row.
pub static ROWS: [Row; 68] = [
    post(Operation::Chat, at("/v1/chat/completions"), "/chat/completions", Form::Chat, ask::CHAT),
    post(Operation::Completions, at("/v1/completions"), "/completions", Form::Completions, ask::COMPLETIONS),
    post(Operation::Embeddings, at("/v1/embeddings"), "/embeddings", Form::Embeddings, ask::EMBEDDINGS),
    messages(Operation::Chat, Effect::Generates, "/v1/messages"),
    messages(Operation::CountTokens, Effect::Counts, "/v1/messages/count_tokens"),
    post(Operation::Responses, at("/v1/responses"), "/responses", Form::Responses, ask::RESPONSES),
    post(
        Operation::Responses,
        at("/v1/responses/compact"),
        "/responses/compact",
        Form::Compaction,
        ask::RESPONSES,
    ),
    counted(at("/v1/responses/input_tokens"), "/responses/input_tokens"),
    response(
        Method::GET,
        object_at("/v1/responses/", ""),
        object_at("/responses/", ""),
        SHOWN,
        Effect::Shows(ObjectKind::Response),
    ),
    response(
        Method::DELETE,
        object_at("/v1/responses/", ""),
        object_at("/responses/", ""),
        &[],
        Effect::Deletes(ObjectKind::Response),
    ),
    response(
        Method::POST,
        object_at("/v1/responses/", "/cancel"),
        object_at("/responses/", "/cancel"),
        &[],
        Effect::Stops(ObjectKind::Response),
    ),
    response(
        Method::GET,
        object_at("/v1/responses/", "/input_items"),
        object_at("/responses/", "/input_items"),
        LISTED,
        Effect::Shows(ObjectKind::Response),
    ),
    post(Operation::Moderations, at("/v1/moderations"), "/moderations", Form::Moderations, ask::MODERATIONS),
    files::upload(Dialect::OpenAi),
    files::list(Dialect::OpenAi),
    files::show(Dialect::OpenAi),
    files::delete(Dialect::OpenAi),
    files::content(Dialect::OpenAi),
    files::upload(Dialect::Anthropic),
    files::list(Dialect::Anthropic),
    files::show(Dialect::Anthropic),
    files::delete(Dialect::Anthropic),
    files::content(Dialect::Anthropic),
    deployed(Operation::Chat, "/chat/completions", Form::Chat, ask::CHAT),
    deployed(Operation::Completions, "/completions", Form::Completions, ask::COMPLETIONS),
    deployed(Operation::Embeddings, "/embeddings", Form::Embeddings, ask::EMBEDDINGS),
    post(Operation::Images, at("/v1/images/generations"), "/images/generations", Form::Images, ask::IMAGES),
    deployed(Operation::Images, "/images/generations", Form::Images, ask::IMAGES),
    form(at("/v1/images/edits"), "/images/edits", &EDIT),
    form(deployment_at("/images/edits"), "/images/edits", &EDIT),
    form(at("/v1/images/variations"), "/images/variations", &VARIATION),
    form(at("/v1/audio/transcriptions"), "/audio/transcriptions", &TRANSCRIPTION),
    form(deployment_at("/audio/transcriptions"), "/audio/transcriptions", &TRANSCRIPTION),
    form(at("/v1/audio/translations"), "/audio/translations", &TRANSLATION),
    form(deployment_at("/audio/translations"), "/audio/translations", &TRANSLATION),
    speech(at("/v1/audio/speech")),
    speech(deployment_at("/audio/speech")),
    models(Dialect::OpenAi, at("/v1/models")),
    models(Dialect::OpenAi, model_at("/v1/models/", "")),
    models(Dialect::Anthropic, at("/v1/models")),
    models(Dialect::Anthropic, model_at("/v1/models/", "")),
    models(Dialect::Gemini, at("/v1/models")),
    models(Dialect::Gemini, model_at("/v1/models/", "")),
    models(Dialect::Gemini, at("/v1beta/models")),
    models(Dialect::Gemini, model_at("/v1beta/models/", "")),
    gemini(Operation::Chat, model_at("/v1beta/models/", ":generateContent"), Form::Generate, ask::GENERATE),
    gemini(Operation::Chat, model_at("/v1/models/", ":generateContent"), Form::Generate, ask::GENERATE),
    gemini_stream(model_at("/v1beta/models/", ":streamGenerateContent")),
    gemini_stream(model_at("/v1/models/", ":streamGenerateContent")),
    gemini(Operation::Embeddings, model_at("/v1beta/models/", ":embedContent"), Form::Embed, ask::EMBED),
    gemini(Operation::Embeddings, model_at("/v1/models/", ":embedContent"), Form::Embed, ask::EMBED),
    gemini(
        Operation::Embeddings,
        model_at("/v1beta/models/", ":batchEmbedContents"),
        Form::EmbedBatch,
        ask::EMBED_BATCH,
    ),
    gemini(
        Operation::Embeddings,
        model_at("/v1/models/", ":batchEmbedContents"),
        Form::EmbedBatch,
        ask::EMBED_BATCH,
    ),
    gemini(
        Operation::CountTokens,
        model_at("/v1beta/models/", ":countTokens"),
        Form::GeminiCount,
        ask::COUNT_TOKENS,
    ),
    gemini(
        Operation::CountTokens,
        model_at("/v1/models/", ":countTokens"),
        Form::GeminiCount,
        ask::COUNT_TOKENS,
    ),
    batches(Dialect::OpenAi, Method::POST, at("/v1/batches")),
    batches(Dialect::OpenAi, Method::GET, at("/v1/batches")),
    batches(Dialect::OpenAi, Method::GET, object_at("/v1/batches/", "")),
    batches(Dialect::OpenAi, Method::POST, object_at("/v1/batches/", "/cancel")),
    batches(Dialect::Anthropic, Method::POST, at("/v1/messages/batches")),
    batches(Dialect::Anthropic, Method::GET, at("/v1/messages/batches")),
    batches(Dialect::Anthropic, Method::GET, object_at("/v1/messages/batches/", "")),
    batches(Dialect::Anthropic, Method::DELETE, object_at("/v1/messages/batches/", "")),
    batches(Dialect::Anthropic, Method::POST, object_at("/v1/messages/batches/", "/cancel")),
    batches(Dialect::Anthropic, Method::GET, object_at("/v1/messages/batches/", "/results")),
    batches(Dialect::Gemini, Method::POST, model_at("/v1beta/models/", ":batchGenerateContent")),
    batches(Dialect::Gemini, Method::POST, model_at("/v1beta/models/", ":asyncBatchEmbedContent")),
    batches(Dialect::Gemini, Method::GET, at("/v1beta/batches")),
];

/// Paths that are asked for by WebSocket alone.
pub(super) const WEBSOCKETS: [&str; 2] = ["/v1/realtime", "/v1/responses"];

/// A call of the `OpenAI` dialect.
const fn post(
    operation: Operation,
    template: Template,
    upstream: &'static str,
    form: Form,
    fields: &'static [Field],
) -> Row {
    Row {
        operation,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        template,
        upstream: Template::Fixed(upstream),
        form,
        fields,
        query: &[],
        effect: Effect::Generates,
        answer: Answer::Json,
    }
}

/// What calls by a form have apart from their paths.
struct FormOf {
    operation: Operation,
    parts: Parts,
    fields: &'static [Field],
    answer: Answer,
}

const EDIT: FormOf = FormOf {
    operation: Operation::Images,
    parts: Parts::ImageEdit,
    fields: ask::IMAGE_EDIT,
    answer: Answer::Json,
};
const VARIATION: FormOf = FormOf { parts: Parts::ImageVariation, fields: ask::IMAGE_VARIATION, ..EDIT };
const TRANSCRIPTION: FormOf = FormOf {
    operation: Operation::Audio,
    parts: Parts::Transcript,
    fields: ask::TRANSCRIPTION,
    answer: Answer::Text,
};
const TRANSLATION: FormOf = FormOf { fields: ask::TRANSLATION, ..TRANSCRIPTION };

/// A call of the `OpenAI` dialect whose body is a form.
const fn form(template: Template, upstream: &'static str, of: &FormOf) -> Row {
    Row {
        operation: of.operation,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        template,
        upstream: at(upstream),
        form: Form::Parts(of.parts),
        fields: of.fields,
        query: &[],
        effect: Effect::Generates,
        answer: of.answer,
    }
}

/// A text read aloud: the answer is sound, unless it comes as events.
const fn speech(template: Template) -> Row {
    Row {
        operation: Operation::Audio,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        template,
        upstream: at("/audio/speech"),
        form: Form::Speech,
        fields: ask::SPEECH,
        query: &[],
        effect: Effect::Generates,
        answer: Answer::Opaque,
    }
}

/// Counts the tokens of what would be a response.
const fn counted(template: Template, upstream: &'static str) -> Row {
    Row {
        operation: Operation::CountTokens,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        template,
        upstream: Template::Fixed(upstream),
        form: Form::Responses,
        fields: ask::RESPONSES,
        query: &[],
        effect: Effect::Counts,
        answer: Answer::Json,
    }
}

/// What is done with a response that is kept.
const fn response(
    method: Method,
    template: Template,
    upstream: Template,
    query: &'static [Parameter],
    effect: Effect,
) -> Row {
    let (operation, dialect, form, fields) = (Operation::Responses, Dialect::OpenAi, Form::Empty, &[]);
    Row { operation, dialect, method, template, upstream, form, fields, query, effect, answer: Answer::Json }
}

/// What a response can be shown with.
const SHOWN: &[Parameter] = &[
    any("include[]"),
    any("include%5B%5D"),
    any("include"),
    any("include_obfuscation"),
    any("starting_after"),
    Parameter { name: "stream", values: &["true", "false"] },
];

/// What the items of a response can be listed by. A place in the list is one of the response's own items.
const LISTED: &[Parameter] =
    &[any("after"), any("include[]"), any("include%5B%5D"), any("include"), any("limit"), any("order")];

/// The same call as Azure's clients make it: the deployment in the path stands for the model.
const fn deployed(operation: Operation, upstream: &'static str, form: Form, fields: &'static [Field]) -> Row {
    post(operation, deployment_at(upstream), upstream, form, fields)
}

const fn messages(operation: Operation, effect: Effect, path: &'static str) -> Row {
    Row {
        operation,
        dialect: Dialect::Anthropic,
        method: Method::POST,
        template: at(path),
        upstream: at(path),
        form: Form::Messages,
        fields: ask::MESSAGES,
        query: const { &[any("beta")] },
        effect,
        answer: Answer::Json,
    }
}

/// A call of Google's, the model in its path; the version of the path is the one that is sent.
const fn gemini(operation: Operation, template: Template, form: Form, fields: &'static [Field]) -> Row {
    Row {
        operation,
        dialect: Dialect::Gemini,
        method: Method::POST,
        template,
        upstream: template,
        form,
        fields,
        query: const { &[Parameter { name: "alt", values: &["json"] }] },
        effect: if let Form::GeminiCount = form { Effect::Counts } else { Effect::Generates },
        answer: Answer::Json,
    }
}

const fn gemini_stream(template: Template) -> Row {
    Row {
        operation: Operation::Chat,
        dialect: Dialect::Gemini,
        method: Method::POST,
        template,
        upstream: template,
        form: Form::Generate,
        fields: ask::GENERATE,
        query: const { &[Parameter { name: "alt", values: &["sse", "json"] }] },
        effect: Effect::Generates,
        answer: Answer::Array,
    }
}

/// What the catalog knows. One model has no pages.
const fn models(dialect: Dialect, template: Template) -> Row {
    let query: &[Parameter] = match (dialect, template) {
        // Codex tells its version.
        (Dialect::OpenAi, Template::Fixed(_)) => const { &[any("client_version")] },
        (Dialect::Anthropic, Template::Fixed(_)) => {
            const { &[any("after_id"), any("before_id"), any("beta"), any("limit")] }
        }
        (Dialect::Gemini, Template::Fixed(_)) => const { &[any("pageSize"), any("pageToken")] },
        (Dialect::Anthropic, Template::With { .. }) => const { &[any("beta")] },
        (Dialect::OpenAi | Dialect::Gemini, Template::With { .. }) => &[],
    };
    empty(Operation::Models, dialect, Method::GET, template, query, Effect::ListsModels)
}

const fn batches(dialect: Dialect, method: Method, template: Template) -> Row {
    empty(Operation::Batches, dialect, method, template, &[], Effect::NotServed)
}

/// A row without a body.
const fn empty(
    operation: Operation,
    dialect: Dialect,
    method: Method,
    template: Template,
    query: &'static [Parameter],
    effect: Effect,
) -> Row {
    let (form, fields, answer) = (Form::Empty, &[], Answer::Json);
    Row { operation, dialect, method, template, upstream: template, form, fields, query, effect, answer }
}

const fn at(path: &'static str) -> Template {
    Template::Fixed(path)
}

const fn model_at(before: &'static str, after: &'static str) -> Template {
    Template::With { before, hole: Hole::Model, after }
}

const fn deployment_at(after: &'static str) -> Template {
    Template::With { before: "/openai/deployments/", hole: Hole::Deployment, after }
}

const fn object_at(before: &'static str, after: &'static str) -> Template {
    Template::With { before, hole: Hole::Object, after }
}

const fn any(name: &'static str) -> Parameter {
    Parameter { name, values: &[] }
}
