//! Changes of sub-keys: patch, rotate, suspend, resume, revoke.
//!
//! Each is written over the version that it was made from, with its budgets and its entry, in one transaction; then
//! the registry takes it in, and only then the call returns: what was taken away is gone. Between commit and registry
//! nothing is waited for. A change that another got in between of is made again from what is there then.

use super::{SubKeyState, check_references, no_project};
use crate::base::Secret;
use crate::service::project::{ExceedsCeiling, lineage_in, within_ceilings};
use crate::service::{Actor, AlreadyDone, GuardError, OutOfReach, Services, StoreError};
use crate::store::budget::BudgetOwner;
use crate::store::{self, Conn};
use crate::subkey::{Definition, DefinitionError, SecretRecord, State, SubKey, SubKeyId, SubKeyToken};
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Why a sub-key was not changed. `R` is the change's own reason to refuse.
#[derive(Debug, thiserror::Error)]
pub enum ChangeSubkeyError<R> {
    /// There is none, or none within the operator's reach.
    #[error("there is no such sub-key")]
    NotFound,
    /// It is not at the version that the change was made for.
    #[error("the sub-key was changed; it is at version {version} now")]
    Moved {
        /// Its version.
        version: i64,
    },
    /// The change refuses.
    #[error("{0}")]
    Refused(R),
    /// A field makes no sense.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The new project is not one of the operator's.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
    /// It asks for more than a project above it allows.
    #[error(transparent)]
    ExceedsCeiling(#[from] ExceedsCeiling),
    /// A sub-key of the project that is not revoked has the name.
    #[error("the project has a sub-key of this name")]
    NameTaken {
        /// That sub-key.
        id: String,
    },
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a state was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateRefusal {
    /// Revoked is for ever.
    #[error("the sub-key is revoked, which is final; mint another")]
    Revoked,
}

/// Why a secret was not rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateRefusal {
    /// Revoked is for ever.
    #[error("the sub-key is revoked, which is final; mint another")]
    Revoked,
    /// A third secret would be live.
    #[error("two secrets are live; wait until the older one expires, or rotate with overlap_seconds 0")]
    TwoSecretsLive,
    /// Longer than a week.
    #[error("an overlap has at most 604800 seconds")]
    Overlap,
}

/// A sub-key with a fresh secret, which is nowhere else.
pub struct Rotated {
    /// The sub-key.
    pub subkey: SubKeyState,
    /// The whole token, to be shown once.
    pub token: Secret<String>,
}

const OVERLAP_SECONDS_MAX: u32 = 604_800;
/// How often a change is made again because another got in between.
const TRIES_MAX: usize = 5;

/// What a change comes to.
struct Plan {
    definition: Definition,
    state: State,
    rotation: Option<Rotation>,
    detail: Value,
}

struct Rotation {
    new: SecretRecord,
    overlap: TimeDelta,
}

impl Services {
    /// Changes the definition to what `change` makes of it. `change` may be called again with a newer definition.
    pub async fn change_subkey<R: Send>(
        &self,
        actor: &Actor,
        id: &SubKeyId,
        expected: Option<i64>,
        change: impl Fn(&Definition) -> Result<Definition, R> + Send + Sync,
    ) -> Result<SubKeyState, ChangeSubkeyError<R>> {
        let plan = |subkey: &SubKey| {
            let mut definition = change(&subkey.definition).map_err(ChangeSubkeyError::Refused)?;
            definition.validate()?;
            definition.succeed(&subkey.definition, self.ledger.now());
            if !actor.operator.reaches(&definition.project) {
                return Err(OutOfReach.into());
            }
            if definition == subkey.definition {
                return Ok(None);
            }
            let detail = json!({"changed": difference(&subkey.definition, &definition)});
            Ok(Some(Plan { definition, state: subkey.state, rotation: None, detail }))
        };
        self.rewrite(actor, id, expected, "subkey.patch", plan).await
    }

    /// Gives the sub-key a fresh secret; the old one lives `overlap_seconds` more (0: it dies with this call).
    pub async fn rotate_subkey(
        &self,
        actor: &Actor,
        id: &SubKeyId,
        expected: Option<i64>,
        overlap_seconds: u32,
    ) -> Result<Rotated, ChangeSubkeyError<RotateRefusal>> {
        if overlap_seconds > OVERLAP_SECONDS_MAX {
            return Err(ChangeSubkeyError::Refused(RotateRefusal::Overlap));
        }
        let token = SubKeyToken::generate(id.clone(), &self.entropy);
        let new = self.secret_record(&token, self.clock.now())?;
        let plan = |subkey: &SubKey| {
            if subkey.state == State::Revoked {
                return Err(ChangeSubkeyError::Refused(RotateRefusal::Revoked));
            }
            // Without overlap every old secret dies, however many there are.
            if overlap_seconds > 0 && subkey.live_secrets(self.clock.now()).count() > 1 {
                return Err(ChangeSubkeyError::Refused(RotateRefusal::TwoSecretsLive));
            }
            Ok(Some(Plan {
                definition: subkey.definition.clone(),
                state: subkey.state,
                rotation: Some(Rotation {
                    new: new.clone(),
                    overlap: TimeDelta::seconds(i64::from(overlap_seconds)),
                }),
                detail: json!({"secret_id": new.id, "overlap_seconds": overlap_seconds}),
            }))
        };
        let subkey = self.rewrite(actor, id, expected, "subkey.rotate", plan).await?;
        Ok(Rotated { subkey, token: token.reveal() })
    }

    /// Suspends, resumes or revokes. What is so already stays so.
    pub async fn set_subkey_state(
        &self,
        actor: &Actor,
        id: &SubKeyId,
        expected: Option<i64>,
        state: State,
    ) -> Result<SubKeyState, ChangeSubkeyError<StateRefusal>> {
        let action = match state {
            State::Active => "subkey.resume",
            State::Suspended => "subkey.suspend",
            State::Revoked => "subkey.revoke",
        };
        let plan = |subkey: &SubKey| match subkey.state {
            before if before == state => Ok(None),
            State::Revoked => Err(ChangeSubkeyError::Refused(StateRefusal::Revoked)),
            before => Ok(Some(Plan {
                definition: subkey.definition.clone(),
                state,
                rotation: None,
                detail: json!({"before": before.as_str(), "after": state.as_str()}),
            })),
        };
        self.rewrite(actor, id, expected, action, plan).await
    }

    async fn rewrite<R: Send>(
        &self,
        actor: &Actor,
        id: &SubKeyId,
        expected: Option<i64>,
        action: &'static str,
        plan: impl Fn(&SubKey) -> Result<Option<Plan>, ChangeSubkeyError<R>> + Send + Sync,
    ) -> Result<SubKeyState, ChangeSubkeyError<R>> {
        for _ in 0..TRIES_MAX {
            if let Some(changed) = self.try_rewrite(actor, id, expected, action, &plan).await? {
                self.registry.changed(changed.subkey.clone());
                // What the writer had begun by the old state is committed, or not, before this returns.
                self.ledger.pass().await;
                return Ok(changed);
            }
        }
        let mut read = self.store.read().await?;
        let now_there = store::subkey::get(&mut read.conn(), id).await?.ok_or(ChangeSubkeyError::NotFound)?;
        Err(ChangeSubkeyError::Moved { version: now_there.version })
    }

    /// The sub-key as it is afterwards; `None` when another change got in between.
    async fn try_rewrite<R: Send>(
        &self,
        actor: &Actor,
        id: &SubKeyId,
        expected: Option<i64>,
        action: &'static str,
        plan: &(impl Fn(&SubKey) -> Result<Option<Plan>, ChangeSubkeyError<R>> + Send + Sync),
    ) -> Result<Option<SubKeyState>, ChangeSubkeyError<R>> {
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, id.as_str()).await??;
        let old = store::subkey::get(&mut tx.conn(), id).await?;
        let old = old.filter(|subkey| actor.operator.reaches(&subkey.definition.project));
        let old = old.ok_or(ChangeSubkeyError::NotFound)?;
        if expected.is_some_and(|expected| expected != old.version) {
            return Err(ChangeSubkeyError::Moved { version: old.version });
        }
        tx.check_subkey(&old).await?;
        let Some(Plan { mut definition, state, rotation, mut detail }) = plan(&old)? else {
            // So already, perhaps by a call whose end nobody saw.
            let old = self.with_budgets(&mut tx.conn(), vec![old]).await?.pop();
            tx.commit().await?;
            return Ok(old);
        };
        if old.definition != definition {
            let above = lineage_in(&mut tx, &definition.project).await?.ok_or_else(no_project)?;
            if refers_elsewhere(&old.definition, &definition) {
                check_references(&mut tx.conn(), &definition, &above).await??;
            }
            // What a change leaves alone it is not refused for: narrowing a key must always be possible.
            let changed = difference(&old.definition, &definition);
            let is_moved = changed.get("project").is_some();
            let is_touched = |field: &str| is_moved || is_touched(&changed, field);
            within_ceilings(&above, &definition, old.created_at, is_touched)?;
        }
        let budgets = (old.definition.budgets.as_slice(), definition.budgets.as_mut_slice());
        self.succeed_removed(&mut tx.conn(), &BudgetOwner::subkey(id), budgets).await?;
        let version = match store::subkey::update(&mut tx.conn(), id, old.version, &definition, state).await {
            Ok(Some(version)) => version,
            Ok(None) => return Ok(None),
            Err(StoreError::Conflict { table: "subkeys" }) => {
                drop(tx);
                return Err(ChangeSubkeyError::NameTaken { id: self.holder_of_name(&definition).await? });
            }
            Err(StoreError::Reference { table: "subkeys" }) => return Err(no_project().into()),
            Err(error) => return Err(error.into()),
        };
        if old.definition.budgets != definition.budgets {
            let budgets = (old.definition.budgets.as_slice(), definition.budgets.as_slice());
            self.rewrite_budgets(&mut tx.conn(), &BudgetOwner::subkey(id), budgets).await?;
        }
        if let Some(rotation) = rotation {
            tx.vouch_for(&rotation.new)?;
            self.rotate_secrets(&mut tx.conn(), &old, rotation).await?;
        }
        detail["version"] = json!(version);
        self.note(&mut tx.conn(), actor, action, id.as_str(), detail).await?;
        let new = tx.sign_subkey(id).await?.ok_or(ChangeSubkeyError::NotFound)?;
        let new = self.with_budgets(&mut tx.conn(), vec![new]).await?.pop();
        tx.commit().await?;
        Ok(new)
    }

    async fn rotate_secrets(
        &self,
        conn: &mut Conn<'_>,
        old: &SubKey,
        rotation: Rotation,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        for secret in &old.secrets {
            let is_dead = secret.expires_at.is_some_and(|end| end <= now);
            if is_dead || rotation.overlap == TimeDelta::zero() {
                store::subkey::delete_secret(conn, &secret.id).await?;
            } else {
                store::subkey::expire_secret(conn, &secret.id, now + rotation.overlap).await?;
            }
        }
        store::subkey::add_secret(conn, &old.id, &rotation.new).await
    }
}

fn refers_elsewhere(old: &Definition, new: &Definition) -> bool {
    (&old.provider_order, &old.credential, &old.project)
        != (&new.provider_order, &new.credential, &new.project)
}

/// Whether the change touches what a field's excess depends on; both lists of models are one.
fn is_touched(changed: &Value, field: &str) -> bool {
    let names: &[&str] = match field {
        "/models" | "/deny_models" => &["models", "deny_models"],
        field => &[field.trim_start_matches('/')],
    };
    names.iter().any(|name| changed.get(name).is_some())
}

/// What was changed, field by field. A definition holds no secret.
pub(in crate::service) fn difference(old: &impl Serialize, new: &impl Serialize) -> Value {
    let (old, new) = (fields(old), fields(new));
    let changed = new.iter().filter(|(name, value)| old.get(*name) != Some(value));
    let told = |(name, value): (&String, &Value)| {
        (name.clone(), json!({"before": old.get(name).cloned().unwrap_or_default(), "after": value}))
    };
    Value::Object(changed.map(told).collect())
}

fn fields(definition: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(definition) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    }
}
