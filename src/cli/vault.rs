//! `bitting vault ...`: how the vault stands, sealing and unsealing it, and the key-encryption key. What unseals comes
//! from a file, a prompt that does not echo or standard input, never from an argument.

use super::CliError;
use super::client::{Client, path};
use super::local::ChangeKekArgs;
use super::render::{self, Form};
use super::secret_file::{read_text, read_text_from_stdin};
use super::vault_release::{self, RELEASE_NOTES, ReleaseArgs};
use super::vault_rotate::{self, MoveArgs};
use crate::base::Secret;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

const FIRST: [&str; 3] = ["sealed", "reason", "kek"];

const UNSEAL_NOTES: &str = "\
Without a flag the unseal code is asked for, or read from standard input where that is no terminal. An empty one has the
server ask its own source of the key again, for a vault that no operator sealed.";

/// What can be done about the vault.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Done by a running server.
    #[command(flatten)]
    Remote(VaultRemote),
    /// Move to another key-encryption key, here, beside the data; the server may be running
    ChangeKek(ChangeKekArgs),
}

/// What a running server does about its vault.
#[derive(Debug, Subcommand)]
pub enum VaultRemote {
    /// Show whether it is sealed, and why
    Status(StatusArgs),
    /// Seal it: nothing is served until it is unsealed. Prints the one-time unseal code, once
    Seal(SealArgs),
    /// Unseal it by the unseal code, or by what opens the source of the key
    #[command(after_help = UNSEAL_NOTES)]
    Unseal(UnsealArgs),
    /// Put a fresh term into the keyring; everything else moves to it in the background
    Rotate(MoveArgs),
    /// Have everything of older terms moved to the current one
    Rewrap(MoveArgs),
    /// End a quarantine: after a restore, sub-keys work again
    #[command(after_help = RELEASE_NOTES)]
    Release(ReleaseArgs),
}

/// Arguments of `vault status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    form: Form,
}

/// Arguments of `vault seal`.
#[derive(Debug, Args)]
pub struct SealArgs {
    #[command(flatten)]
    form: Form,
}

/// Arguments of `vault unseal`.
#[derive(Debug, Args)]
#[group(multiple = false, id = "presented")]
pub struct UnsealArgs {
    /// The file that holds the unseal code
    #[arg(long, value_name = "PATH", group = "presented")]
    code_file: Option<PathBuf>,
    /// The KEK file
    #[arg(long, value_name = "PATH", group = "presented")]
    kek_file: Option<PathBuf>,
    /// The file that holds the passphrase
    #[arg(long, value_name = "PATH", group = "presented")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

impl UnsealArgs {
    /// The request: the one thing that is presented.
    fn document(&self) -> Result<Value, CliError> {
        let files =
            [("code", &self.code_file), ("kek", &self.kek_file), ("passphrase", &self.passphrase_file)];
        for (name, file) in files {
            if let Some(file) = file {
                return Ok(json!({name: read_text(file)?.expose()}));
            }
        }
        let code: Secret<String> =
            read_text_from_stdin("unseal code (empty: the server asks its own source): ")?;
        Ok(if code.expose().trim().is_empty() { json!({}) } else { json!({"code": code.expose()}) })
    }
}

pub(super) async fn run(command: VaultRemote, client: &Client) -> Result<(), CliError> {
    match command {
        VaultRemote::Status(args) => {
            let status = client.get(&path(&["vault"]), &[]).await?;
            render::print_object(&status, args.form, &FIRST)
        }
        VaultRemote::Seal(args) => {
            let sealed = client.post(&path(&["vault", "seal"]), None).await?;
            if args.form.json {
                return render::print_json(&sealed);
            }
            let code = sealed["unseal_code"].as_str().unwrap_or_default();
            render::print(&format!(
                "sealed\nunseal code  {code}  (shown once; it, or what opens the source of the key, unseals: bitting vault unseal)"
            ))
        }
        VaultRemote::Unseal(args) => {
            let status = client.post(&path(&["vault", "unseal"]), Some(&args.document()?)).await?;
            if args.form.json { render::print_json(&status) } else { render::print("unsealed") }
        }
        VaultRemote::Rotate(args) => vault_rotate::run("rotate", args, client).await,
        VaultRemote::Rewrap(args) => vault_rotate::run("rewrap", args, client).await,
        VaultRemote::Release(args) => vault_release::run(args, client).await,
    }
}
