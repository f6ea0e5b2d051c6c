//! Sub-keys: what an application holds, and what it is written down as; and the projects that own them.

mod ceiling;
mod definition;
mod object;
mod project;
mod record;
mod token;

pub use ceiling::{Ceiling, Excess};
pub use definition::{Definition, DefinitionError, succeed_budgets};
pub use object::{Belonging, Holder};
pub use project::{DEFAULT_PROJECT, DEPTH_MAX, PROJECTS_MAX, Project, ProjectDefinition, ProjectState};
pub use record::{SecretRecord, State, SubKey};
pub use token::{SubKeyId, SubKeyToken, TokenError};
