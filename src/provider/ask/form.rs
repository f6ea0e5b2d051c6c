//! Reading a form: every part by the row's list, then what the operation has of its own.

use super::field::{fold, is_upstream_name};
use super::{Ask, AskError, Field, FieldProblem, ModelField, Multipart, Part, Role, is_model_name};
use crate::provider::operation::{Hole, Parts, Row};

/// Reads the body of a request that matched `row`, where it is a form of this kind.
pub(super) fn read(row: &Row, parts: Parts, content_type: &str, body: &[u8]) -> Result<Ask, AskError> {
    let form = Multipart::parse(content_type, body)?;
    let ask = read_parts(row, parts, &form)?;
    Ok(Ask { boundary: Some(form.boundary), ..ask })
}

/// Reads the parts, however they came.
pub(super) fn read_parts(row: &Row, parts: Parts, form: &Multipart<'_>) -> Result<Ask, AskError> {
    let mut ask = Ask::default();
    for (at, part) in form.parts.iter().enumerate() {
        if let Some(name) = form.parts[..at].iter().find_map(|other| spelt_twice(other.name, part.name)) {
            return Err(AskError::field(name, FieldProblem::SpeltTwice));
        }
        let is_twin =
            |field: &Field| field.role != Role::File && field.name.strip_suffix("[]") == Some(part.name);
        // Some clients write a list without the brackets that others have.
        let is_list = part.name.ends_with("[]") || row.fields.iter().any(is_twin);
        if !is_list && form.parts[..at].iter().any(|other| other.name == part.name) {
            return Err(AskError::field(part.name, FieldProblem::Twice));
        }
        note(row.fields, part, &mut ask)?;
    }
    match parts {
        Parts::Upload => super::upload::read(form, &mut ask)?,
        Parts::ImageEdit | Parts::ImageVariation => super::image_form::read(form, &mut ask)?,
        Parts::Transcript => super::transcript::read(form, &mut ask)?,
    }
    let names_model = !ask.models.is_empty();
    if parts.needs_model()
        && !names_model
        && !matches!(row.template.hole(), Some(Hole::Model | Hole::Deployment))
    {
        return Err(AskError::ModelRequired);
    }
    Ok(ask)
}

/// The name of a list that stands there with brackets and without: of two readers each could take one of them.
fn spelt_twice<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    let is_list = |list: &str, plain: &str| list.strip_suffix("[]") == Some(plain);
    is_list(one, other).then_some(other).or_else(|| is_list(other, one).then_some(one))
}

/// Judges one part and notes what its role says.
fn note(fields: &'static [Field], part: &Part<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(field) = fields.iter().find(|field| field.name == part.name) else {
        return note_unknown(fields, part, ask);
    };
    match (field.role, part.is_file) {
        (Role::File, true) => return Ok(()),
        (Role::File, false) => return Err(AskError::expected(field.name, "a file, with a file name")),
        (_, true) => return Err(AskError::expected(field.name, "text, without a file name")),
        (_, false) => {}
    }
    let text = part.text()?;
    let is_on = !is_off(text);
    match field.role {
        Role::Input => ask.input.add_plain(text),
        Role::Uses(feature) if is_on => ask.features.insert(feature),
        Role::Priced if is_on => {
            ask.input.add_plain(text);
            ask.unbounded_prices.push(field.name.into());
        }
        Role::Hosted(kind) if is_on => {
            ask.input.add_plain(text);
            ask.add_hosted(kind, None);
        }
        Role::NamesModel if is_on => return Err(AskError::field(field.name, FieldProblem::NamesModel)),
        Role::NamesObject if !text.is_empty() => ask.add_object(field.name, text)?,
        Role::Own if field.name == "model" => note_model(part, text, ask)?,
        Role::Neutral
        | Role::Own
        | Role::File
        | Role::Uses(_)
        | Role::Priced
        | Role::Hosted(_)
        | Role::NamesModel
        | Role::NamesObject => {}
    }
    Ok(())
}

fn note_model(part: &Part<'_>, name: &str, ask: &mut Ask) -> Result<(), AskError> {
    if !is_model_name(name) {
        return Err(AskError::field("model", FieldProblem::NotAModelName));
    }
    ask.models.push(ModelField {
        name: name.to_owned(),
        prefix: "",
        span: part.span.clone(),
        is_json: false,
    });
    Ok(())
}

/// A part that no list knows passes, unless some reader could take it for one that a list knows: by its letters' case,
/// or by the brackets that stand for lists and members of objects.
fn note_unknown(fields: &'static [Field], part: &Part<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let folded = fold(part.name);
    let stem = |name: &str| name.split('[').next().unwrap_or("").trim().to_owned();
    if let Some(known) = fields.iter().find(|field| stem(field.name) == stem(&folded)) {
        return Err(AskError::field(part.name, FieldProblem::Variant(known.name)));
    }
    if is_upstream_name(part.name) {
        return Err(AskError::field(part.name, FieldProblem::NamesUpstream));
    }
    if part.is_file {
        ask.input.reach_beyond_body();
    } else {
        ask.input.add_plain(part.text()?);
    }
    ask.add_unknown(part.name);
    Ok(())
}

/// Whether a switch is off.
fn is_off(text: &str) -> bool {
    ["", "false", "False", "null", "none", "disabled", "off"].contains(&text)
}

impl<'b> Part<'b> {
    /// The content of a field that is no file.
    pub fn text(&self) -> Result<&'b str, AskError> {
        std::str::from_utf8(self.bytes).map_err(|_| AskError::expected(self.name, "UTF-8 text"))
    }
}

impl<'b> Multipart<'b> {
    /// The text of the field, unless it is absent or empty.
    pub fn text(&self, name: &str) -> Result<Option<&'b str>, AskError> {
        let part = self.parts.iter().find(|part| part.name == name && !part.is_file);
        Ok(part.map(Part::text).transpose()?.filter(|text| !text.is_empty()))
    }

    /// A switch of the form.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, AskError> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(AskError::expected(name, "true or false")),
        }
    }

    /// The files of these fields, in the form's order.
    pub fn files(&self, names: &[&str]) -> impl Iterator<Item = &Part<'b>> {
        self.parts.iter().filter(|part| part.is_file && names.contains(&part.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{UPLOAD, splice};
    use super::*;
    use crate::policy::{Feature, Operation};
    use crate::provider::operation::{Answer, Effect, Form, Template};
    use crate::provider::{Dialect, ObjectKind};
    use http::Method;

    const TYPE: &str = "multipart/form-data; boundary=b";
    const FIELDS: &[Field] = &[
        Field { name: "file", role: Role::File },
        Field { name: "list[]", role: Role::Neutral },
        Field { name: "model", role: Role::Own },
        Field { name: "object", role: Role::NamesObject },
        Field { name: "other_model", role: Role::NamesModel },
        Field { name: "priced", role: Role::Priced },
        Field { name: "prompt", role: Role::Input },
        Field { name: "stream", role: Role::Uses(Feature::Streaming) },
        Field { name: "words", role: Role::Neutral },
        Field { name: "words[]", role: Role::Neutral },
    ];

    fn row(fields: &'static [Field]) -> Row {
        Row {
            operation: Operation::Files,
            dialect: Dialect::OpenAi,
            method: Method::POST,
            template: Template::Fixed("/x"),
            upstream: Template::Fixed("/x"),
            form: Form::Parts(Parts::Upload),
            fields,
            query: &[],
            effect: Effect::Keeps(ObjectKind::File),
            answer: Answer::Json,
        }
    }

    /// The form of these parts and a file.
    fn written(parts: &[(&str, &str)]) -> String {
        let parts = parts.iter().map(|(name, text)| Multipart::written("b", name, text)).collect::<String>();
        parts
            + "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n\u{0}\r\n--b--\r\n"
    }

    fn ask(parts: &[(&str, &str)]) -> Result<Ask, AskError> {
        read(&row(FIELDS), Parts::Upload, TYPE, written(parts).as_bytes())
    }

    fn problem(name: &str, text: &str) -> FieldProblem {
        match ask(&[("prompt", "x"), (name, text)]) {
            Err(AskError::Field { problem, .. }) => problem,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn each_part_does_what_its_role_says() {
        let read = ask(&[
            ("prompt", "12345"),
            ("stream", "true"),
            ("priced", "1"),
            ("object", "file_1"),
            ("list[]", "a"),
            ("list[]", "b"),
            ("words", "a"),
            ("words", "b"),
            ("new", "abc"),
        ])
        .unwrap();
        assert!(read.features.contains(Feature::Streaming));
        assert_eq!(
            (read.unbounded_prices, read.unknown_fields),
            (vec!["priced".to_owned()], vec!["new".to_owned()])
        );
        assert_eq!(read.objects[0].id, "file_1");
        assert!(read.input.text_bytes >= 9);
        let off = ask(&[("stream", "false"), ("priced", ""), ("object", ""), ("other_model", "")]).unwrap();
        assert!(!off.features.contains(Feature::Streaming) && off.unbounded_prices.is_empty());
        assert!(off.objects.is_empty() && !off.input.beyond_body);
    }

    #[test]
    fn what_two_readers_could_take_for_different_forms_is_refused() {
        assert_eq!(problem("prompt", "y"), FieldProblem::Twice);
        for name in ["Model", "model[]", "model[x]", "MODEL[0]", "file[]"] {
            assert!(matches!(problem(name, "x"), FieldProblem::Variant(_)), "{name}");
        }
        assert_eq!(problem("list", "x"), FieldProblem::Variant("list[]"));
        for names in [["words", "words[]"], ["words[]", "words"]] {
            let both = ask(&names.map(|name| (name, "x")));
            assert_eq!(both.unwrap_err(), AskError::field("words", FieldProblem::SpeltTwice), "{names:?}");
        }
        assert_eq!(problem("other_model", "x"), FieldProblem::NamesModel);
        assert_eq!(problem("base_url", "x"), FieldProblem::NamesUpstream);
        assert_eq!(problem("model", ""), FieldProblem::NotAModelName);
        let named =
            "--b\r\nContent-Disposition: form-data; name=\"prompt\"; filename=\"f\"\r\n\r\n1\r\n--b--";
        let text_as_file = read(&row(FIELDS), Parts::Upload, TYPE, named.as_bytes());
        assert_eq!(text_as_file.unwrap_err(), AskError::expected("prompt", "text, without a file name"));
        let plain = Multipart::written("b", "file", "1") + "--b--";
        let file_as_text = read(&row(FIELDS), Parts::Upload, TYPE, plain.as_bytes());
        assert_eq!(file_as_text.unwrap_err(), AskError::expected("file", "a file, with a file name"));
        let latin = b"--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n\xe4\r\n--b--";
        let latin = read(&row(FIELDS), Parts::Upload, TYPE, latin);
        assert_eq!(latin.unwrap_err(), AskError::expected("prompt", "UTF-8 text"));
    }

    #[test]
    fn a_file_that_no_list_knows_is_bounded_by_nothing_in_the_body() {
        let other = "--b\r\nContent-Disposition: form-data; name=\"extra\"; filename=\"f\"\r\n\r\n1\r\n";
        let read = read(&row(FIELDS), Parts::Upload, TYPE, (other.to_owned() + &written(&[])).as_bytes());
        let read = read.unwrap();
        assert!(read.input.beyond_body && read.unknown_fields == ["extra"]);
    }

    #[test]
    fn the_model_is_replaced_as_it_is_written_or_put_in_as_a_part() {
        let body = written(&[("prompt", "p"), ("model", "acme/m")]);
        let read = ask(&[("prompt", "p"), ("model", "acme/m")]).unwrap();
        let changed = splice(body.as_bytes(), read.model_splices("m\"x").collect()).unwrap();
        assert_eq!(changed, written(&[("prompt", "p"), ("model", "m\"x")]));
        let body = written(&[("prompt", "p")]);
        let read = ask(&[("prompt", "p")]).unwrap();
        let changed = splice(body.as_bytes(), read.model_splices("m").collect()).unwrap();
        assert_eq!(changed, written(&[("model", "m"), ("prompt", "p")]));
    }

    #[test]
    fn an_upload_is_one_file() {
        let upload = |body: &str| read(&row(UPLOAD), Parts::Upload, TYPE, body.as_bytes());
        assert!(upload(&written(&[("purpose", "user_data"), ("expires_after[seconds]", "3600")])).is_ok());
        let none = Multipart::written("b", "purpose", "batch") + "--b--";
        assert_eq!(
            upload(&none).unwrap_err(),
            AskError::expected("file", "there, once, as a file with a name")
        );
        assert!(upload(&written(&[("Purpose", "x")])).is_err());
    }
}
