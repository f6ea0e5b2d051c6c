//! The body as it is sent: the client's own, but for what policy changes in it. It is never copied: what is sent is
//! slices of it, with what is new between them.

use super::admit::Admission;
use super::refusal::{Code, Refusal};
use super::upstream::Chain;
use crate::policy::Operation;
use crate::provider::ask::{self, Splice};
use crate::provider::operation::Hole;
use crate::provider::{Dialect, ModelPlace, Resolved, output_bound_field};
use crate::service::Snapshot;

impl Admission<'_> {
    /// The body as it is sent, and what was changed in the request.
    pub(super) fn body(
        &self,
        snapshot: &Snapshot,
        resolved: &Resolved,
        given: Option<u64>,
    ) -> Result<(Chain, Vec<String>, bool), Refusal> {
        let provider = snapshot.providers.get(&resolved.provider).map(|entry| &entry.provider);
        let row = self.matched.row;
        let place = provider.map(|provider| provider.model_place(row.dialect, &resolved.model));
        let in_path = row.upstream.hole() == Some(Hole::Model) || matches!(place, Some(ModelPlace::Path(_)));
        let sent = match &place {
            Some(ModelPlace::Body(name)) => name,
            Some(ModelPlace::Path(_)) | None => &resolved.model,
        };
        // Azure's clients say the deployment in the body once more: it is as good a name there as the model's.
        let is_deployment = |name: &str| matches!(&place, Some(ModelPlace::Path(path)) if path == name);
        let says_another = self.ask.models.iter().any(|model| !is_deployment(&model.name));
        let mut splices: Vec<Splice> = Vec::new();
        if says_another || !in_path && self.matched.names_model(&self.ask) {
            splices.extend(self.ask.model_splices(sent));
        }
        // Where others made room in the meantime, a request that states no bound is told that all of it fits.
        if let Some(tokens) = given.filter(|_| row.takes_bound()) {
            let too_large = self.ask.output.bounds.iter().filter(|bound| bound.tokens > tokens);
            splices.extend(too_large.map(|bound| bound.splice(tokens)));
            if self.ask.output.bounds.is_empty() {
                let field = match (row.dialect, row.operation) {
                    (Dialect::OpenAi, Operation::Chat) => output_bound_field(resolved.provider.as_str()),
                    (Dialect::OpenAi, Operation::Responses) => "max_output_tokens",
                    _ => "max_tokens",
                };
                splices.push(self.ask.bound_splice(field, tokens));
            }
        }
        let supports = provider.is_some_and(|provider| provider.supports_stream_options);
        let report = self.ask.report_usage.as_ref().filter(|_| supports);
        splices.extend(report.cloned());
        self.ask.part_insertions(&mut splices);
        let renamed = self.matched.model().is_some_and(|named| in_path && named != resolved.model);
        let renamed = (renamed && !self.matched.is_azure).then_some("model");
        let mut changed: Vec<String> = Vec::new();
        let betas = self.ask.set_betas.iter().map(|set| set.header);
        for field in renamed.into_iter().chain(splices.iter().map(|splice| splice.field)).chain(betas) {
            if !changed.iter().any(|told| told == field) {
                changed.push(field.to_owned());
            }
        }
        if splices.is_empty() {
            return Ok((Chain::from(self.bytes.clone()), changed, false));
        }
        let pieces = ask::pieces(&self.bytes, splices).map_err(|error| {
            tracing::error!(%error, request_id = self.arrival.id.as_str(), "a request's changes do not fit together");
            Refusal::new(Code::InvalidBody, "The request's fields do not fit together.")
        })?;
        Ok((pieces.into_iter().collect(), changed, report.is_some()))
    }
}
