//! The list of tables, held against the real schemas.

use crate::support::store::TestStore;
use bitting::store::dump::{Column, Kind, TABLES};
use bitting::store::{Conn, Store, migrate_within, migrations};
use std::collections::BTreeMap;

type Columns = BTreeMap<String, BTreeMap<String, (String, bool)>>;

/// Every table's columns as the database tells them: the type, and whether NULL is allowed.
async fn real(store: &Store) -> Columns {
    const SQLITE: &str = "
        SELECT t.name, c.name, c.type, c.\"notnull\" = 0 AND c.pk = 0
          FROM sqlite_schema t, pragma_table_info(t.name) c
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> '_sqlx_migrations'";
    const POSTGRES: &str = "
        SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT), is_nullable = 'YES'
          FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'";
    type Row = (String, String, String, bool);
    let mut read = store.read().await.unwrap();
    let rows: Vec<Row> = match read.conn() {
        Conn::Sqlite(db) => sqlx::query_as(SQLITE).fetch_all(db).await.unwrap(),
        Conn::Postgres(db) => sqlx::query_as(POSTGRES).fetch_all(db).await.unwrap(),
    };
    let mut columns = Columns::new();
    for (table, column, kind, optional) in rows {
        columns.entry(table).or_default().insert(column, (kind, optional));
    }
    columns
}

fn listed(backend: &str, schema: i64) -> Columns {
    let kind = |column: &Column| {
        let (sqlite, postgres) = match column.kind {
            Kind::Text => ("TEXT", "text"),
            Kind::Int => ("INTEGER", "bigint"),
            Kind::Bool => ("INTEGER", "boolean"),
            Kind::Bytes => ("BLOB", "bytea"),
            Kind::Time => ("TEXT", "timestamp with time zone"),
            Kind::Json => ("TEXT", "jsonb"),
        };
        let name = if backend == "sqlite" { sqlite } else { postgres };
        (column.name.to_owned(), (name.to_owned(), column.optional))
    };
    let tables = TABLES.iter().map(|table| (table.name.to_owned(), table.columns_at(schema)));
    let tables = tables.filter(|(_, columns)| !columns.is_empty());
    tables.map(|(name, columns)| (name, columns.into_iter().map(kind).collect())).collect()
}

async fn the_list_is_the_schema_after_each_migration((url, _folder): (String, tempfile::TempDir)) {
    let store = Store::open(&url).await.unwrap();
    for (version, name) in migrations() {
        let mut tx = store.write().await.unwrap();
        migrate_within(&mut tx.conn(), Some(version)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(real(&store).await, listed(store.backend(), version), "{name}");
    }
}

#[tokio::test]
async fn no_table_and_no_column_is_forgotten_on_sqlite() {
    the_list_is_the_schema_after_each_migration(TestStore::empty_sqlite()).await;
}

#[tokio::test]
async fn no_table_and_no_column_is_forgotten_on_postgres() {
    the_list_is_the_schema_after_each_migration(TestStore::empty_postgres().await).await;
}
