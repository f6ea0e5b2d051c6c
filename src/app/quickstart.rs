//! `quickstart`: set up and serve, the main job in one command. Run again, it serves what is there.

use super::migrate::bring_up_to_date;
use super::server::{Server, sandbox_key, stop_signal, upstream, with_networks};
use super::{AppError, files, kek, logging, probe, settings};
use crate::base::{Clock, Entropy, Secret};
use crate::config::Settings;
use crate::policy::Operation;
use crate::provider::{Model, Provider, ProviderDocument, WELL_KNOWN, WellKnown};
use crate::proxy::upstream::Upstream;
use crate::sandbox::Sandbox;
use crate::service::{self, Actor, NewCredential, ProbeError, Services, Trial};
use crate::store::Store;
use crate::subkey::Definition;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What `quickstart` is told.
#[derive(Clone, Debug, Default)]
pub struct QuickstartOptions {
    /// Where the data is kept.
    pub data_dir: Option<PathBuf>,
    /// Register the simulated provider, whatever keys there are.
    pub sandbox: bool,
    /// Take no keys from the environment.
    pub no_import: bool,
}

const SANDBOX: &str = "sandbox";
const SUBKEY: &str = "quickstart";

/// Sets up what is missing, and serves until stopped. `environment` looks one variable up.
pub async fn quickstart(
    options: QuickstartOptions,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(), AppError> {
    let mut settings = settings(options.data_dir, None)?;
    logging::start(&settings)?;
    logging::harden()?;
    let (clock, entropy) = (Clock::system(), Entropy::new());
    files::make_data_dir(&settings.data_dir)?;
    let store = files::open_store(&settings).await?;
    bring_up_to_date(&store).await?;
    let kek = kek::source(&settings)?;
    let installed = if service::is_installed(&store).await? {
        None
    } else {
        Some(service::install(&store, kek.as_ref(), &clock, &entropy).await?)
    };
    let keys = if options.no_import || installed.is_none() { Vec::new() } else { keys_found(environment) };
    let sandbox_at =
        sandbox_address(&store, &settings, installed.is_some() && (options.sandbox || keys.is_empty()))
            .await?;
    let stop = stop_signal()?;
    let sandbox = match sandbox_at {
        Some(address) => {
            settings.private_upstreams = with_networks(&settings.private_upstreams, &["127.0.0.0/8"]);
            Some(start_sandbox(address, stop.clone()).await?)
        }
        None => None,
    };
    let server = Server::start(&settings, store, kek, clock, entropy).await?;
    match installed {
        Some(installed) => {
            let upstream = upstream(&settings)?;
            let services = server.services();
            let mut providers = import(services, &upstream, keys).await?;
            if let Some(address) = sandbox {
                register_sandbox(services, address).await?;
                println!("{SANDBOX} ok, the simulated provider at http://{address}");
                providers.push(SANDBOX);
            }
            introduce(&server, &settings, &installed, &providers).await?;
        }
        None => again(&server, &settings).await?,
    }
    println!("serving; stop with Ctrl-C");
    server.run_until(stop).await;
    Ok(())
}

/// The provider keys in the environment.
fn keys_found(environment: &dyn Fn(&str) -> Option<String>) -> Vec<(&'static WellKnown, Secret<String>)> {
    let key = |known: &'static WellKnown| {
        let key = environment(known.key_env).filter(|key| !key.trim().is_empty())?;
        Some((known, Secret::new(key.trim().to_owned())))
    };
    WELL_KNOWN.iter().filter_map(key).collect()
}

/// Puts the keys into the vault and tries each. Returns the providers whose key works.
async fn import(
    services: &Services,
    upstream: &Upstream,
    keys: Vec<(&'static WellKnown, Secret<String>)>,
) -> Result<Vec<&'static str>, AppError> {
    let mut working = Vec::new();
    for (known, key) in keys {
        let snapshot = services.snapshot();
        let Some(entry) =
            snapshot.providers.values().find(|entry| entry.provider.slug.as_str() == known.slug)
        else {
            continue;
        };
        let trial = Trial { provider: &entry.provider, key: &key, organization: None, openai_project: None };
        let tried = probe::count_models(upstream, &trial).await;
        let new = NewCredential {
            name: SUBKEY.to_owned(),
            secret: key,
            weight: 1,
            projects: None,
            organization: None,
            openai_project: None,
            rate_limits: Vec::new(),
        };
        let stored = services.create_credential(&Actor::local(), known.slug, new).await;
        match (stored, tried) {
            (Err(error), _) => println!("{} not imported: {error}", known.slug),
            (Ok(_), Ok(models)) => {
                println!("{} ok, {models} models (from {})", known.slug, known.key_env);
                working.push(known.slug);
            }
            (Ok(_), Err(reason)) => {
                println!("{} imported from {}, but does not work yet: {reason}", known.slug, known.key_env);
                working.extend(matches!(reason, ProbeError::NoAnswer { .. }).then_some(known.slug));
            }
        }
    }
    Ok(working)
}

/// Where the sandbox is to listen: where it is registered, or where the settings say if it is wanted.
async fn sandbox_address(
    store: &Store,
    settings: &Settings,
    wanted: bool,
) -> Result<Option<SocketAddr>, AppError> {
    let mut read = store.read().await?;
    let registered = crate::store::provider::get(&mut read.conn(), SANDBOX).await?;
    let document =
        registered.and_then(|record| serde_json::from_value::<ProviderDocument>(record.document).ok());
    let base_url = document
        .and_then(|document| document.dialects.into_values().next())
        .map(|endpoint| endpoint.base_url);
    let address = base_url.and_then(|url| url.strip_prefix("http://")?.split('/').next()?.parse().ok());
    Ok(address.or(wanted.then_some(settings.sandbox_listen)))
}

async fn start_sandbox(address: SocketAddr, stop: CancellationToken) -> Result<SocketAddr, AppError> {
    let listener = TcpListener::bind(address).await.map_err(|error| AppError::Listen {
        address,
        plane: SANDBOX,
        error,
        variable: "BITTING_SANDBOX_LISTEN",
    })?;
    let address = listener.local_addr().map_err(|error| AppError::setup("the sandbox's address", error))?;
    tokio::spawn(crate::sandbox::serve(listener, Sandbox::new(Clock::system()), async move {
        stop.cancelled().await;
    }));
    Ok(address)
}

async fn register_sandbox(services: &Services, address: SocketAddr) -> Result<(), AppError> {
    let document = json!({"slug": SANDBOX, "dialects": {
        "openai": format!("http://{address}/v1"),
        "anthropic": format!("http://{address}"),
        "gemini": format!("http://{address}"),
    }});
    let document: ProviderDocument =
        serde_json::from_value(document).map_err(|error| AppError::setup("the sandbox's document", error))?;
    let actor = Actor::local();
    services
        .create_provider(&actor, document)
        .await
        .map_err(|error| AppError::setup("the sandbox", error))?;
    let new = NewCredential {
        name: SUBKEY.to_owned(),
        secret: sandbox_key(&services.entropy),
        weight: 1,
        projects: None,
        organization: None,
        openai_project: None,
        rate_limits: Vec::new(),
    };
    let stored = services.create_credential(&actor, SANDBOX, new).await;
    stored.map(drop).map_err(|error| AppError::setup("the sandbox's credential", error))
}

/// Mints the first sub-key and says how to use it.
async fn introduce(
    server: &Server,
    settings: &Settings,
    installed: &service::Installed,
    providers: &[&'static str],
) -> Result<(), AppError> {
    let services = server.services();
    let models: Vec<String> = providers.iter().map(|slug| format!("{slug}/*")).collect();
    let definition = json!({
        "name": SUBKEY, "models": models, "budgets": [{"limit_usd": "5.00", "window": "month"}],
        "default_max_output_tokens": 4096, "clamp_to_budget": true,
        "description": "made by bitting quickstart",
    });
    let definition: Definition =
        serde_json::from_value(definition).map_err(|error| AppError::setup("the first sub-key", error))?;
    let minted = services
        .mint_subkey(&Actor::local(), definition)
        .await
        .map_err(|error| AppError::setup("the first sub-key", error))?;
    let (proxy, secret) = (server.proxy_url(), minted.token.expose());
    println!();
    println!("OpenAI SDKs     {proxy}/v1");
    println!("Anthropic SDKs  {proxy}");
    println!("Google GenAI    {proxy}");
    println!("admin API       {}", server.admin_url());
    println!("sub-key         {secret}");
    println!("                5 USD a month, models {}; shown once", models.join(" "));
    println!("operator token  {}", installed.operator_token.expose());
    println!("                shown once; export BITTING_TOKEN=... to use the command line");
    println!("log key         {}", installed.log_key);
    println!("data            {}", settings.data_dir.display());
    println!();
    match cheapest(services, providers) {
        Some(model) => {
            println!("Try it:");
            println!(
                "curl {proxy}/v1/chat/completions -H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json' \
                 -d '{{\"model\": \"{}/{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Say hello.\"}}]}}'",
                model.provider, model.name
            );
        }
        None => println!("No chat model can be used yet: put a key in with `bitting credential add`."),
    }
    println!();
    Ok(())
}

/// The cheapest chat model of a provider whose key works.
fn cheapest(services: &Services, providers: &[&str]) -> Option<Arc<Model>> {
    let (snapshot, now) = (services.snapshot(), services.clock.now());
    let speaks_openai =
        |provider: &Provider| provider.dialects.contains_key(&crate::provider::Dialect::OpenAi);
    let price = |model: &Model| {
        let prices = &model.prices_at(now)?.prices;
        prices.input_per_mtok_usd?.checked_add(prices.output_per_mtok_usd?)
    };
    let candidates = snapshot
        .providers
        .values()
        .filter(|entry| providers.contains(&entry.provider.slug.as_str()) && speaks_openai(&entry.provider));
    let models = candidates.flat_map(|entry| snapshot.catalog.models_of(entry.provider.slug.as_str()));
    let chat = models.filter(|model| model.serves(Operation::Chat) && model.can("tools"));
    let priced = chat.filter_map(|model| Some((price(model)?, model)));
    // Of several that cost the same, the plainest name.
    priced
        .min_by_key(|(price, model)| (*price, model.name.len(), &model.name))
        .map(|(_, model)| Arc::clone(model))
}

/// Run again: everything is as it was.
async fn again(server: &Server, settings: &Settings) -> Result<(), AppError> {
    let mut read = server.services().store.read().await?;
    let subkey = crate::store::subkey::find_by_name(&mut read.conn(), "default", SUBKEY).await?;
    println!("{} is set up already; nothing was changed.", settings.data_dir.display());
    println!("OpenAI SDKs     {}/v1", server.proxy_url());
    println!("Anthropic SDKs  {}", server.proxy_url());
    println!("Google GenAI    {}", server.proxy_url());
    println!("admin API       {}", server.admin_url());
    if let Some(id) = subkey {
        println!("new secret      BITTING_TOKEN=bo_... bitting subkey rotate {id}");
    }
    println!("lost the operator token?  bitting operator recover --data {}", settings.data_dir.display());
    Ok(())
}
