//! Pages of a list, which are ours: cursors, orders and filters.

use super::*;

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|file| id(file).to_owned()).collect()
}

async fn page(server: &TestServer, dialect: &str, secret: &str, query: &str) -> Value {
    let answer = call(server, dialect, secret, "GET", &format!("{FILES}?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.json());
    answer.json()
}

/// Files one after the other: their ids, newest first.
async fn several(server: &TestServer, dialect: &str, secret: &str, purposes: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for purpose in purposes {
        let body = form(&[("purpose", purpose)], &[("file", "text/plain", b"x")]);
        let file = upload_at(server, dialect, secret, FILES, body).await.json();
        ids.insert(0, id(&file).to_owned());
        server.clock.advance(TimeDelta::seconds(1));
    }
    ids
}

on_both! {
    async fn a_list_goes_on_where_the_page_before_ended(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (_, secret) = server.mint(json!({})).await;
        let (_, other) = server.mint(json!({})).await;
        let purposes = ["batch", "vision", "batch", "vision", "batch"];
        several(&server, "openai", &other, &purposes[..2]).await;
        several(&server, "anthropic", &secret, &purposes[..2]).await;
        let files = several(&server, "openai", &secret, &purposes).await;
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = page(&server, "openai", &secret, &format!("limit=2{after}")).await;
            assert_eq!((&page["object"], &page["first_id"]), (&json!("list"), &page["data"][0]["id"]));
            seen.extend(ids(&page));
            after = format!("&after={}", page["last_id"].as_str().unwrap());
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(seen, files);
        let oldest = page(&server, "openai", &secret, "order=asc&limit=1").await;
        assert_eq!((ids(&oldest), &oldest["has_more"]), (vec![files[4].clone()], &json!(true)));
        let next = page(&server, "openai", &secret, &format!("order=asc&limit=1&after={}", files[4])).await;
        assert_eq!(ids(&next), [files[3].clone()]);
        let batch = page(&server, "openai", &secret, "purpose=batch&limit=2").await;
        assert_eq!((ids(&batch), &batch["has_more"]), (vec![files[0].clone(), files[2].clone()], &json!(true)));
        let batch = page(&server, "openai", &secret, &format!("purpose=batch&limit=2&after={}", files[2])).await;
        assert_eq!((ids(&batch), &batch["has_more"]), (vec![files[4].clone()], &json!(false)));
        assert!(ids(&page(&server, "openai", &secret, "purpose=evals").await).is_empty());
        // A place that was deleted is a place still; somebody else's is none.
        assert_eq!(call(&server, "openai", &secret, "DELETE", &format!("{FILES}/{}", files[1])).await.status, 200);
        let rest = page(&server, "openai", &secret, &format!("after={}", files[1])).await;
        assert_eq!(ids(&rest), files[2..]);
        let foreign = call(&server, "openai", &other, "GET", &format!("{FILES}?after={}", files[2])).await;
        assert_eq!(foreign.refusal(), (404, "object_not_found".to_owned()), "{}", foreign.json());
    }

    async fn mistrals_numbered_pages_are_answered_from_the_record(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (_, secret) = server.mint(json!({})).await;
        let (_, other) = server.mint(json!({})).await;
        several(&server, "openai", &other, &["batch"; 2]).await;
        let files = several(&server, "openai", &secret, &["batch", "vision", "batch", "vision", "batch"]).await;
        // What its library sends where nothing is said.
        let all = page(&server, "openai", &secret, "page=0&page_size=100&include_total=true").await;
        assert_eq!((ids(&all), &all["total"], &all["has_more"]), (files.clone(), &json!(5), &json!(false)));
        let mut seen = Vec::new();
        for (number, has_more) in [(0, true), (1, true), (2, false), (3, false)] {
            let page = page(&server, "openai", &secret, &format!("page={number}&page_size=2")).await;
            assert_eq!((&page["total"], &page["has_more"]), (&json!(5), &json!(has_more)), "{number}");
            seen.extend(ids(&page));
        }
        assert_eq!(seen, files);
        let batch = page(&server, "openai", &secret, "page=1&page_size=2&purpose=batch&include_total=false").await;
        assert_eq!((ids(&batch), batch.get("total")), (vec![files[4].clone()], None));
        assert!(ids(&page(&server, "openai", &secret, "page=0&sample_type=instruct").await).is_empty());
        for (query, told) in [
            ("search=report", "cannot be asked for search"), ("mimetypes=text/plain", "cannot be asked for mimetypes"),
            ("page=1&after=x", "one place"), ("page=x", "whole number"), ("page_size=0", "page_size"),
        ] {
            let answer = call(&server, "openai", &secret, "GET", &format!("{FILES}?{query}")).await;
            assert_eq!(answer.refusal(), (400, "invalid_body".to_owned()), "{query}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(told), "{query}: {message}");
        }
    }

    async fn anthropics_cursors_go_forward_and_back(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (key, secret) = server.mint(json!({})).await;
        let files = several(&server, "anthropic", &secret, &["batch"; 5]).await;
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        let mut pages = 0;
        loop {
            let page = page(&server, "anthropic", &secret, &format!("limit=2{cursor}")).await;
            seen.extend(ids(&page));
            pages += 1;
            let Some(next) = page["next_page"].as_str() else { break };
            cursor = format!("&page={next}");
        }
        assert_eq!((seen, pages), (files.clone(), 3));
        let back = page(&server, "anthropic", &secret, &format!("limit=2&before_id={}", files[3])).await;
        assert_eq!((ids(&back), &back["has_more"]), (files[1..3].to_vec(), &json!(true)));
        let on = page(&server, "anthropic", &secret, &format!("limit=9&after_id={}", files[3])).await;
        assert_eq!((ids(&on), &on["has_more"], &on["next_page"]), (files[4..].to_vec(), &json!(false), &Value::Null));
        let named = format!("ids%5B%5D={}&ids%5B%5D=file_none&ids[]={}&beta=true", files[3], files[1]);
        let named = page(&server, "anthropic", &secret, &named).await;
        assert_eq!((ids(&named), &named["next_page"]), (vec![files[1].clone(), files[3].clone()], &Value::Null));
        let entry = server.entries(&key).await.pop().unwrap();
        assert_eq!((&entry["operation"], &entry["decision"], &entry["provider"], &entry["status"]),
            (&json!("files"), &json!("allowed"), &json!("sandbox"), &json!(200)), "{entry}");
        let (_, other) = server.mint(json!({})).await;
        assert!(ids(&page(&server, "anthropic", &other, &format!("ids[]={}", files[0])).await).is_empty());
        for (query, param) in [
            ("limit=0", "limit"), ("limit=1001", "limit"), ("page=file_1", "page"), ("after_id=a&before_id=b", "page"),
            ("ids[]=a&limit=2", "ids"), ("order=asc", "order"), ("after=x", "after"),
        ] {
            let answer = call(&server, "anthropic", &secret, "GET", &format!("{FILES}?{query}")).await;
            assert_eq!(answer.refusal(), (400, "invalid_body".to_owned()), "{query}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(param), "{query}: {message}");
        }
    }
}
