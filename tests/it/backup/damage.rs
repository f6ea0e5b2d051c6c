//! Files that are not what was written, and keys that are not theirs.

use super::{FIRST, TestKek, empty, first_kek, put_back, take};
use crate::support::store::TestStore;
use bitting::base::Entropy;
use bitting::service::backup::{ArchiveError, RestoreError, check_backup, is_vacant};
use bitting::service::{KekSource, OpenVaultError};
use bitting::store::SchemaState;
use bitting::vault::Kek;

async fn refused(backup: &[u8], kek: &dyn KekSource) -> RestoreError {
    let scratch = empty(TestStore::empty_sqlite()).await;
    let checked = check_backup(&mut &*backup, &scratch.store, kek, &mut |_, _| {}).await;
    checked.err().expect("it is refused")
}

fn replaced(from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(FIRST).unwrap();
    assert!(text.contains(from));
    text.replacen(from, to, 1).into_bytes()
}

#[tokio::test]
async fn a_changed_byte_is_noticed_wherever_it_is() {
    let near_the_end = (FIRST.len() - 60..FIRST.len()).step_by(7);
    for at in (0..FIRST.len()).step_by(379).chain(near_the_end) {
        let mut changed = FIRST.to_vec();
        changed[at] ^= 1;
        refused(&changed, &first_kek().source).await;
    }
    // Sums can be made to fit by whoever changes a row; the signature cannot.
    let forged = replaced(r#""backend":"sqlite""#, r#""backend":"postgres""#);
    assert!(matches!(refused(&forged, &first_kek().source).await, RestoreError::Signature { .. }));
}

#[tokio::test]
async fn a_part_of_a_backup_is_not_one() {
    for length in (0..FIRST.len()).step_by(997).chain([FIRST.len() - 1]) {
        let error = refused(&FIRST[..length], &first_kek().source).await;
        let RestoreError::Archive(error) = error else { panic!("{error}") };
        assert!(matches!(error, ArchiveError::Truncated { .. } | ArchiveError::NotABackup), "{error}");
    }
    let longer = [FIRST, b"x"].concat();
    assert!(matches!(
        refused(&longer, &first_kek().source).await,
        RestoreError::Archive(ArchiveError::Altered { .. })
    ));
}

#[tokio::test]
async fn a_newer_backup_and_a_foreign_file_are_refused_by_name() {
    let newer = replaced(r#"["0001_first"]}"#, r#"["0001_first","0002_vault","9999_later"]}"#);
    let error = refused(&newer, &first_kek().source).await;
    assert!(error.to_string().contains("newer than this program: it has 9999_later"), "{error}");
    let form = replaced("bitting-backup/1", "bitting-backup/2");
    assert!(matches!(
        refused(&form, &first_kek().source).await,
        RestoreError::Archive(ArchiveError::UnknownForm(_))
    ));
    let order = replaced(r#"["0001_first"]}"#, r#"["0002_vault"]}"#);
    assert!(matches!(
        refused(&order, &first_kek().source).await,
        RestoreError::Archive(ArchiveError::ForeignSchema(_))
    ));
}

#[tokio::test]
async fn another_kek_does_not_open_it_and_nothing_is_written() {
    let target = empty(TestStore::empty_sqlite()).await;
    let untouched = target.store.schema_state().await.unwrap();
    let other = TestKek::of(Kek::generate(&Entropy::new()).to_line().expose());
    let error = put_back(&target.store, FIRST, &other.source).await.unwrap_err();
    assert!(matches!(error, RestoreError::Vault(OpenVaultError::Keyring(_))), "{error}");
    assert!(is_vacant(&target.store).await.unwrap());
    assert_eq!(target.store.schema_state().await.unwrap(), untouched);
    assert!(matches!(untouched, SchemaState::Pending(_)));
}

#[tokio::test]
async fn the_key_that_opens_it_is_not_in_it() {
    let from = empty(TestStore::empty_sqlite()).await;
    put_back(&from.store, FIRST, &first_kek().source).await.unwrap();
    let (backup, _) = take(&from.store, &first_kek().source).await;
    let backup = String::from_utf8(backup).unwrap();
    assert!(backup.contains("inst_") && !backup.contains("6Ssj5176yGTissbCJQsqceHCDn6UfKbEvVuwfMJPCC4="));
}
