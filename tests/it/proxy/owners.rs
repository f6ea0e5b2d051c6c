//! Two keys on one provider account: what one made the other cannot read, chain, use, cancel, delete or list, by any row
//! and any field; where both share in one project, it can.

use super::asking::{self, MODEL, Said};
use super::rows::{Tapped, what};
use crate::support::objects::{Kept, put_on_record};
use crate::support::server::Answer;
use crate::support::store::on_both;
use bitting::provider::ObjectKind;
use bitting::provider::ask::Role;
use bitting::provider::operation::{Effect, Form, ROWS, Row};
use serde_json::{Value, json};

/// A maker, and another key on the same account.
struct Pair {
    maker: String,
    other: String,
    is_shared: bool,
}

impl Tapped {
    async fn pair(&self, is_shared: bool) -> Pair {
        let fields = json!({"share_objects": is_shared, "hosted_tools": ["*"]});
        let (maker, other) = (self.mint(fields.clone()).await.1, self.mint(fields).await.1);
        Pair { maker, other, is_shared }
    }

    async fn make(&self, secret: &str, kind: ObjectKind, id: &str) {
        let kept = Kept { provider: "tapped", credential_id: &self.credential, model: Some(MODEL) };
        put_on_record(&self.server, secret, kept, kind, id).await;
    }

    /// Sends the request of a row with this body, and says whether the provider saw it.
    async fn sees(&self, row: &Row, secret: &str, object: &str, said: Option<&Said>) -> (bool, Answer) {
        let before = self.tap.seen();
        let request = asking::request(&self.server, (row, "tapped"), secret, object, said);
        let answer = self.server.call(request).await;
        (self.tap.seen() != before, answer)
    }

    /// Both ask for what the maker made, the other first; the provider sees only whom it is for.
    async fn try_both(&self, pair: &Pair, row: &Row, object: &str, said: Option<&Said>, how: &str) {
        let what = format!("{} {how}", what(row));
        let (seen, answer) = self.sees(row, &pair.other, object, said).await;
        assert_eq!(seen, pair.is_shared, "the other: {what}: {} {}", answer.status, answer.json());
        if !pair.is_shared {
            assert_eq!(answer.refusal(), (404, "object_not_found".to_owned()), "{what}");
        } else if matches!(row.effect, Effect::Deletes(_)) {
            return;
        }
        let (seen, answer) = self.sees(row, &pair.maker, object, said).await;
        assert!(seen, "the maker: {what}: {} {}", answer.status, answer.json());
    }
}

/// Where else than in a field of the list a body of the form can name an object: the field, its value around the id, and
/// what the object must be.
fn inside(form: Form, id: &str) -> Vec<(&'static str, Value, ObjectKind)> {
    use ObjectKind::{Container, File, Item, Skill, VectorStore};
    let user = |part: Value| json!([{"role": "user", "content": [part]}]);
    let tool = |kind: &str, field: &str, value: Value| json!([{"type": kind, field: value}]);
    match form {
        Form::Empty
        | Form::Completions
        | Form::Embeddings
        | Form::Embed
        | Form::EmbedBatch
        | Form::Moderations
        | Form::Speech
        | Form::Parts(_) => vec![],
        Form::Images => vec![("images", json!([{"file_id": id}]), File)],
        Form::Chat => vec![
            ("messages", user(json!({"type": "file", "file": {"file_id": id}})), File),
            ("messages", user(json!({"type": "image_url", "image_url": {"file_id": id}})), File),
            ("messages", json!([{"role": "assistant", "audio": {"id": id}}]), File),
            ("messages", json!([{"role": "system", "content": format!("Read fileid://{id}")}]), File),
            (
                "messages",
                json!([{"role": "system", "content": [{"type": "text", "text": format!("fileid://{id}")}]}]),
                File,
            ),
            ("tools", tool("file_search", "vector_store_ids", json!([id])), VectorStore),
            ("tools", tool("code_interpreter", "container", json!(id)), Container),
        ],
        Form::Messages => vec![
            ("messages", user(json!({"type": "image", "source": {"type": "file", "file_id": id}})), File),
            ("messages", user(json!({"type": "document", "source": {"type": "file", "file_id": id}})), File),
            ("messages", user(json!({"type": "container_upload", "file_id": id})), File),
            ("container", json!(id), Container),
            ("container", json!({"id": id}), Container),
            ("container", json!({"skills": [{"type": "custom", "skill_id": id}]}), Skill),
        ],
        Form::Responses | Form::Compaction => vec![
            ("input", json!([{"type": "item_reference", "id": id}]), Item),
            ("input", json!([{"type": "reasoning", "id": id, "summary": []}]), Item),
            ("input", user(json!({"type": "input_file", "file_id": id})), File),
            ("input", user(json!({"type": "input_image", "file_id": id})), File),
            ("input", json!([{"type": "code_interpreter_call", "container_id": id, "code": "1"}]), Container),
            (
                "input",
                json!([{
                    "type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]},
                    "environment": {"type": "container_reference", "container_id": id},
                }]),
                Container,
            ),
            (
                "tools",
                tool("shell", "environment", json!({"type": "container_auto", "skills": [{"skill_id": id}]})),
                Skill,
            ),
            ("conversation", json!({"id": id}), ObjectKind::Conversation),
            ("tools", tool("file_search", "vector_store_ids", json!([id])), VectorStore),
            ("tools", tool("code_interpreter", "container", json!({"type": "auto", "file_ids": [id]})), File),
        ],
        Form::Generate => {
            vec![("tools", json!([{"fileSearch": {"fileSearchStoreNames": [id]}}]), VectorStore)]
        }
        Form::GeminiCount => vec![(
            "generateContentRequest",
            json!({"model": format!("models/{MODEL}"), "contents": [], "cachedContent": id}),
            ObjectKind::CachedContent,
        )],
    }
}

on_both! {
    async fn p2_one_gate_no_path_leads_to_what_another_key_made(test: TestStore) {
        let tapped = Tapped::over(test).await;
        for is_shared in [false, true] {
            let pair = tapped.pair(is_shared).await;
            for (number, row) in ROWS.iter().enumerate() {
                let Some(kind) = row.effect.kind() else { continue };
                let id = format!("object_in_a_path_{number}_{is_shared}");
                tapped.make(&pair.maker, kind, &id).await;
                tapped.try_both(&pair, row, &id, asking::said(row.form).as_ref(), "by its path").await;
            }
        }
    }

    async fn p2_one_gate_no_field_leads_to_what_another_key_made(test: TestStore) {
        let tapped = Tapped::over(test).await;
        let mut tried = 0;
        for is_shared in [false, true] {
            let pair = tapped.pair(is_shared).await;
            let id = |kind: ObjectKind| format!("{}_in_a_field_{is_shared}", kind.as_str());
            for kind in ObjectKind::ALL {
                tapped.make(&pair.maker, *kind, &id(*kind)).await;
            }
            for row in &ROWS {
                let Some(said) = asking::said(row.form) else { continue };
                let listed = row.fields.iter().filter(|field| field.role == Role::NamesObject).flat_map(|field| {
                    let id = id(ObjectKind::File);
                    let written = match said {
                        Said::Json(_) => vec![json!(id), json!([id]), json!({"id": id})],
                        Said::Parts(..) => vec![json!(id)],
                    };
                    written.into_iter().map(move |value| (field.name, value))
                });
                let kinds = ObjectKind::ALL.iter();
                let inside = kinds.flat_map(|kind| inside(row.form, &id(*kind)).into_iter().filter(|one| one.2 == *kind));
                for (field, value) in listed.chain(inside.map(|(field, value, _)| (field, value))) {
                    let body = said.clone().with(field, &value);
                    tapped.try_both(&pair, row, "", Some(&body), &format!("by {field}: {value}")).await;
                    tried += 1;
                }
            }
        }
        assert!(tried > 100, "only {tried}");
    }

    async fn p2_one_gate_lists_show_a_key_what_is_its_own(test: TestStore) {
        let tapped = Tapped::over(test).await;
        for is_shared in [false, true] {
            let pair = tapped.pair(is_shared).await;
            for row in &ROWS {
                let Effect::Lists(kind) = row.effect else { continue };
                let id = format!("{}_in_a_list_of_{}_{is_shared}", kind.as_str(), row.dialect.as_str());
                tapped.make(&pair.maker, kind, &id).await;
                for (secret, is_listed) in [(&pair.maker, true), (&pair.other, is_shared)] {
                    let (seen, answer) = tapped.sees(row, secret, "", None).await;
                    assert!(answer.status == 200 && !seen, "{}: {}", what(row), answer.json());
                    assert_eq!(answer.json().to_string().contains(&id), is_listed, "{}", what(row));
                }
            }
        }
    }
}
