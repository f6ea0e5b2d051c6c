//! Providers as facts: dialects, operations, models, prices, and how requests and answers read.

pub mod address;
pub mod answer;
pub mod ask;
pub mod base_url;
pub mod catalog;
mod deployment;
mod dialect;
pub mod endpoint;
pub mod import;
pub mod model;
mod model_page;
pub mod modifier;
pub mod multiplier;
mod object;
pub mod operation;
pub mod price;
pub mod resolve;
pub mod served;
mod slug;
mod usage;
pub mod usage_export;
pub mod wellknown;
pub mod worst_case;

pub use address::{address_allowed, address_denied_always};
pub use base_url::{BaseUrl, BaseUrlError, Host, Scheme};
pub use catalog::{Catalog, CatalogError, ModelFault, Override};
pub use deployment::{AmbiguousDeployment, Deployed, ModelPlace, deployed};
pub use dialect::Dialect;
pub use endpoint::{
    AuthScheme, Endpoint, EndpointDocument, OnClientGone, Provider, ProviderDocument, ProviderError, Timeouts,
};
pub use model::{ContextTier, Model, ModelDocument, ModelFacts, PriceVersion, Prices};
pub use model_page::{ModelPage, ModelPageError};
pub use modifier::Factors;
pub use multiplier::{Multiplier, Multipliers};
pub use object::{
    ListAsk, ListAskError, OBJECT_DOCUMENT_BYTES_MAX, OBJECT_ID_BYTES_MAX, ObjectDocument, ObjectId,
    ObjectIdError, ObjectKind, ObjectOrder, PagePlace, render_page, undescribed,
};
pub use price::{Unpriced, cost};
pub use resolve::{Candidate, Choice, ResolveError, Resolved, resolve, resolve_provider, resolve_unnamed};
pub use slug::{Slug, SlugError};
pub use usage::{HostedCalls, Made, Reading, Usage};
pub use wellknown::{WELL_KNOWN, WellKnown, is_asked_in_vain, output_bound_field, well_known};
pub use worst_case::{DeferredTerms, Estimate, Estimated, Hosted, Terms, unheld, worst_case};
