//! What providers keep for us under an id.

/// What kind of thing an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// An uploaded file.
    File,
    /// A stored response.
    Response,
    /// An item of a response's input or output.
    Item,
    /// A conversation.
    Conversation,
    /// The place where a provider's code runs.
    Container,
    /// A cached prompt.
    CachedContent,
    /// A store of embedded files.
    VectorStore,
    /// A stored prompt.
    Prompt,
    /// Deferred work.
    Batch,
    /// A skill that was uploaded.
    Skill,
}
