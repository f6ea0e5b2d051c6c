//! Who may what: every route by every role, and operators that are bound to projects.

use super::plane::{Plane, names, now};
use crate::support::store::on_both;
use bitting::service::{Permission, Role};
use chrono::TimeDelta;
use serde_json::json;

/// The contract's matrix, written out by hand: which roles beside `owner` pass.
fn granted(permission: Permission) -> &'static [Role] {
    use Role as R;
    match permission {
        Permission::View => &[R::VaultAdmin, R::PolicyAdmin, R::Issuer, R::Responder, R::Auditor, R::Viewer],
        Permission::ViewAlarms => {
            &[R::VaultAdmin, R::PolicyAdmin, R::Issuer, R::Responder, R::Auditor, R::Viewer]
        }
        Permission::CloseAlarms => &[R::VaultAdmin, R::Responder],
        Permission::ViewUsage => &[R::PolicyAdmin, R::Issuer, R::Auditor, R::Viewer],
        Permission::ReadAccessLog | Permission::ReadAdminLog => &[R::Auditor],
        Permission::ChangeProviders
        | Permission::WriteCredentials
        | Permission::Unseal
        | Permission::RotateVault => &[R::VaultAdmin],
        Permission::StopProviders | Permission::StopCredentials | Permission::Seal => {
            &[R::VaultAdmin, R::Responder]
        }
        Permission::SetPrices | Permission::ChangeProjects | Permission::ReleaseCharges => &[R::PolicyAdmin],
        Permission::StopProjects => &[R::PolicyAdmin, R::Responder],
        Permission::IssueSubkeys => &[R::Issuer],
        Permission::ChangeSubkeys => &[R::PolicyAdmin, R::Issuer],
        Permission::StopSubkeys => &[R::Issuer, R::Responder],
        Permission::ReleaseQuarantine => &[],
    }
}

/// A path that fits the route and names nothing that exists. A vault that was sealed would answer nothing more.
fn filled(path: &str) -> String {
    if path == "/api/v1/vault/seal" {
        return format!("{path}?unknown=1");
    }
    let path = path.replace("{id}", "0000000000000000").replace("{slug}", "nobody");
    path.replace("{provider}", "nobody").replace("{*model}", "m")
}

on_both! {
    async fn every_route_lets_in_exactly_the_roles_of_the_contract(test: TestStore) {
        let plane = Plane::new(test).await;
        let routes = bitting::admin::declared_routes();
        assert!(routes.len() >= 28, "the table is read: {}", routes.len());
        for role in Role::ALL {
            let token = plane.operator(role, None).await;
            for route in &routes {
                let answer = plane.ask_as(&token, route.method, &filled(route.path), None).await;
                let may = role == Role::Owner || granted(route.permission).contains(&role);
                let what = format!("{} {} as {}: {}", route.method, route.path, role.as_str(), answer.text);
                if may {
                    assert!(answer.status != 401 && answer.status != 403, "{what}");
                } else {
                    assert_eq!(answer.refusal(), (403, "forbidden".to_owned(), String::new()), "{what}");
                }
            }
        }
        for route in &routes {
            let answer = plane.ask_with(route.method, &filled(route.path), None, &[]).await;
            assert_eq!(answer.refusal().1, "unauthenticated", "{} {}", route.method, route.path);
        }
    }

    async fn nobody_but_an_operator_is_known_here(test: TestStore) {
        let plane = Plane::new(test).await;
        let minted = plane.mint("ci", json!({})).await;
        let subkey = minted["secret"].as_str().unwrap().to_owned();
        let expiring = plane.operator_until(Role::Owner, None, Some(now() + TimeDelta::hours(1))).await;
        let path = "/api/v1/subkeys";
        assert_eq!(plane.ask_as(&expiring, "GET", path, None).await.status, 200);
        plane.clock.advance(TimeDelta::hours(1));
        let owner = plane.owner.clone();
        let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
        let cases = [
            vec![],
            bearer(&subkey),
            bearer(&expiring),
            bearer("bo_0000000000000000000000000000000000000000000000000000000000000000"),
            bearer("bo_"),
            bearer(""),
            vec![("authorization", format!("Basic {owner}"))],
            vec![("authorization", owner.clone())],
            vec![("x-api-key", owner.clone())],
            vec![("x-api-key", subkey.clone())],
            [bearer(&owner), bearer(&owner)].concat(),
        ];
        for headers in cases {
            let borrowed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = plane.ask_with("GET", path, None, &borrowed).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert_eq!(answer.refusal(), (401, "unauthenticated".to_owned(), String::new()));
            assert!(!answer.text.contains(&owner) && !answer.text.contains(&subkey));
        }
        let query = plane.ask_with("GET", &format!("{path}?access_token={owner}"), None, &[]).await;
        assert_eq!(query.status, 401);
    }

    async fn an_operator_bound_to_a_project_sees_nothing_else(test: TestStore) {
        let plane = Plane::new(test).await;
        let id = plane.minted("ci").await;
        let bound = plane.operator(Role::Issuer, Some(&["default"])).await;
        let stranger = plane.operator(Role::Issuer, Some(&["search"])).await;
        let list = plane.ask_as(&bound, "GET", "/api/v1/subkeys", None).await.expect(200);
        assert_eq!(names(&list, "id"), [id.as_str()]);
        assert_eq!(plane.ask_as(&stranger, "GET", "/api/v1/subkeys", None).await.expect(200)["items"], json!([]));
        assert_eq!(plane.ask_as(&stranger, "GET", "/api/v1/subkeys?project=default", None).await.status, 403);
        assert_eq!(plane.ask_as(&stranger, "GET", "/api/v1/usage?project=default", None).await.status, 403);
        for (method, tail) in [("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("POST", "/revoke"), ("POST", "/suspend"), ("POST", "/explain")] {
            let body = match tail {
                "/explain" => Some(json!({"operation": "chat"})),
                _ => (method == "PATCH").then(|| json!({"owner": "eve"})),
            };
            let answer = plane.ask_as(&stranger, method, &format!("/api/v1/subkeys/{id}{tail}"), body).await;
            assert_eq!(answer.refusal().1, "not_found", "{method} {tail}");
        }
        let mint = plane.ask_as(&stranger, "POST", "/api/v1/subkeys", Some(json!({"name": "x", "models": ["*"]}))).await;
        assert_eq!(mint.status, 403);
        let vault = plane.operator(Role::VaultAdmin, Some(&["default"])).await;
        let write = plane.ask_as(&vault, "POST", "/api/v1/providers/openai/suspend", None).await;
        assert_eq!(write.status, 403, "what concerns everybody is not theirs");
        let auditor = plane.operator(Role::Auditor, Some(&["search"])).await;
        assert_eq!(plane.ask_as(&auditor, "GET", "/api/v1/access-log?project=default", None).await.status, 403);
        assert_eq!(plane.ask_as(&auditor, "GET", "/api/v1/access-log", None).await.status, 200);
        assert_eq!(plane.ask_as(&auditor, "GET", "/api/v1/admin-log", None).await.status, 403);
    }
}
