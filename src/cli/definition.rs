//! The flags that say what a sub-key may do, and the JSON they come to: the same for mint and for update.
//!
//! A flag that is not given is not sent: mint then takes the contract's default, update leaves the field alone.

use super::UsageError;
use super::values::{Cap, Field, Label, Moment, Rate};
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Map, Value, json};

/// The fields of a sub-key but for its name and its models.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct DefinitionFlags {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Who answers for it
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
    /// For people and filters; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<Label>,

    /// Models refused all the same, like "openai/*-preview"
    #[arg(long, value_name = "GLOB", num_args = 1.., help_heading = "Scope")]
    deny_model: Vec<String>,
    /// Beta values that requests may not ask for, like "context-1m-*"
    #[arg(long, value_name = "GLOB", num_args = 1.., help_heading = "Scope")]
    deny_beta: Vec<String>,
    /// Operations admitted [default: all]: chat, completions, responses, embeddings, images, audio, ...
    #[arg(long, value_name = "OPERATION", num_args = 1.., help_heading = "Scope")]
    operation: Vec<String>,
    /// Networks it may be used from [default: any], like 10.20.0.0/16
    #[arg(long, value_name = "CIDR", num_args = 1.., help_heading = "Scope")]
    ip: Vec<String>,
    /// Valid until: 12h, 90d, 2w, a day, or RFC 3339; "never" takes an expiry away
    #[arg(long, value_name = "TIME", value_parser = expiry, help_heading = "Scope")]
    expires: Option<Expiry>,
    /// Not valid before
    #[arg(long, value_name = "TIME", help_heading = "Scope")]
    not_before: Option<Moment>,
    /// Providers to prefer for bare model names, the first first
    #[arg(long, value_name = "PROVIDER", num_args = 1.., help_heading = "Scope")]
    provider_order: Vec<String>,
    /// The one credential to use
    #[arg(long, value_name = "ID", help_heading = "Scope")]
    credential: Option<String>,

    /// USD per hour, day, week, month or total, like 25/month or 5/day@Europe/Berlin; repeat for more windows
    #[arg(long, value_name = "USD/WINDOW", help_heading = "Limits")]
    cap: Vec<Cap>,
    /// Like 60/minute, tokens:100000/minute or concurrent:8; repeat for more
    #[arg(long, value_name = "RATE", help_heading = "Limits")]
    rate: Vec<Rate>,
    /// The most that one request may cost at its worst, in USD
    #[arg(long, value_name = "USD", help_heading = "Limits")]
    max_request_usd: Option<NanoUsd>,
    /// The largest output bound a request may state, in tokens
    #[arg(long, value_name = "TOKENS", help_heading = "Limits")]
    max_output_tokens: Option<u64>,
    /// The output bound given to requests that state none, in tokens
    #[arg(long, value_name = "TOKENS", help_heading = "Limits")]
    default_max_output_tokens: Option<u64>,
    /// Lower an output bound above --max-output-tokens instead of refusing the request
    #[arg(long, help_heading = "Limits")]
    clamp_output: bool,
    /// Lower the output bound to what the budget still holds
    #[arg(long, help_heading = "Limits")]
    clamp_to_budget: bool,

    /// Refuse streams
    #[arg(long, help_heading = "Features")]
    no_streaming: bool,
    /// Refuse tools that the client executes
    #[arg(long, help_heading = "Features")]
    no_tools: bool,
    /// Refuse pictures
    #[arg(long, help_heading = "Features")]
    no_images: bool,
    /// Refuse sound
    #[arg(long, help_heading = "Features")]
    no_audio: bool,
    /// Refuse files
    #[arg(long, help_heading = "Features")]
    no_files: bool,
    /// Refuse URLs that the provider would fetch
    #[arg(long, help_heading = "Features")]
    no_remote_urls: bool,
    /// Refuse answers that the provider would keep
    #[arg(long, help_heading = "Features")]
    no_store: bool,
    /// Let the provider drop input that does not fit
    #[arg(long, help_heading = "Features")]
    allow_truncation: bool,
    #[arg(long, value_name = "KIND", num_args = 1.., help_heading = "Features",
        help = "Tools that the provider executes [default: none], like web_search; \"*\" is any")]
    hosted_tool: Vec<String>,
    /// Service tiers that a request may name [default: auto default]
    #[arg(long, value_name = "TIER", num_args = 1.., help_heading = "Features")]
    service_tier: Vec<String>,
    /// Refuse fields that Bitting does not know
    #[arg(long, help_heading = "Features")]
    strict_fields: bool,
    /// Files, responses and the like belong to the project instead of the key
    #[arg(long, help_heading = "Features")]
    share_objects: bool,

    /// Any field by its name in the API; wins over the flags. Repeat for more
    #[arg(long, value_name = "FIELD=JSON")]
    set: Vec<Field>,
}

/// When a key ends.
#[derive(Clone, Debug)]
enum Expiry {
    Never,
    At(Moment),
}

fn expiry(text: &str) -> Result<Expiry, super::values::ValueError> {
    if text == "never" { Ok(Expiry::Never) } else { text.parse().map(Expiry::At) }
}

impl DefinitionFlags {
    /// Adds the fields that were given to `document`.
    pub(super) fn add_to(
        self,
        document: &mut Map<String, Value>,
        now: DateTime<Utc>,
    ) -> Result<(), UsageError> {
        let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
        let texts =
            [("description", self.description), ("owner", self.owner), ("credential", self.credential)];
        for (name, text) in texts {
            text.map(|text| put(name, json!(text)));
        }
        let lists = [
            ("deny_models", self.deny_model),
            ("deny_betas", self.deny_beta),
            ("operations", self.operation),
            ("ip_allow", self.ip),
            ("provider_order", self.provider_order),
            ("hosted_tools", self.hosted_tool),
            ("service_tiers", self.service_tier),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            put(name, json!(list));
        }
        if !self.cap.is_empty() {
            put("budgets", self.cap.iter().map(Cap::document).collect());
        }
        if !self.rate.is_empty() {
            put("rate_limits", self.rate.iter().map(Rate::document).collect());
        }
        if !self.label.is_empty() {
            let labels = self.label.into_iter().map(|label| (label.name, Value::String(label.value)));
            put("labels", Value::Object(labels.collect()));
        }
        match self.expires {
            Some(Expiry::At(at)) => _ = put("expires_at", json!(at.ahead_of(now)?)),
            Some(Expiry::Never) => _ = put("expires_at", Value::Null),
            None => {}
        }
        if let Some(at) = self.not_before {
            put("not_before", json!(at.ahead_of(now)?));
        }
        if let Some(usd) = self.max_request_usd {
            put("max_request_usd", json!(usd));
        }
        let bounds = [
            ("max_output_tokens", self.max_output_tokens),
            ("default_max_output_tokens", self.default_max_output_tokens),
        ];
        for (name, bound) in bounds {
            bound.map(|bound| put(name, json!(bound)));
        }
        let switches = [
            ("clamp_output", self.clamp_output, true),
            ("clamp_to_budget", self.clamp_to_budget, true),
            ("allow_streaming", self.no_streaming, false),
            ("allow_tools", self.no_tools, false),
            ("allow_images", self.no_images, false),
            ("allow_audio", self.no_audio, false),
            ("allow_files", self.no_files, false),
            ("allow_remote_urls", self.no_remote_urls, false),
            ("allow_store", self.no_store, false),
            ("allow_truncation", self.allow_truncation, true),
            ("strict_fields", self.strict_fields, true),
            ("share_objects", self.share_objects, true),
        ];
        for (name, _, value) in switches.into_iter().filter(|(_, given, _)| *given) {
            put(name, json!(value));
        }
        for field in self.set {
            put(&field.name, field.value);
        }
        Ok(())
    }
}
