//! What can go wrong on the command line, how it is told, and the exit code: 1 refused or failed, 2 wrong usage.

use crate::base::clip;
use serde::Deserialize;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Typed or set up wrongly.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The server said no.
    #[error("{}", .0.headline())]
    Refused(Box<Refusal>),
    /// Nobody listens there.
    #[error("no server answers at {url}")]
    NoServer {
        /// The base URL.
        url: String,
    },
    /// The name, the network or TLS failed.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The connection broke after the request was sent.
    #[error("the connection to {url} broke before the answer was complete: {reason}")]
    Broken {
        /// The base URL.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The answer took too long.
    #[error("{url} did not answer within {seconds} s")]
    TimedOut {
        /// The base URL.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Something else than the admin API answered.
    #[error("what answers at {url} does not speak as Bitting's admin API does (status {status})")]
    NotOurs {
        /// The base URL.
        url: String,
        /// The status of the answer.
        status: u16,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried: `read`, `create`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A price list does not read.
    #[error("{} is not a price list: {reason}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// The secret was made and could not be kept.
    #[error("the secret was made, and writing it to {place} failed: {reason}")]
    SecretLost {
        /// The sub-key whose secret it is.
        id: String,
        /// The file, or standard output.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The server is done and did not move everything to the new term.
    #[error("{left} data keys and signatures of older terms were not moved{}", if *.is_sealed { ": the vault is sealed" } else { "" })]
    NotMoved {
        /// How many are left.
        left: u64,
        /// Whether the vault was closed meanwhile.
        is_sealed: bool,
    },
    /// What a provider counted is not what was counted here.
    #[error("{apart} of {compared} days and models differ")]
    Apart {
        /// How many differ.
        apart: usize,
        /// How many there are.
        compared: usize,
    },
    /// Standard input could not be read.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// Standard output could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// The reader of standard output has what it wanted and went away.
    #[error("standard output is closed")]
    PipeClosed,
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
    /// The operating system gave no event loop.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    /// A command that works beside the data failed.
    #[error(transparent)]
    App(#[from] crate::app::AppError),
}

/// What was typed or set up wrongly, beyond what the parser of arguments sees.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// `BITTING_URL` is not usable. The URL is not repeated: it may hold a secret.
    #[error("BITTING_URL is not usable: {why}")]
    Url {
        /// What is wrong with it.
        why: &'static str,
    },
    /// `BITTING_TOKEN` cannot be sent.
    #[error("BITTING_TOKEN holds characters that no token has")]
    Token,
    /// A secret stands where an id belongs.
    #[error("that is a secret, not an id: other processes and the shell's history see arguments")]
    SecretAsId,
    /// Nobody is to type a provider key on an echoing terminal.
    #[error("the provider key is read from standard input or a file, and standard input is a terminal")]
    SecretOnTerminal,
    /// The input holds nothing.
    #[error("the input holds no provider key")]
    SecretEmpty,
    /// The input is not a key.
    #[error("the input is not a provider key: it is above 64 KiB, not text, or several lines")]
    SecretShape,
    /// The input is nothing that unseals.
    #[error("the input is no unseal code, key or passphrase: it is above 64 KiB, or not text")]
    UnsealShape,
    /// What a price list is cannot be told from it.
    #[error("this is none of the price lists that are known here")]
    ListFormat,
    /// A file that should hold a document.
    #[error("{} does not hold a JSON object", .0.display())]
    NoObject(PathBuf),
    /// An update without a change.
    #[error("nothing to change: give at least one flag")]
    NothingToChange,
    /// Nobody said yes.
    #[error("not confirmed; nothing was released")]
    NotConfirmed,
    /// A file that is no report of a provider.
    #[error("{}: {why}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: crate::provider::usage_export::ExportError,
    },
    /// A report that is about none of the days asked for.
    #[error("{} is about none of these days", path.display())]
    ExportDays {
        /// The file.
        path: PathBuf,
    },
    /// A time beyond the calendar.
    #[error("{0} lies beyond the calendar")]
    Time(String),
}

/// A refusal by the admin API (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// The HTTP status; taken from the answer's status line.
    pub status: u16,
    /// The kind of problem, for people.
    pub title: String,
    /// This problem, for people.
    pub detail: String,
    /// This problem, for programs.
    pub code: String,
    /// The fields that are wrong.
    pub errors: Vec<FieldProblem>,
    /// Names the request in the server's log.
    pub request_id: Option<String>,
}

/// One wrong field.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FieldProblem {
    /// A JSON pointer.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl CliError {
    /// Standard output failed; a closed pipe is told apart.
    pub(super) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::PipeClosed } else { Self::Output(error) }
    }

    /// What the process answers with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Usage(_) => 2,
            Self::Refused(_)
            | Self::NoServer { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::TimedOut { .. }
            | Self::NotOurs { .. }
            | Self::File { .. }
            | Self::List { .. }
            | Self::SecretLost { .. }
            | Self::NotMoved { .. }
            | Self::Apart { .. }
            | Self::Input(_)
            | Self::Output(_)
            | Self::Tls(_)
            | Self::Runtime(_)
            | Self::App(_) => 1,
        }
    }

    /// The error as people read it: what happened, each wrong field, the code, and what to do. Ends with a newline;
    /// empty when there is nothing to tell.
    pub fn render(&self) -> String {
        if matches!(self, Self::PipeClosed) {
            return String::new();
        }
        let mut text = format!("error: {}\n", clip(&self.to_string(), usize::MAX));
        if let Self::Refused(refusal) = self {
            refusal.render_details(&mut text);
        }
        if let Some(advice) = self.advice() {
            _ = writeln!(text, "  {advice}");
        }
        text
    }

    fn advice(&self) -> Option<String> {
        let fixed = match self {
            Self::Refused(refusal) => refusal.advice()?,
            Self::NoServer { .. } => {
                "Start one with `bitting quickstart` (the first time) or `bitting serve`, or set BITTING_URL to where \
                 its admin listener is."
            }
            Self::Unreachable { .. } => "Check BITTING_URL and the network to it.",
            Self::Broken { .. } | Self::TimedOut { .. } => {
                "Whether a change was made is not known: look with the list command before you repeat it."
            }
            Self::NotOurs { .. } => "Set BITTING_URL to the admin listener (by default port 8401, not 8400).",
            Self::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                "Nothing was asked of the server. Name a file that does not exist yet."
            }
            Self::SecretLost { id, .. } => {
                return Some(format!("It cannot be shown again. Make another: bitting subkey rotate {id}"));
            }
            Self::NotMoved { is_sealed: true, .. } => {
                "Unseal it (bitting vault unseal); the rest is moved by itself."
            }
            Self::NotMoved { is_sealed: false, .. } => {
                "The new term is in force, and the older ones are kept until nothing needs them. Rows that were changed \
                 outside of Bitting are not moved: bitting alarm list. What else is in the way stands in the server's log. \
                 Then: bitting vault rewrap --wait"
            }
            Self::Usage(UsageError::Url { .. }) => {
                "Write it like http://127.0.0.1:8401 or https://keys.example.com"
            }
            Self::Usage(UsageError::Token) => "Set it to an operator token (bo_...).",
            Self::Usage(UsageError::SecretAsId) => {
                "Give the id: the 16 characters after bk_. Treat the secret as exposed: bitting subkey rotate ID \
                 --overlap 0s"
            }
            Self::Usage(UsageError::SecretOnTerminal | UsageError::SecretEmpty) => {
                "Pipe it in without showing it: read -rs KEY; printf %s \"$KEY\" | bitting credential ... ; unset KEY\n  \
                 or keep it in a file that only you can read, and give --secret-file PATH."
            }
            Self::Usage(UsageError::NothingToChange) => "See --help for the flags, or use --set FIELD=JSON.",
            Self::List { .. } => "Nothing was sent. Fetch the file again, or correct it there.",
            Self::Usage(UsageError::ListFormat) => {
                "Say --format litellm, models-dev or openrouter, if it is one of them."
            }
            Self::Usage(UsageError::NotConfirmed) => "In scripts, say --yes.",
            Self::Usage(UsageError::NoObject(_)) => {
                "Write the fields as one object, like {\"models\": [\"openai/*\"]}."
            }
            Self::Apart { .. } => {
                "What is charged after a crash and was not billed can be taken back: bitting usage release"
            }
            Self::Usage(
                UsageError::SecretShape
                | UsageError::UnsealShape
                | UsageError::Time(_)
                | UsageError::Export { .. }
                | UsageError::ExportDays { .. },
            )
            | Self::File { .. }
            | Self::Input(_)
            | Self::Output(_)
            | Self::PipeClosed
            | Self::Tls(_)
            | Self::Runtime(_)
            | Self::App(_) => return None,
        };
        Some(fixed.to_owned())
    }
}

impl Refusal {
    fn headline(&self) -> String {
        let told = [&self.detail, &self.title].into_iter().find(|text| !text.is_empty());
        told.cloned().unwrap_or_else(|| format!("the server answered {}", self.status))
    }

    fn render_details(&self, text: &mut String) {
        let safe = |part: &str| clip(part, usize::MAX);
        for error in &self.errors {
            let field = if error.field.is_empty() { "the body" } else { &error.field };
            _ = writeln!(text, "  {}: {}", safe(field), safe(&error.detail));
        }
        let code = if self.code.is_empty() { "none" } else { &self.code };
        _ = write!(text, "  code: {} (status {})", safe(code), self.status);
        if let Some(id) = &self.request_id {
            _ = write!(text, ", request {}", safe(id));
        }
        text.push('\n');
    }

    fn advice(&self) -> Option<&'static str> {
        Some(match (self.code.as_str(), self.status) {
            (_, 401) => {
                "BITTING_TOKEN is missing or wrong: set it to an operator token (bo_...). Beside the data, `bitting \
                 operator recover --data DIR` makes a new one."
            }
            ("already_done", _) => "It was done before: show it by the id above.",
            ("name_taken", _) => {
                "Choose another name, or revoke the one that has it; a revoked name is free again."
            }
            ("two_secrets_live", _) => {
                "Wait until the older secret expires; `bitting subkey show ID` says when."
            }
            ("in_use", _) => "Delete what refers to it first.",
            ("not_confirmed", _) => "The change stays. Run the command again until it is confirmed.",
            ("sealed", _) => {
                "The vault is sealed: unseal it (bitting vault unseal), then run the command again."
            }
            ("unseal_refused", _) => "The vault is as it was. `bitting vault status` says why it is sealed.",
            ("exceeds_ceiling", _) => {
                "Stay within what the project allows, or have that changed: `bitting project show SLUG` shows it."
            }
            (_, 403) => "The roles of this operator do not allow it: use the token of one whose roles do.",
            (_, 404) => "Check the id or name with the list command.",
            (_, 412) => "Someone changed it since: look at it again, then repeat with its present version.",
            (_, 429) => "Wait a moment, then run the command again.",
            (_, 500..) => {
                "Try again; if it stays, look for the request in the server's log, or run `bitting doctor`."
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(value: serde_json::Value) -> CliError {
        CliError::Refused(Box::new(serde_json::from_value(value).unwrap()))
    }

    #[test]
    fn a_refusal_tells_each_field_the_code_and_what_to_do() {
        let error = refused(json!({
            "type": "about:blank", "title": "Conflict", "status": 409, "detail": "the name ci is taken", "code": "name_taken",
            "errors": [{"field": "/name", "detail": "taken by 0123456789abcdef"}], "request_id": "req_1",
        }));
        insta::assert_snapshot!(error.render(), @r"
        error: the name ci is taken
          /name: taken by 0123456789abcdef
          code: name_taken (status 409), request req_1
          Choose another name, or revoke the one that has it; a revoked name is free again.
        ");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_wrong_token_leads_to_recovery_and_no_server_to_starting_one() {
        let wrong =
            refused(json!({"status": 401, "title": "Unauthorized", "code": "invalid_token"})).render();
        assert!(
            wrong.contains("BITTING_TOKEN is missing or wrong") && wrong.contains("bitting operator recover")
        );
        let absent = CliError::NoServer { url: "http://127.0.0.1:8401".into() }.render();
        assert!(
            absent.contains("no server answers at http://127.0.0.1:8401") && absent.contains("bitting serve")
        );
    }

    #[test]
    fn a_server_cannot_paint_the_terminal() {
        let painted = refused(json!({
            "status": 400, "detail": "\u{1b}[2J", "code": "\u{1b}[31m", "errors": [{"field": "\n", "detail": "\r"}],
        }));
        let text = painted.render();
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn exit_codes_tell_usage_from_failure_and_a_closed_pipe_from_both() {
        assert_eq!(CliError::from(UsageError::NothingToChange).exit_code(), 2);
        assert_eq!(CliError::TimedOut { url: String::new(), seconds: 60 }.exit_code(), 1);
        let closed = CliError::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit_code(), closed.render().as_str()), (0, ""));
        assert_eq!(CliError::output(io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }
}
