//! Whose an object is that a provider keeps: one rule, held against whoever names its id.
//!
//! An object belongs to the sub-key that made it, and, where that key had `share_objects` then, to the project in which
//! the key stood. What was made alone stays alone, whatever the key is set to later.

use super::{SubKey, SubKeyId};

/// A sub-key where it stands, as the holder of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The sub-key.
    pub subkey: SubKeyId,
    /// The project that it is in.
    pub project: String,
    /// Whether it has `share_objects`.
    pub shares: bool,
}

/// Whom an object belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging {
    /// The sub-key that made it.
    pub subkey: SubKeyId,
    /// The project whose it is, when it was made to be shared.
    pub project: Option<String>,
}

impl Holder {
    /// The sub-key as it is now.
    pub fn of(subkey: &SubKey) -> Self {
        let definition = &subkey.definition;
        Self {
            subkey: subkey.id.clone(),
            project: definition.project.clone(),
            shares: definition.share_objects,
        }
    }

    /// Whom what it makes now belongs to.
    pub fn makes(&self) -> Belonging {
        Belonging { subkey: self.subkey.clone(), project: self.shares.then(|| self.project.clone()) }
    }

    /// Whether it may use the object. What is a project's stays in the project: whoever shared it and was moved to another
    /// one has it no longer, for others may have added to it.
    pub fn may_use(&self, object: &Belonging) -> bool {
        let is_maker = object.subkey == self.subkey;
        match &object.project {
            None => is_maker,
            Some(project) => *project == self.project && (is_maker || self.shares),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder((key, project, shares): (u8, u8, bool)) -> Holder {
        let subkey = SubKeyId::parse(&format!("{key:016}")).unwrap();
        Holder { subkey, project: format!("project-{project}"), shares }
    }

    #[test]
    fn an_object_is_its_makers_alone_unless_both_share_in_one_project() {
        let maker = holder((1, 1, false));
        for (other, shares) in [((2, 1, false), false), ((2, 1, true), false), ((1, 2, true), true)] {
            assert_eq!(holder(other).may_use(&maker.makes()), shares, "{other:?}");
        }
        let shared = holder((1, 1, true)).makes();
        for (other, may) in
            [((2, 1, true), true), ((2, 1, false), false), ((2, 2, true), false), ((1, 1, false), true)]
        {
            assert_eq!(holder(other).may_use(&shared), may, "{other:?}");
        }
    }

    #[test]
    fn what_was_shared_stays_in_the_project_when_its_maker_is_moved() {
        let shared = holder((1, 1, true)).makes();
        assert!(!holder((1, 2, true)).may_use(&shared));
        assert!(holder((2, 1, true)).may_use(&shared));
        assert!(holder((1, 1, true)).may_use(&shared), "and is there when it comes back");
    }

    #[test]
    fn sharing_later_shares_nothing_that_was_made_before() {
        let alone = holder((1, 1, false)).makes();
        assert!(!holder((2, 1, true)).may_use(&alone));
        assert!(holder((1, 1, true)).may_use(&alone) && holder((1, 2, false)).may_use(&alone));
    }

    proptest! {
        #[test]
        fn nobody_uses_what_another_project_or_another_key_made_alone(
            maker in (0..3_u8, 0..3_u8, any::<bool>()), asker in (0..3_u8, 0..3_u8, any::<bool>()),
        ) {
            let may = holder(asker).may_use(&holder(maker).makes());
            let (same_key, same_project) = (maker.0 == asker.0, maker.1 == asker.1);
            if may {
                prop_assert!(same_key || (same_project && maker.2 && asker.2));
            } else {
                // Whoever made it and was neither moved nor shared it has it.
                prop_assert!(!(same_key && (same_project || !maker.2)));
            }
        }
    }
}
