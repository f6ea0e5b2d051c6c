//! Documents of projects, and where a project can stand.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn read(value: Value) -> Result<ProjectDefinition, String> {
    let definition: ProjectDefinition = serde_json::from_value(value).map_err(|error| error.to_string())?;
    definition.validate().map_err(|error| format!("{}: {}", error.field, error.detail))?;
    Ok(definition)
}

#[test]
fn a_project_reads_back_as_it_was_written() {
    let value = json!({
        "slug": "search", "name": "Search", "owner": "ana", "parent": "default",
        "budgets": [{"limit_usd": "25.00", "window": "month", "timezone": "Europe/Berlin", "alert_at": ["0.8"]}],
        "rate_limits": [{"metric": "requests", "limit": 60, "per": "minute"}],
        "max_subkey_ttl_seconds": 3600, "defaults": {"models": ["openai/*"], "labels": {"team": "search"}},
    });
    let project = read(value.clone()).unwrap();
    let out = serde_json::to_value(&project).unwrap();
    for (field, wanted) in value.as_object().unwrap() {
        assert_eq!(&out[field], wanted, "{field}");
    }
    assert_eq!(read(out).unwrap(), project);
    assert_eq!(read(json!({"slug": "a"})).unwrap(), ProjectDefinition::named("a", None));
    assert_eq!(read(json!({"slug": "a"})).unwrap().shown_name(), "a");
}

#[test]
fn bad_projects_are_refused_by_field() {
    let with = |field: &str, value: Value| {
        let mut project = json!({"slug": "a"});
        project[field] = value;
        read(project).expect_err(field)
    };
    for slug in ["", "A", "-a", "a/b", "a b", &"a".repeat(64)] {
        assert!(with("slug", json!(slug)).starts_with("/slug"), "{slug}");
    }
    assert!(with("budget", json!([])).contains("unknown field"));
    assert!(with("status", json!("active")).contains("unknown field"));
    let twice = json!([{"limit_usd": "5", "window": "day"}, {"limit_usd": "6", "window": "day"}]);
    assert!(with("budgets", twice).starts_with("/budgets/1/window"));
    assert!(with("budgets", json!([{"limit_usd": "-1", "window": "day"}])).contains("amount"));
    assert!(with("policies", json!(["x"])).starts_with("/policies/0"));
    assert!(with("ceiling", json!({"colour": 1})).contains("unknown field"));
    let ends = json!({"not_before": "2027-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z"});
    assert!(with("ceiling", ends).starts_with("/ceiling/expires_at"));
    assert!(with("max_subkey_ttl_seconds", json!(0)).starts_with("/max_subkey_ttl_seconds"));
    assert!(with("max_subkey_ttl_seconds", json!(-1)).contains("u64"));
    assert!(with("defaults", json!({"name": "x"})).starts_with("/defaults/name"));
    assert!(with("defaults", json!({"project": "x"})).starts_with("/defaults/project"));
    assert!(with("defaults", json!({"colour": "x"})).starts_with("/defaults/colour"));
    assert!(
        with("defaults", json!({"budgets": [{"window": "year"}]})).starts_with("/defaults/budgets/0/window")
    );
    assert!(with("defaults", json!({"may_delegate": true})).starts_with("/defaults/may_delegate"));
    assert!(with("parent", json!("a")).starts_with("/parent"));
    assert!(read(json!({"slug": "default", "parent": "a"})).unwrap_err().starts_with("/parent"));
}

#[test]
fn a_sub_key_lives_no_longer_than_its_project_says() {
    let project = read(json!({"slug": "a", "max_subkey_ttl_seconds": 60})).unwrap();
    let minted: DateTime<Utc> = "2027-01-01T00:00:00Z".parse().unwrap();
    let ends = |at: Value| {
        let key = serde_json::from_value(json!({"name": "k", "models": [], "expires_at": at})).unwrap();
        project.excesses(&key, minted)
    };
    assert_eq!(ends(json!("2027-01-01T00:01:00Z")), []);
    for at in [json!(null), json!("2027-01-01T00:01:01Z")] {
        let allowed = "2027-01-01T00:01:00Z or sooner".to_owned();
        assert_eq!(ends(at), [Excess { field: "/expires_at", allowed }]);
    }
}

type Forest = BTreeMap<String, Project>;

/// Puts the project where it is said, if it can stand there.
fn put(forest: &mut Forest, slug: &str, parent: Option<&str>) -> Result<(), String> {
    let definition =
        ProjectDefinition { parent: parent.map(str::to_owned), ..ProjectDefinition::named(slug, None) };
    definition.validate().map_err(|error| error.detail)?;
    let children = |of: &str| -> Vec<&str> {
        let below = forest.values().filter(|one| one.definition.parent.as_deref() == Some(of));
        below.map(|one| one.definition.slug.as_str()).collect()
    };
    Project::check_place(&definition, |slug| forest.get(slug), children).map_err(|error| error.detail)?;
    let created_at = DateTime::UNIX_EPOCH;
    let project = Project { definition, state: ProjectState::Active, version: 1, created_at };
    forest.insert(slug.to_owned(), project);
    Ok(())
}

#[test]
fn a_tree_has_no_circles_and_a_bounded_depth() {
    let mut forest = Forest::new();
    put(&mut forest, "p0", None).unwrap();
    for depth in 1..DEPTH_MAX {
        put(&mut forest, &format!("p{depth}"), Some(&format!("p{}", depth - 1))).unwrap();
    }
    assert!(put(&mut forest, "p8", Some("p7")).unwrap_err().contains("8 deep"));
    assert!(put(&mut forest, "p0", Some("p7")).unwrap_err().contains("circle"));
    assert!(put(&mut forest, "p2", Some("p3")).unwrap_err().contains("circle"));
    put(&mut forest, "top", None).unwrap();
    assert!(
        put(&mut forest, "p0", Some("top")).unwrap_err().contains("8 deep"),
        "what is below it counts, too"
    );
    put(&mut forest, "p1", Some("top")).unwrap();
    assert!(put(&mut forest, "x", Some("nowhere")).unwrap_err().contains("no project"));
    forest.get_mut("top").unwrap().state = ProjectState::Deleted;
    assert!(put(&mut forest, "x", Some("top")).unwrap_err().contains("no project"));
}

proptest! {
    /// Whatever is moved wherever: each way up ends at a root, and soon enough.
    #[test]
    fn every_way_up_ends(moves in prop::collection::vec((0..14_u8, prop::option::of(0..14_u8)), 0..120)) {
        let mut forest = Forest::new();
        for (slug, parent) in moves {
            let _ = put(&mut forest, &format!("p{slug}"), parent.map(|at| format!("p{at}")).as_deref());
            for one in forest.values() {
                let up = |one: &&Project| one.definition.parent.as_ref().map(|parent| &forest[parent]);
                let depth = std::iter::successors(Some(one), up).take(DEPTH_MAX + 1).count();
                prop_assert!(depth <= DEPTH_MAX);
            }
        }
    }
}
