//! `multipart/form-data`, as uploads come.
//!
//! Read by the book (RFC 7578 and 2046) and by nobody else's code: what a proxy makes of a form can be told from what
//! arrives here. What is not a form is refused whole.

use bytes::Bytes;
use memchr::memmem;
use serde_json::{Map, Value};

const PARTS_MAX: usize = 128;
/// Fields that a JSON body would have as numbers or truth values.
const LITERAL: &[&str] = &["n", "stream", "partial_images", "output_compression", "temperature"];

/// A form, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(Vec<Part>);

/// One part of it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) bytes: Bytes,
}

impl Form {
    /// Reads a body of this content type; `None` when it is no form, or a broken one.
    pub(super) fn read(content_type: &str, body: &Bytes) -> Option<Self> {
        let (kind, parameters) = content_type.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary").filter(|boundary| !boundary.is_empty())?;
        let delimiter = format!("\r\n--{boundary}");
        let mut rest = body.clone();
        // The first delimiter may begin the body.
        if rest.starts_with(&delimiter.as_bytes()[2..]) {
            rest = rest.slice(delimiter.len() - 2..);
        } else {
            rest = rest.slice(memmem::find(&rest, delimiter.as_bytes())? + delimiter.len()..);
        }
        let mut parts = Vec::new();
        while !rest.starts_with(b"--") {
            let line_end = memmem::find(&rest, b"\r\n")?;
            if parts.len() == PARTS_MAX || !rest[..line_end].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
                return None;
            }
            // The line's end stays: a part without headers begins with an empty line.
            let part = rest.slice(line_end..);
            let end = memmem::find(&part, delimiter.as_bytes())?;
            parts.push(Part::read(&part.slice(..end))?);
            rest = part.slice(end + delimiter.len()..);
        }
        Some(Self(parts))
    }

    /// The file of this name.
    pub(super) fn file(&self, name: &str) -> Option<&Part> {
        self.files(name).next()
    }

    /// The files of this name, or of this name with `[]`.
    pub(super) fn files(&self, name: &str) -> impl Iterator<Item = &Part> {
        let is_named =
            move |part: &&Part| part.filename.is_some() && part.name.trim_end_matches("[]") == name;
        self.0.iter().filter(is_named)
    }

    /// The fields that are no files, as a JSON body would have them: `name[]` is a list.
    pub(super) fn fields(&self) -> Value {
        let mut fields = Map::new();
        for part in self.0.iter().filter(|part| part.filename.is_none()) {
            let text = String::from_utf8_lossy(&part.bytes).into_owned();
            if let Some(name) = part.name.strip_suffix("[]") {
                let list = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(text.into());
                }
                continue;
            }
            let literal =
                if LITERAL.contains(&part.name.as_str()) { serde_json::from_str(&text).ok() } else { None };
            fields.insert(part.name.clone(), literal.unwrap_or(Value::String(text)));
        }
        Value::Object(fields)
    }
}

impl Part {
    /// Headers, each after a line's end, an empty line, and the rest.
    fn read(part: &Bytes) -> Option<Self> {
        let head_end = memmem::find(part, b"\r\n\r\n")?;
        let head = std::str::from_utf8(&part[..head_end]).ok()?;
        let header = |wanted: &str| {
            head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
            })
        };
        let (kind, parameters) = header("content-disposition")?.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return None;
        }
        Some(Self {
            name: parameter(parameters, "name")?,
            filename: parameter(parameters, "filename"),
            content_type: header("content-type").map(str::to_owned),
            bytes: part.slice(head_end + 4..),
        })
    }
}

/// A parameter's value, quoted or not.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches([' ', '\t', ';']);
        let (value, next) = if let Some(quoted) = after.strip_prefix('"') {
            let mut value = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => value.push(chars.next()?.1),
                    (at, '"') => break at,
                    (_, ch) => value.push(ch),
                }
            };
            (value, &quoted[end + 1..])
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(value.replace("%22", "\""));
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TYPE: &str = "multipart/form-data; boundary=\"a b\"";

    fn read(body: &'static [u8]) -> Option<Form> {
        Form::read(TYPE, &Bytes::from_static(body))
    }

    #[test]
    fn a_form_has_fields_lists_and_files_byte_for_byte() {
        let form = read(
            b"preamble\r\n--a b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n2\r\n--a b\r\n\
            content-disposition: form-data; name=\"x[]\"\r\n\r\n1\r\n--a b \r\ncontent-disposition: form-data; name=\"x[]\"\r\n\r\n\r\n--a b\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a;\\\"=b.bin\"\r\nContent-Type: image/png\r\n\r\n\r\n-\0\xff\r\n\r\n--a b--\r\nepilogue",
        )
        .unwrap();
        assert_eq!(form.fields(), json!({"n": 2, "x": ["1", ""]}));
        let file = form.file("file").unwrap();
        assert_eq!(file.filename.as_deref(), Some("a;\"=b.bin"));
        assert_eq!(
            (file.content_type.as_deref(), &file.bytes[..]),
            (Some("image/png"), &b"\r\n-\0\xff\r\n"[..])
        );
    }

    #[test]
    fn what_is_broken_is_no_form() {
        for body in [
            &b""[..],
            b"--a b",
            b"--a b\r\n",
            b"--a bx\r\ncontent-disposition: form-data; name=\"n\"\r\n\r\n2\r\n--a b--",
            b"--a b\r\ncontent-disposition: form-data; name=\"n\"\r\n\r\n2",
            b"--a b\r\ncontent-disposition: attachment; name=\"n\"\r\n\r\n2\r\n--a b--",
            b"--a b\r\ncontent-disposition: form-data; name=\"n\r\n\r\n2\r\n--a b--",
        ] {
            assert!(read(body).is_none(), "{}", String::from_utf8_lossy(body));
        }
        assert!(Form::read("application/json", &Bytes::new()).is_none());
    }
}
