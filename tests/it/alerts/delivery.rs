//! A notice is sent until the receiver has taken it, always with the same id.

use super::{alerts, budget, server_with, spend, state, state_once};
use crate::support::receiver::{Mood, OTHER_SECRET, Receiver, SECRET};
use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use bitting::log::AlarmKind;
use chrono::TimeDelta;
use serde_json::json;

/// Has one notice put in.
async fn alert(server: &TestServer) {
    let (_, secret) = server.mint(budget("1", "total", &["0.05"])).await;
    spend(server, &secret).await;
}

/// What the last attempt came to, once that is this; then the longest pause goes by.
async fn fails_by(server: &TestServer, what: &str) {
    let said = |error: &Option<String>| error.as_ref().is_some_and(|error| error.contains(what));
    let state = state_once(server, |state| state.oldest.as_ref().is_some_and(|(_, error)| said(error))).await;
    let (_, error) = state.oldest.unwrap();
    assert!(!error.unwrap().contains("canary"), "the URL is a secret");
    server.clock.advance(TimeDelta::hours(1));
}

on_both! {
    async fn a_receiver_that_fails_in_every_way_gets_it_at_the_end(test: TestStore) {
        let mut receiver = Receiver::start().await;
        let server = server_with(test, &receiver).await;
        let failing = [
            (Mood::Answers(500), "it answered 500"),
            (Mood::Redirects, "redirects are not followed"),
            (Mood::Closes, "the connection ended before the answer"),
            (Mood::Answers(410), "it answered 410"),
            (Mood::Answers(429), "it answered 429"),
        ];
        receiver.meet_first(&failing.clone().map(|(mood, _)| mood));
        alert(&server).await;
        let mut first = None;
        for (mood, said) in failing {
            let delivery = receiver.next().await;
            assert_eq!(delivery.mood, mood);
            assert!(delivery.is_signed_by(SECRET), "signed anew, by the moment of the attempt");
            assert_eq!(delivery.timestamp, server.clock.now().timestamp());
            let first = first.get_or_insert_with(|| delivery.clone());
            assert_eq!((&first.id, &first.text), (&delivery.id, &delivery.text));
            fails_by(&server, said).await;
        }
        receiver.set_mood(Mood::Answers(503));
        let delivery = receiver.next().await;
        assert_eq!(delivery.id, first.as_ref().unwrap().id);
        receiver.go_down().await;
        fails_by(&server, "it answered 503").await;
        fails_by(&server, "no connection to").await;
        receiver.set_mood(Mood::Answers(200));
        receiver.come_back().await;
        server.clock.advance(TimeDelta::hours(1));
        assert_eq!(receiver.next().await.id, first.unwrap().id);
        let state = state_once(&server, |state| state.waiting == 0).await;
        assert_eq!((state.failed, alerts(&server).await.len()), (0, 1));
        server.clock.advance(TimeDelta::days(1));
        alert(&server).await;
        assert_ne!(receiver.next().await.text, "", "only what is new");
        state_once(&server, |state| state.waiting == 0).await;
        assert!(receiver.come().is_empty());
        server.end().await;
    }

    async fn a_pause_is_kept_and_a_start_ends_it(test: TestStore) {
        let mut receiver = Receiver::start().await;
        let mut server = server_with(test, &receiver).await;
        receiver.meet_first(&[Mood::Answers(404)]);
        alert(&server).await;
        let first = receiver.next().await;
        state_once(&server, |state| state.oldest.as_ref().is_some_and(|(_, error)| error.is_some())).await;
        server.clock.advance(TimeDelta::minutes(29));
        // Another one is looked for, found and taken meanwhile; the first has to wait half an hour at least.
        alert(&server).await;
        let second = receiver.next().await;
        state_once(&server, |state| state.waiting == 1).await;
        assert!(second.id != first.id && receiver.come().is_empty());
        server.pause().await;
        server.resume().await;
        assert_eq!(receiver.next().await.id, first.id);
        state_once(&server, |state| state.waiting == 0).await;
        server.end().await;
    }

    async fn a_notice_is_given_up_after_three_days_and_that_is_an_alarm_that_tells_nobody(test: TestStore) {
        let mut receiver = Receiver::start().await;
        let server = server_with(test, &receiver).await;
        receiver.set_mood(Mood::Answers(500));
        alert(&server).await;
        let first = receiver.next().await;
        state_once(&server, |state| state.oldest.as_ref().is_some_and(|(_, error)| error.is_some())).await;
        receiver.meet_first(&[Mood::Answers(502)]);
        server.clock.advance(TimeDelta::days(3) - TimeDelta::seconds(1));
        assert_eq!(receiver.next().await.id, first.id);
        let is_502 = |error: &Option<String>| error.as_ref().is_some_and(|error| error.contains("502"));
        state_once(&server, |state| state.oldest.as_ref().is_some_and(|(_, error)| is_502(error))).await;
        server.clock.advance(TimeDelta::seconds(1));
        assert_eq!(receiver.next().await.id, first.id, "the last attempt is at the end");
        let alarm = server.alarms_once("webhook_given_up").await.remove(0);
        assert_eq!((&alarm["subject"], &alarm["detail"]["notice"]), (&json!("webhook"), &json!(first.id)));
        assert_eq!(alarm["detail"]["type"], "budget.alert");
        assert!(!alarm.to_string().contains("canary"), "{alarm}");
        let now = state(&server).await;
        assert_eq!((now.waiting, now.failed), (0, 1));

        receiver.set_mood(Mood::Answers(204));
        let close = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
        assert_eq!(server.admin_post(&close, &json!({"reason": "the receiver is back"})).await.status, 200);
        // Whatever the webhook is told next, it is not of that alarm.
        alert(&server).await;
        let next = receiver.next().await;
        assert_eq!(next.body()["type"], "budget.alert");
        assert_ne!(next.id, first.id);
        state_once(&server, |state| state.waiting == 0).await;
        assert!(receiver.come().is_empty());
        server.clock.advance(TimeDelta::days(31));
        server.services.tidy_notices().await.unwrap();
        assert_eq!(state(&server).await.failed, 0, "it is forgotten at last");
        server.end().await;
    }

    async fn an_alarm_is_told_of_when_it_is_opened_and_when_it_is_closed(test: TestStore) {
        let mut receiver = Receiver::start().await;
        let server = server_with(test, &receiver).await;
        for _ in 0..3 {
            let detail = json!({"said": "words of a provider"});
            server.services.alarms.raise(AlarmKind::UpstreamCredential, "cred_1", &detail);
        }
        let opened = receiver.next().await;
        let alarm = server.alarm_about("upstream_credential", "cred_1").await;
        assert_eq!(opened.body()["type"], "alarm.opened");
        let expected = json!({
            "id": alarm["id"], "kind": "upstream_credential", "subject": "cred_1", "opened_at": "2026-11-22T16:00:00Z",
        });
        assert_eq!(opened.body()["data"], expected);
        let token = format!("bo_{}", "x".repeat(43));
        let close = format!("/api/v1/alarms/{}/close", alarm["id"].as_str().unwrap());
        let reason = json!({"reason": format!("rotated by {token}")});
        assert_eq!(server.admin_post(&close, &reason).await.status, 200);
        let closed = receiver.next().await;
        assert!(closed.is_signed_by(SECRET) && !closed.text.contains(&token), "{}", closed.text);
        assert_eq!(closed.body()["type"], "alarm.closed");
        assert_eq!((&closed.body()["data"]["id"], &closed.body()["data"]["closed_by"]), (&alarm["id"], &json!("owner")));
        state_once(&server, |state| state.waiting == 0).await;
        assert!(receiver.come().is_empty(), "a repeat is counted, and told of no further");
        server.end().await;
    }

    async fn secrets_are_replaced_without_a_notice_that_nobody_can_verify(test: TestStore) {
        let mut receiver = Receiver::start().await;
        let server = server_with(test, &receiver).await;
        receiver.set_secrets(&[OTHER_SECRET, SECRET]);
        alert(&server).await;
        let both = receiver.next().await;
        assert!(both.signatures.len() == 2 && both.is_signed_by(SECRET) && both.is_signed_by(OTHER_SECRET));
        receiver.set_secrets(&[OTHER_SECRET]);
        state_once(&server, |state| state.waiting == 0).await;
        alert(&server).await;
        let other = receiver.next().await;
        assert!(other.signatures.len() == 1 && other.is_signed_by(OTHER_SECRET) && !other.is_signed_by(SECRET));
        // A file that is spoilt keeps back what it would have signed.
        receiver.set_secrets(&["whsec_spoilt-canary"]);
        state_once(&server, |state| state.waiting == 0).await;
        alert(&server).await;
        fails_by(&server, "line 1 is not").await;
        receiver.set_secrets(&[SECRET]);
        assert!(receiver.next().await.is_signed_by(SECRET));
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_is_left_after_ten_seconds_and_one_that_never_ends_has_taken_it() {
    let mut receiver = Receiver::start().await;
    let server = server_with(TestStore::sqlite().await, &receiver).await;
    receiver.meet_first(&[Mood::Hangs, Mood::Babbles]);
    alert(&server).await;
    let first = receiver.next().await;
    state_once(&server, |state| state.oldest.is_some()).await;
    let began = std::time::Instant::now();
    while state(&server).await.oldest.unwrap().1.is_none() {
        assert!(began.elapsed().as_secs() < 20);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    fails_by(&server, "no answer within 10000 ms").await;
    let second = receiver.next().await;
    assert_eq!((second.mood, second.id), (Mood::Babbles, first.id));
    state_once(&server, |state| state.waiting == 0).await;
    server.end().await;
}
