//! Why a body is not understood.

use super::MultipartError;
use crate::base::json::JsonError;

/// Why an ask could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Not strict JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Not a form that every reader reads alike.
    #[error(transparent)]
    Multipart(#[from] MultipartError),
    /// Not a form that is escaped as every reader has it.
    #[error("the form is not escaped as it must be, at byte {at}: send it as client libraries write it")]
    Escape {
        /// Where.
        at: usize,
    },
    /// The content type is another.
    #[error("the body has another content type: send it as {0}, in UTF-8")]
    ContentType(&'static str),
    /// There is a body, and the operation has none.
    #[error("this operation has no body: send none")]
    NoBody,
    /// JSON, but not an object.
    #[error("the body is not a JSON object: send one")]
    NotAnObject,
    /// No model is named.
    #[error("no model is named: put its name into `model`")]
    ModelRequired,
    /// A field is not what it must be.
    #[error("`{field}` {problem}")]
    Field {
        /// The field's name, with dots for what is inside another.
        field: String,
        /// What is wrong.
        problem: FieldProblem,
    },
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// The value has another type or form.
    #[error("must be {0}")]
    Expected(&'static str),
    /// Not a name that a model can have.
    #[error("must be a model's name: at most 256 bytes, no control characters, no URL")]
    NotAModelName,
    /// Some parsers would take it for the other field.
    #[error("differs from `{0}` only by letter case or underscores: write it as `{0}`")]
    CaseVariant(&'static str),
    /// Some parsers would take it for the other field, or a part of it.
    #[error("can be taken for `{0}`: write it so, or leave it out")]
    Variant(&'static str),
    /// The field stands there twice.
    #[error("is given twice: give it once")]
    Twice,
    /// The field stands there twice, spelt in two ways.
    #[error("is given twice, in both of its spellings: give it once")]
    SpeltTwice,
    /// It would choose where the request goes, or with which key.
    #[error("is not accepted: where a request goes is not the caller's choice; leave it out")]
    NamesUpstream,
    /// It names further models, or something that stands for one.
    #[error("is not accepted: only `model` names the model of a request; leave it out")]
    NamesModel,
}

impl AskError {
    /// The field at fault, where there is one.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Json(_)
            | Self::Multipart(_)
            | Self::Escape { .. }
            | Self::ContentType(_)
            | Self::NoBody
            | Self::NotAnObject => None,
            Self::ModelRequired => Some("model"),
            Self::Field { field, .. } => Some(field),
        }
    }

    pub(super) fn field(field: &str, problem: FieldProblem) -> Self {
        Self::Field { field: crate::base::clip(field, 64), problem }
    }

    pub(super) fn expected(field: &str, wanted: &'static str) -> Self {
        Self::field(field, FieldProblem::Expected(wanted))
    }
}
