//! `POST completions`, the legacy form: a prompt, several prompts, or tokens.

use super::{Ask, AskError, Field, Role};
use crate::{base::json::Value, policy::Feature};

/// The fields of a legacy completion.
pub const COMPLETIONS: &[Field] = &[
    f("best_of", Role::Own),
    f("echo", Role::Neutral),
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("frequency_penalty", Role::Neutral),
    f("ignore_eos", Role::Neutral),
    f("logit_bias", Role::Neutral),
    f("logprobs", Role::Neutral),
    f("max_completion_tokens", Role::Own),
    f("max_tokens", Role::Own),
    f("metadata", Role::Neutral),
    f("min_p", Role::Neutral),
    f("min_tokens", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("n", Role::Own),
    f("plugins", Role::Priced),
    f("presence_penalty", Role::Neutral),
    f("preset", Role::NamesModel),
    f("prompt", Role::Own),
    f("provider", Role::Priced),
    f("random_seed", Role::Neutral),
    f("repetition_penalty", Role::Neutral),
    f("response_format", Role::Input),
    f("route", Role::NamesModel),
    f("seed", Role::Neutral),
    f("service_tier", Role::Own),
    f("stop", Role::Neutral),
    f("store", Role::Uses(Feature::Store)),
    f("stream", Role::Own),
    f("stream_options", Role::Own),
    f("suffix", Role::Input),
    f("temperature", Role::Neutral),
    f("top_a", Role::Neutral),
    f("top_k", Role::Neutral),
    f("top_p", Role::Neutral),
    f("transforms", Role::Uses(Feature::Truncation)),
    f("truncate", Role::Uses(Feature::Truncation)),
    f("truncate_prompt_tokens", Role::Uses(Feature::Truncation)),
    f("truncation", Role::Uses(Feature::Truncation)),
    f("usage", Role::Neutral),
    f("use_beam_search", Role::Priced),
    f("user", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.read_stream(root)?;
    ask.read_stream_options(root)?;
    ask.read_service_tier(root)?;
    ask.read_bound(root, "max_completion_tokens")?;
    ask.read_bound(root, "max_tokens")?;
    let prompts = match root.get("prompt") {
        Some(prompt) => ask.read_prompts(prompt, "prompt")?,
        None => 1,
    };
    ask.input.messages = prompts;
    ask.read_candidates(root, prompts)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::operation::ROWS;

    fn completion(members: &str) -> Result<Ask, AskError> {
        read(&ROWS[1], format!(r#"{{"model":"m",{members}}}"#).as_bytes())
    }

    #[test]
    fn each_prompt_has_its_candidates() {
        let shape = |members: &str| {
            let ask = completion(members).unwrap();
            (ask.output.candidates, ask.input.messages, ask.input.text_bytes)
        };
        assert_eq!(shape(r#""prompt":"hello""#), (1, 1, 6));
        assert_eq!(shape(r#""prompt":["a","b"],"n":2,"best_of":3"#), (6, 2, 4));
        assert_eq!(shape(r#""prompt":[1,22,333],"n":2"#), (2, 1, 3));
        assert_eq!(shape(r#""prompt":[[1,2],[3]],"n":2"#), (4, 2, 3));
        assert_eq!(shape(r#""prompt":[]"#), (1, 0, 0));
        assert_eq!(shape(r#""max_tokens":16"#).0, 1);
    }

    #[test]
    fn prompts_of_another_form_are_refused() {
        for prompt in ["1", "{}", "[1,\"a\"]", "[\"a\",1]", "[1.5]", "[-1]", "[[1,[2]]]", "[null]", "true"] {
            assert!(completion(&format!(r#""prompt":{prompt}"#)).is_err(), "{prompt}");
        }
        let object = completion(r#""prompt":["a",{"prompt_embeds":"AAAA"}]"#).unwrap();
        assert!(object.input.beyond_body);
        assert_eq!(object.unknown_fields, ["prompt"]);
    }

    #[test]
    fn a_stream_is_made_to_report_its_usage_here_too() {
        assert!(completion(r#""stream":true"#).unwrap().report_usage.is_some());
    }
}
