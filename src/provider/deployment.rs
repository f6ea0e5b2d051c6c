//! Deployments: providers such as Azure's, where a name that the customer chose stands for a model.
//!
//! A provider that has deployments takes them in the path (`{base}/deployments/{deployment}/...`), or, where its base
//! URL ends in `/v1`, in the body in the model's place.

use super::{Dialect, Provider, Slug, operation::encode};

/// Where a provider wants to be told the model, and by which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// In the body.
    Body(String),
    /// In the path, as a deployment: one segment, as it is written there.
    Path(String),
}

/// What a deployment in a client's path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The model that it stands for.
    pub model: String,
    /// The only provider that has it; `None` where it is simply the model's name.
    pub provider: Option<Slug>,
}

/// Several providers have a deployment of the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "several providers have a deployment {deployment:?}; say which in the path, /p/{{provider}}/openai/..."
)]
pub struct AmbiguousDeployment {
    /// The deployment.
    pub deployment: String,
}

impl Provider {
    /// The model for which a name stands here as a deployment, where it is no model's own: in a model's place it would lead
    /// to that model unchecked. Servers do not tell deployments apart by case.
    pub fn stands_for(&self, dialect: Dialect, name: &str) -> Option<&str> {
        if dialect != Dialect::OpenAi
            || self.deployments.get(name).is_some_and(|own| own.eq_ignore_ascii_case(name))
        {
            return None;
        }
        let meant = self.deployments.iter().find(|(_, deployment)| deployment.eq_ignore_ascii_case(name));
        meant.map(|(model, _)| model.as_str())
    }

    /// Where the model goes in a request of the dialect. A model of which nobody has said the deployment is its name.
    pub fn model_place(&self, dialect: Dialect, model: &str) -> ModelPlace {
        let name = || self.deployments.get(model).map_or(model, String::as_str).to_owned();
        let endpoint = self.dialects.get(&dialect).filter(|_| dialect == Dialect::OpenAi);
        match endpoint {
            Some(endpoint) if !self.deployments.is_empty() && !endpoint.base_url.path().ends_with("/v1") => {
                // A segment of dots would lead elsewhere.
                let name = name();
                let is_dots = name.bytes().all(|byte| byte == b'.');
                ModelPlace::Path(if is_dots { "-".to_owned() } else { encode(&name) })
            }
            Some(_) => ModelPlace::Body(name()),
            None => ModelPlace::Body(model.to_owned()),
        }
    }
}

/// Says which model a deployment stands for, among these providers.
///
/// # Errors
/// More than one provider has it.
pub fn deployed<'p>(
    providers: impl Iterator<Item = &'p Provider>,
    deployment: &str,
) -> Result<Deployed, AmbiguousDeployment> {
    let mut found: Option<Deployed> = None;
    for provider in providers {
        let named = provider.deployments.iter().find(|(_, name)| name.eq_ignore_ascii_case(deployment));
        let Some((model, _)) = named else { continue };
        if found.is_some() {
            return Err(AmbiguousDeployment { deployment: deployment.to_owned() });
        }
        found = Some(Deployed { model: model.clone(), provider: Some(provider.slug.clone()) });
    }
    Ok(found.unwrap_or_else(|| Deployed { model: deployment.to_owned(), provider: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::CidrSet;
    use crate::provider::ProviderDocument;
    use serde_json::json;

    fn provider(slug: &str, base_url: &str, deployments: &serde_json::Value) -> Provider {
        let document = json!({"slug": slug, "dialects": {"openai": base_url}, "deployments": deployments});
        serde_json::from_value::<ProviderDocument>(document).unwrap().check(&CidrSet::default()).unwrap()
    }

    #[test]
    fn a_deployment_goes_into_the_path_or_where_the_base_url_has_a_version_into_the_body() {
        let azure = provider("azure", "https://x.example/openai", &json!({"gpt-4o": "ours"}));
        let place = |provider: &Provider, model: &str| provider.model_place(Dialect::OpenAi, model);
        assert_eq!(place(&azure, "gpt-4o"), ModelPlace::Path("ours".to_owned()));
        assert_eq!(place(&azure, "gpt-5"), ModelPlace::Path("gpt-5".to_owned()));
        assert_eq!(place(&azure, "a/../b"), ModelPlace::Path("a%2F..%2Fb".to_owned()));
        assert_eq!(place(&azure, ".."), ModelPlace::Path("-".to_owned()));
        let newer = provider("azure", "https://x.example/openai/v1", &json!({"gpt-4o": "ours"}));
        assert_eq!(place(&newer, "gpt-4o"), ModelPlace::Body("ours".to_owned()));
        let plain = provider("plain", "https://x.example/v1", &json!({}));
        assert_eq!(place(&plain, "gpt-4o"), ModelPlace::Body("gpt-4o".to_owned()));
        assert_eq!(azure.model_place(Dialect::Anthropic, "gpt-4o"), ModelPlace::Body("gpt-4o".to_owned()));
    }

    #[test]
    fn a_name_that_leads_to_another_model_is_known() {
        let deployments = json!({"gpt-5": "prod-5", "o3": "gpt-4o", "gpt-4.1": "gpt-4.1"});
        let azure = provider("azure", "https://x.example/openai", &deployments);
        let stands_for = |name: &str| azure.stands_for(Dialect::OpenAi, name);
        assert_eq!((stands_for("prod-5"), stands_for("PROD-5")), (Some("gpt-5"), Some("gpt-5")));
        assert_eq!(stands_for("gpt-4o"), Some("o3"), "a model's name that was given to another's deployment");
        assert_eq!((stands_for("gpt-5"), stands_for("gpt-4.1"), stands_for("gpt-6")), (None, None, None));
        assert_eq!(azure.stands_for(Dialect::Anthropic, "prod-5"), None);
    }

    #[test]
    fn a_deployment_means_the_model_of_the_only_provider_that_has_it() {
        let one = provider("one", "https://x.example/openai", &json!({"gpt-4o": "ours"}));
        let other = provider("other", "https://y.example/openai", &json!({"gpt-5": "ours", "o3": "theirs"}));
        let both = [one, other];
        let means = |name: &str| deployed(both.iter(), name);
        assert_eq!(
            means("theirs"),
            Ok(Deployed { model: "o3".to_owned(), provider: Some("other".parse().unwrap()) })
        );
        assert_eq!(means("gpt-4o"), Ok(Deployed { model: "gpt-4o".to_owned(), provider: None }));
        assert!(means("ours").is_err());
        assert_eq!(deployed(both[..1].iter(), "ours").unwrap().model, "gpt-4o");
    }
}
