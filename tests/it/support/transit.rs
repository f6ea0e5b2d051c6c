//! A server that speaks the transit API of Vault and `OpenBao`, as far as a wrapped key needs it, and misbehaves on
//! demand. Statuses and words are those that an `OpenBao` 2.7 gives.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bitting::base::Entropy;
use bitting::http::{Entrance, Limits, Tls};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the server does with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// What it should.
    Works,
    /// 403, as for a token without the policy; repeats the token in its words, which no real one does.
    Denies,
    /// 403 for unwrapping alone.
    DeniesUnwrapping,
    /// 503, as when it is sealed.
    Sealed,
    /// This status.
    Answers(u16),
    /// Takes the call and says nothing.
    Hangs,
    /// Wraps into this text instead.
    Wraps(String),
    /// Unwraps to this text instead.
    Unwraps(String),
    /// 200 with this text, as what stands before a server gives.
    Says(String),
}

/// The server, and a folder for its token.
pub(crate) struct Transit {
    address: SocketAddr,
    tls: Option<Tls>,
    state: Shared,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    pub(crate) folder: TempDir,
}

type Shared = Arc<Mutex<Inside>>;

struct Inside {
    token: String,
    mood: Mood,
    /// What comes before the mood, one for each call.
    first: Vec<Mood>,
    calls: usize,
    tokens_seen: Vec<String>,
    namespaces_seen: Vec<Option<String>>,
    /// Ciphertext, key, plaintext, associated data.
    wrapped: Vec<(String, String, String, String)>,
}

impl Transit {
    /// Starts one with the key `bitting` at the mount `transit`.
    pub(crate) async fn start() -> Self {
        Self::start_by(None).await
    }

    /// Starts one that speaks TLS.
    pub(crate) async fn start_with(tls: Tls) -> Self {
        Self::start_by(Some(tls)).await
    }

    async fn start_by(tls: Option<Tls>) -> Self {
        let inside = Inside {
            token: String::new(),
            mood: Mood::Works,
            first: vec![],
            calls: 0,
            tokens_seen: vec![],
            namespaces_seen: vec![],
            wrapped: vec![],
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { address, tls, state: Arc::new(Mutex::new(inside)), running: None, folder };
        server.serve(listener);
        server.set_token("s.first-token");
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        let app = Router::new()
            .route("/v1/transit/encrypt/{key}", post(encrypt))
            .route("/v1/transit/decrypt/{key}", post(decrypt))
            .with_state(Arc::clone(&self.state));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let entrance = Entrance { tls: self.tls.clone(), ..Entrance::default() };
        let serving = async move {
            let server =
                bitting::http::serve(listener, entrance, Limits::default(), app, CancellationToken::new());
            stopped.run_until_cancelled_owned(server).await;
        };
        self.running = Some((stop, tokio::spawn(serving)));
    }

    /// The settings that name it, as the environment would give them.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        vec![
            ("BITTING_KEK_TRANSIT_URL", format!("{scheme}://{}", self.address)),
            ("BITTING_KEK_TRANSIT_KEY", "bitting".to_owned()),
            ("BITTING_KEK_TRANSIT_TOKEN_FILE", self.folder.path().join("token").display().to_string()),
        ]
    }

    /// Another token is valid from now on, and stands in the token's file.
    pub(crate) fn set_token(&self, token: &str) {
        write_secret(&self.folder.path().join("token"), &format!("{token}\n"), 0o600);
        token.clone_into(&mut self.state.lock().unwrap().token);
    }

    /// It behaves like this from now on.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The next calls meet these moods, one each.
    pub(crate) fn meet_first(&self, moods: &[Mood]) {
        self.state.lock().unwrap().first = moods.iter().rev().cloned().collect();
    }

    /// The calls since the last time that this was asked.
    pub(crate) fn calls(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().calls)
    }

    /// The tokens and namespaces of all calls.
    pub(crate) fn seen(&self) -> (Vec<String>, Vec<Option<String>>) {
        let inside = self.state.lock().unwrap();
        (inside.tokens_seen.clone(), inside.namespaces_seen.clone())
    }

    /// What was wrapped, in base64.
    pub(crate) fn plaintexts(&self) -> Vec<String> {
        self.state.lock().unwrap().wrapped.iter().map(|row| row.2.clone()).collect()
    }

    /// Nobody listens any more.
    pub(crate) async fn go_down(&mut self) {
        let (stop, running) = self.running.take().unwrap();
        stop.cancel();
        running.await.unwrap();
    }

    /// It listens again, where it did.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }
}

impl Drop for Transit {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.running {
            stop.cancel();
        }
    }
}

/// Writes a file that may be read by whom `mode` says.
pub(crate) fn write_secret(path: &std::path::Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn errors(status: u16, text: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), axum::Json(json!({"errors": [text]}))).into_response()
}

fn data(data: &Value) -> Response {
    let body = json!({"request_id": "r", "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": data, "wrap_info": null, "warnings": null, "auth": null});
    axum::Json(body).into_response()
}

async fn encrypt(
    State(state): State<Shared>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mood = match arrive(&state, &headers).await {
        Ok(mood) => mood,
        Err(refused) => return refused,
    };
    if key != "bitting" {
        return errors(400, "encryption key not found");
    }
    if let Mood::Wraps(ciphertext) = mood {
        return data(&json!({"ciphertext": ciphertext, "key_version": 1}));
    }
    assert!(matches!(mood, Mood::Works | Mood::DeniesUnwrapping | Mood::Unwraps(_)), "{mood:?}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let ciphertext = format!("vault:v1:{}", Entropy::new().base62(80));
    let text = |field: &str| body[field].as_str().unwrap().to_owned();
    let row = (ciphertext.clone(), key, text("plaintext"), text("associated_data"));
    state.lock().unwrap().wrapped.push(row);
    data(&json!({"ciphertext": ciphertext, "key_version": 1}))
}

async fn decrypt(
    State(state): State<Shared>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mood = match arrive(&state, &headers).await {
        Ok(mood) => mood,
        Err(refused) => return refused,
    };
    match mood {
        Mood::DeniesUnwrapping => return errors(403, "1 error occurred:\n\t* permission denied\n\n"),
        Mood::Unwraps(text) => return data(&json!({"plaintext": text})),
        _ => {}
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    let inside = state.lock().unwrap();
    let same = |row: &&(String, String, String, String)| row.0 == body["ciphertext"] && row.1 == key;
    match inside.wrapped.iter().find(same) {
        Some(row) if row.3 == body["associated_data"] => data(&json!({"plaintext": row.2})),
        _ => errors(400, "cipher: message authentication failed"),
    }
}

/// Counts a call and refuses it, if it is to be refused whatever it is.
async fn arrive(state: &Shared, headers: &HeaderMap) -> Result<Mood, Response> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let token = header("x-vault-token").unwrap_or_default();
    let (mood, valid) = {
        let mut inside = state.lock().unwrap();
        inside.calls += 1;
        inside.tokens_seen.push(token.clone());
        inside.namespaces_seen.push(header("x-vault-namespace"));
        let mood = inside.first.pop().unwrap_or_else(|| inside.mood.clone());
        (mood, inside.token == token)
    };
    match mood {
        Mood::Hangs => std::future::pending().await,
        Mood::Says(text) => Err(text.into_response()),
        Mood::Sealed => Err(errors(503, "Vault is sealed")),
        Mood::Answers(307) => {
            Err((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "http://127.0.0.1:1/")]).into_response())
        }
        Mood::Answers(status) => Err(errors(status, "as it was told\n\tto; your token is not shown")),
        Mood::Denies => Err(errors(403, &format!("permission denied to {token}"))),
        _ if !valid => Err(errors(403, "permission denied")),
        mood => Ok(mood),
    }
}
