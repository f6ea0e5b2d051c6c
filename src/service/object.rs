//! Who may use what a provider keeps: asked before anything is forwarded that names it.
//!
//! Many sub-keys share one account, and the provider shows each of them all that the account has. So an id counts only
//! for whom it belongs to; unknown, gone and somebody else's are one and the same, found by one and the same query.

use super::{Caller, Services, StoreError};
use crate::base::clip;
use crate::provider::{ObjectId, ObjectKind, ObjectOrder, Slug};
use crate::store::deferred;
use crate::store::object::{self, ObjectFilter, ObjectRecord};
use crate::subkey::Holder;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The most ids that one request may name.
const IDS_MAX: usize = 10_000;
/// How much of an id is told that may be none.
const SHOWN_BYTES_MAX: usize = 256;
/// How long what is gone is remembered: so long it is known to be somebody's.
const GONE_FOR: TimeDelta = TimeDelta::days(30);
/// How long a charge waits for the use that it is for: longer than any response is kept.
const DEFERRED_FOR: TimeDelta = TimeDelta::days(60);
/// Forgotten in one transaction, of each sort.
const FORGET_MAX: u32 = 500;

/// An object as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'n> {
    /// What it has to be; `None` where anything may stand.
    pub kind: Option<ObjectKind>,
    /// The text that stands for it.
    pub id: &'n str,
}

/// Why objects cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is none of this id that the caller may use. Nothing tells whether somebody else may.
    #[error("there is no object {id} that this key may use; an object is its maker's")]
    NotFound {
        /// The id, as it was named.
        id: String,
    },
    /// Several providers gave the caller this id.
    #[error("{id} is an object of {}; name the provider in the path, as /p/PROVIDER", slugs(providers))]
    Ambiguous {
        /// The id.
        id: String,
        /// The providers.
        providers: Vec<Slug>,
    },
    /// More are named than one request may.
    #[error("a request may name at most {ids_max} objects")]
    TooMany {
        /// The bound.
        ids_max: usize,
    },
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn slugs(providers: &[Slug]) -> String {
    providers.iter().map(Slug::as_str).collect::<Vec<_>>().join(", ")
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListPlace<'p> {
    /// From its beginning.
    #[default]
    Start,
    /// What follows on this object of the caller's, which may be gone by now.
    After(&'p str),
    /// What comes right before it.
    Before(&'p str),
}

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub struct ObjectList<'l> {
    /// Kept by this provider.
    pub provider: &'l Slug,
    /// Of this kind.
    pub kind: ObjectKind,
    /// Which part.
    pub place: ListPlace<'l>,
    /// In this order.
    pub order: ObjectOrder,
    /// At most so many, and at most [`crate::store::PAGE_MAX`].
    pub limit: u32,
}

/// A part of a list as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObjects {
    /// The objects, in the order that was asked for.
    pub items: Vec<ObjectRecord>,
    /// Whether there are more in the direction that was asked for.
    pub has_more: bool,
}

impl Services {
    /// The objects that are named, one for each name in their order, all of them the caller's. Where no provider is named,
    /// each may be with any.
    pub async fn owned_objects(
        &self,
        caller: &Caller,
        provider: Option<&Slug>,
        names: &[ObjectName<'_>],
    ) -> Result<Vec<ObjectRecord>, ObjectError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let providers: Vec<&Slug> = provider.into_iter().collect();
        let found = self.on_record(&providers, names.iter().map(|name| name.id)).await?;
        let (holder, now) = (Holder::of(&caller.key.subkey), self.clock.now());
        names.iter().map(|name| pick(&found, *name, &holder, now)).collect()
    }

    /// Those of the ids that are known to be somebody else's at the provider, or at another one of the same address, behind
    /// which there may be the same account. Nobody knows of the rest: what a provider did not make it cannot show.
    pub async fn anyone_elses(
        &self,
        caller: &Caller,
        provider: &Slug,
        ids: &[&str],
    ) -> Result<Vec<String>, ObjectError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let neighbours = self.at_the_same_address(provider);
        let found = self.on_record(&neighbours.iter().collect::<Vec<_>>(), ids.iter().copied()).await?;
        let holder = Holder::of(&caller.key.subkey);
        let is_anothers = |id: &&&str| {
            let records = found.get(**id).map(Vec::as_slice).unwrap_or_default();
            let own = |record: &ObjectRecord| holder.may_use(&record.object.belongs);
            match records.iter().find(|record| record.object.provider == *provider) {
                Some(record) => !own(record),
                None => !records.is_empty() && !records.iter().any(own),
            }
        };
        Ok(ids.iter().filter(is_anothers).map(|id| (*id).to_owned()).collect())
    }

    /// A part of the list of what the caller may use.
    pub async fn list_objects(
        &self,
        caller: &Caller,
        list: &ObjectList<'_>,
    ) -> Result<ListedObjects, ObjectError> {
        let (holder, now) = (Holder::of(&caller.key.subkey), self.clock.now());
        let (edge, order) = match list.place {
            ListPlace::Start => (None, list.order),
            ListPlace::After(id) => (Some(id), list.order),
            // Away from the edge; turned round in the end.
            ListPlace::Before(id) => (Some(id), list.order.opposite()),
        };
        let after = match edge {
            Some(id) => Some(self.edge_of(list, &holder, id).await?.place()),
            None => None,
        };
        let filter = ObjectFilter { holder: &holder, provider: list.provider, kind: list.kind, now };
        let mut read = self.store.read().await?;
        let page = object::page(&mut read.conn(), filter, after.as_ref(), (order, list.limit)).await?;
        let mut items = page.items;
        if matches!(list.place, ListPlace::Before(_)) {
            items.reverse();
        }
        Ok(ListedObjects { items, has_more: page.next.is_some() })
    }

    /// Those of the named objects that the caller may use, in the order of lists; of the rest it is told nothing.
    pub async fn objects_among(
        &self,
        caller: &Caller,
        (provider, kind): (&Slug, ObjectKind),
        ids: &[String],
    ) -> Result<Vec<ObjectRecord>, ObjectError> {
        let found = self.on_record(&[provider], ids.iter().map(String::as_str)).await?;
        let (holder, now) = (Holder::of(&caller.key.subkey), self.clock.now());
        let is_listed = |record: &ObjectRecord| {
            record.is_there(now) && record.object.kind == kind && holder.may_use(&record.object.belongs)
        };
        let mut listed: Vec<ObjectRecord> = found.into_values().flatten().filter(is_listed).collect();
        listed.sort_by(|a, b| (b.object.created_at, &b.object.id).cmp(&(a.object.created_at, &a.object.id)));
        Ok(listed)
    }

    /// The object that a part of a list begins at. One that was deleted between two pages has its place still.
    async fn edge_of(
        &self,
        list: &ObjectList<'_>,
        holder: &Holder,
        id: &str,
    ) -> Result<ObjectRecord, ObjectError> {
        let mut found = self.on_record(&[list.provider], [id]).await?;
        let edge = found
            .remove(id)
            .unwrap_or_default()
            .into_iter()
            .find(|record| record.object.kind == list.kind && holder.may_use(&record.object.belongs));
        edge.ok_or_else(|| not_found(id))
    }

    /// Forgets some of what has been gone for long; whether there may be more.
    pub async fn forget_objects(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        let forgotten = object::forget(&mut tx.conn(), now - GONE_FOR, FORGET_MAX).await?;
        let waiting = deferred::forget(&mut tx.conn(), now - DEFERRED_FOR, FORGET_MAX).await?;
        tx.commit().await?;
        Ok(forgotten.max(waiting) >= u64::from(FORGET_MAX))
    }

    /// Those of the ids that are on record with the provider, whosever they are, gone ones, too.
    ///
    /// # Errors
    /// The database failed.
    pub async fn known_objects(
        &self,
        provider: &Slug,
        ids: &[&ObjectId],
    ) -> Result<HashSet<ObjectId>, StoreError> {
        let mut read = self.store.read().await?;
        let records = object::find(&mut read.conn(), &[provider], ids).await?;
        Ok(records.into_iter().map(|record| record.object.id).collect())
    }

    /// What is on record of the ids, by id. A text that can be no id is not.
    async fn on_record(
        &self,
        providers: &[&Slug],
        ids: impl IntoIterator<Item = &str>,
    ) -> Result<HashMap<String, Vec<ObjectRecord>>, ObjectError> {
        let ids: BTreeSet<ObjectId> = ids.into_iter().filter_map(|id| id.parse().ok()).collect();
        if ids.len() > IDS_MAX {
            return Err(ObjectError::TooMany { ids_max: IDS_MAX });
        }
        let mut read = self.store.read().await?;
        let records = object::find(&mut read.conn(), providers, &ids.iter().collect::<Vec<_>>()).await?;
        let mut found: HashMap<String, Vec<ObjectRecord>> = HashMap::with_capacity(records.len());
        for record in records {
            found.entry(record.object.id.to_string()).or_default().push(record);
        }
        Ok(found)
    }

    /// The provider, and those that have an address in common with it.
    fn at_the_same_address(&self, provider: &Slug) -> BTreeSet<Slug> {
        let snapshot = self.snapshot();
        let origins = |slug: &Slug| -> BTreeSet<String> {
            let entry = snapshot.providers.get(slug);
            let endpoints = entry.into_iter().flat_map(|entry| entry.provider.dialects.values());
            endpoints.map(|endpoint| endpoint.base_url.origin()).collect()
        };
        let own = origins(provider);
        let mut slugs: BTreeSet<Slug> =
            snapshot.providers.keys().filter(|slug| !own.is_disjoint(&origins(slug))).cloned().collect();
        slugs.insert(provider.clone());
        slugs
    }
}

/// The one object of this name that the holder may use.
fn pick(
    found: &HashMap<String, Vec<ObjectRecord>>,
    name: ObjectName<'_>,
    holder: &Holder,
    now: DateTime<Utc>,
) -> Result<ObjectRecord, ObjectError> {
    let records = found.get(name.id).map(Vec::as_slice).unwrap_or_default();
    let is_usable = |record: &&ObjectRecord| {
        record.is_there(now)
            && name.kind.is_none_or(|kind| record.object.kind == kind)
            && holder.may_use(&record.object.belongs)
    };
    let mut usable = records.iter().filter(is_usable);
    match (usable.next(), usable.next()) {
        (None, _) => Err(not_found(name.id)),
        (Some(record), None) => Ok(record.clone()),
        (Some(_), Some(_)) => {
            let mut providers: Vec<Slug> =
                records.iter().filter(is_usable).map(|record| record.object.provider.clone()).collect();
            providers.sort();
            Err(ObjectError::Ambiguous { id: name.id.to_owned(), providers })
        }
    }
}

fn not_found(id: &str) -> ObjectError {
    ObjectError::NotFound { id: clip(id, SHOWN_BYTES_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::object::NewObject;
    use crate::subkey::SubKeyId;
    use proptest::prelude::*;

    fn holder((key, project, shares): (u8, u8, bool)) -> Holder {
        let subkey = SubKeyId::parse(&format!("{key:016}")).unwrap();
        Holder { subkey, project: format!("project-{project}"), shares }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// An object `x` with one of three providers.
    #[derive(Clone, Debug)]
    struct Made {
        by: (u8, u8, bool),
        provider: u8,
        kind: ObjectKind,
        expires: Option<i64>,
        deleted: bool,
    }

    fn record(made: &Made) -> ObjectRecord {
        let object = NewObject {
            provider: format!("p{}", made.provider).parse().unwrap(),
            id: "x".parse().unwrap(),
            kind: made.kind,
            belongs: holder(made.by).makes(),
            credential_id: "cred".into(),
            model: None,
            parent: None,
            created_at: at(0),
            expires_at: made.expires.map(at),
            document: None,
        };
        ObjectRecord { object, deleted_at: made.deleted.then(|| at(1)) }
    }

    fn whose() -> impl Strategy<Value = (u8, u8, bool)> {
        (0..2_u8, 0..2_u8, any::<bool>())
    }

    fn kinds() -> impl Strategy<Value = ObjectKind> {
        prop_oneof![Just(ObjectKind::File), Just(ObjectKind::Response)]
    }

    fn made() -> impl Strategy<Value = Made> {
        (whose(), kinds(), prop::option::of(0..4_i64), prop::bool::weighted(0.2))
            .prop_map(|(by, kind, expires, deleted)| Made { by, provider: 0, kind, expires, deleted })
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_only_one_that_is_there_and_the_askers(
            mades in prop::collection::vec(made(), 0..4), asker in whose(), kind in prop::option::of(kinds()),
        ) {
            // A provider has an id once.
            let mades: Vec<Made> =
                mades.into_iter().zip(0..).map(|(made, provider)| Made { provider, ..made }).collect();
            let records: Vec<ObjectRecord> = mades.iter().map(record).collect();
            let found = HashMap::from([("x".to_owned(), records.clone())]);
            let picked = pick(&found, ObjectName { kind, id: "x" }, &holder(asker), at(2));
            let right: Vec<&ObjectRecord> = records
                .iter()
                .zip(&mades)
                .filter(|(record, made)| {
                    !made.deleted
                        && made.expires.is_none_or(|end| end > 2)
                        && kind.is_none_or(|kind| kind == made.kind)
                        && holder(asker).may_use(&record.object.belongs)
                })
                .map(|(record, _)| record)
                .collect();
            match picked {
                Ok(one) => prop_assert_eq!(vec![&one], right),
                Err(ObjectError::NotFound { id }) => prop_assert!(id == "x" && right.is_empty()),
                Err(ObjectError::Ambiguous { providers, .. }) => {
                    let named: Vec<Slug> = right.iter().map(|one| one.object.provider.clone()).collect();
                    prop_assert!(named.len() > 1);
                    prop_assert_eq!(providers, named);
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn unknown_gone_and_anothers_are_told_alike() {
        let base =
            Made { by: (1, 1, false), provider: 0, kind: ObjectKind::File, expires: None, deleted: false };
        let told = |mades: &[Made], asker| {
            let found = HashMap::from([("x".to_owned(), mades.iter().map(record).collect())]);
            let name = ObjectName { kind: Some(ObjectKind::File), id: "x" };
            format!("{:?}", pick(&found, name, &holder(asker), at(2)).map(|_| ()))
        };
        let unknown = told(&[], (1, 1, false));
        assert!(unknown.contains("NotFound"), "{unknown}");
        assert_eq!(told(&[Made { deleted: true, ..base.clone() }], (1, 1, false)), unknown);
        assert_eq!(told(&[Made { expires: Some(2), ..base.clone() }], (1, 1, false)), unknown);
        assert_eq!(told(&[Made { kind: ObjectKind::Batch, ..base.clone() }], (1, 1, false)), unknown);
        assert_eq!(told(std::slice::from_ref(&base), (2, 1, true)), unknown);
        assert!(told(&[base], (1, 1, false)).starts_with("Ok"));
    }
}
