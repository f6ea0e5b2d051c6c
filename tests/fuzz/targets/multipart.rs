//! The strict reader of forms against a plain one that splits at delimiters: where both speak, they say the same, and
//! forms as client libraries write them are read.
//!
//! The first byte says which boundary the content type names, and how. The rest is the body; also the material of a form
//! that is written as it should be.

#![no_main]

use bitting::provider::ask::{self, Multipart, MultipartError};
use bitting::provider::operation::{Form, ROWS, Row};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const TYPES: [(&str, &str); 4] = [
    ("multipart/form-data; boundary=x", "x"),
    ("Multipart/Form-Data;boundary=\"x y\"", "x y"),
    (
        "multipart/form-data; charset=utf-8; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",
    ),
    ("multipart/form-data; boundary=-", "-"),
];
const PARTS_MAX: usize = 128;
const HEAD_BYTES_MAX: usize = 4_096;

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn split<'b>(mut bytes: &'b [u8], at: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while let Some(found) = find(bytes, at) {
        pieces.push(&bytes[..found]);
        bytes = &bytes[found + at.len()..];
    }
    pieces.push(bytes);
    pieces
}

/// The parts between delimiters, each with its head; `None` where the delimiters are not as they must be. A line's end
/// stands before each delimiter, so one is put before the first.
fn plainly(body: &[u8], boundary: &str) -> Option<Vec<Vec<u8>>> {
    let body = [b"\r\n", body].concat();
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let [before, parts @ .., end] = &split(&body, &delimiter)[..] else { return None };
    let is_end = matches!(*end, b"--" | b"--\r\n");
    (before.is_empty() && is_end).then_some(())?;
    parts.iter().map(|part| part.strip_prefix(b"\r\n").map(<[u8]>::to_vec)).collect()
}

/// A line's end that is none stands before what would be a delimiter.
fn has_bare_ends(body: &[u8], boundary: &str) -> bool {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    (1..body.len()).any(|at| {
        body[at..].starts_with(&delimiter)
            && matches!(body[at - 1], b'\r' | b'\n')
            && !body[..at].ends_with(b"\r\n")
    })
}

/// The name in a head that is written as libraries write it, with nothing else in it that matters.
fn usual_name(head: &[u8]) -> Option<(&str, bool)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let rest = lines.next()?.strip_prefix("Content-Disposition: form-data; name=\"")?;
    let (name, rest) = rest.split_once('"')?;
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_[].".contains(&byte))
    };
    let file = match rest {
        "" => None,
        rest => Some(rest.strip_prefix("; filename=\"")?.strip_suffix('"')?),
    };
    let is_type = lines
        .next()
        .is_none_or(|line| matches!(line, "Content-Type: audio/wav" | "Content-Type: application/json"));
    let is_usual =
        is_word(name) && name.len() <= 64 && name != "_charset_" && file.is_none_or(is_word) && is_type;
    (is_usual && lines.next().is_none()).then_some((name, file.is_some()))
}

fn check(content_type: &str, boundary: &str, body: &[u8]) {
    let parsed = Multipart::parse(content_type, body);
    let plain = plainly(body, boundary).filter(|_| !has_bare_ends(body, boundary));
    match (&parsed, &plain) {
        (Ok(form), Some(parts)) => {
            assert_eq!(form.boundary, boundary);
            assert_eq!(form.parts.len(), parts.len());
            let mut after = 0;
            for (part, plain) in form.parts.iter().zip(parts) {
                assert!(after <= part.span.start && part.span.end <= body.len(), "in bounds, in order");
                after = part.span.end;
                assert_eq!(&body[part.span.clone()], part.bytes);
                let head_end = find(plain, b"\r\n\r\n").expect("a part has a head");
                assert!(head_end + 4 <= HEAD_BYTES_MAX);
                assert_eq!(part.bytes, &plain[head_end + 4..]);
                let head = plain[..head_end].to_ascii_lowercase();
                assert!(
                    find(&head, part.name.to_ascii_lowercase().as_bytes()).is_some(),
                    "the name stands there"
                );
                assert!(!part.is_file || find(&head, b"filename").is_some());
                if let Some((name, is_file)) = usual_name(&plain[..head_end]) {
                    assert_eq!((part.name, part.is_file), (name, is_file));
                }
            }
        }
        (Ok(_), None) => panic!("read what has no right delimiters"),
        (Err(MultipartError::TooMany), Some(parts)) => assert!(parts.len() > PARTS_MAX),
        (Err(MultipartError::Head { part, .. }), Some(parts)) => {
            let head = &parts[part - 1];
            let head_end = find(&head[..head.len().min(HEAD_BYTES_MAX)], b"\r\n\r\n");
            assert!(head_end.is_none_or(|end| usual_name(&head[..end]).is_none()), "a usual head is read");
        }
        (Err(error), Some(_)) => panic!("refused: {error}"),
        (Err(_), None) => {}
    }
}

/// Where an operation takes the form, another model is put in, and every other part stays.
fn check_asks(content_type: &str, body: &[u8]) {
    const OTHER: &str = "other/model";
    let parts = |body: &[u8]| {
        let form = Multipart::parse(content_type, body).expect("an ask is read from a form");
        let parts = form.parts.iter().map(|part| (part.name.to_owned(), part.is_file, part.bytes.to_vec()));
        parts.collect::<Vec<_>>()
    };
    let takes_model = |row: &&Row| matches!(row.form, Form::Parts(parts) if parts.needs_model());
    for row in ROWS.iter().filter(takes_model) {
        let Ok(asked) = ask::read_body(row, Some(content_type), body) else { continue };
        let pieces = ask::pieces(&Bytes::copy_from_slice(body), asked.model_splices(OTHER).collect());
        let changed = pieces.expect("changes fit").concat();
        let mut wanted = parts(body);
        match wanted.iter_mut().find(|part| part.0 == "model") {
            Some(model) => model.2 = OTHER.into(),
            None => wanted.insert(0, ("model".to_owned(), false, OTHER.into())),
        }
        assert_eq!(parts(&changed), wanted);
    }
}

/// What is written as it should be is read as it was meant.
fn check_written(content_type: &str, boundary: &str, material: &[u8]) {
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let is_free = |value: &&[u8]| find(value, &delimiter).is_none();
    let values: Vec<&[u8]> = split(material, b"\0").into_iter().filter(is_free).take(PARTS_MAX).collect();
    let mut body = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let file = if at % 2 == 1 { "; filename=\"a.wav\"" } else { "" };
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"field{at}\"{file}\r\n\r\n");
        body.extend([head.as_bytes(), value, b"\r\n"].concat());
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    let form = Multipart::parse(content_type, &body).expect("it is written as it should be");
    assert_eq!(form.parts.len(), values.len());
    for (at, (part, value)) in form.parts.iter().zip(values).enumerate() {
        assert_eq!(
            (part.name, part.is_file, part.bytes),
            (format!("field{at}").as_str(), at % 2 == 1, value)
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let [first, body @ ..] = input else { return };
    let (content_type, boundary) = TYPES[usize::from(*first) % TYPES.len()];
    check(content_type, boundary, body);
    check_asks(content_type, body);
    check_written(content_type, boundary, body);
    // The header is a client's too.
    if let Some(at) = body.iter().position(|byte| *byte == b'\n')
        && let Ok(content_type) = std::str::from_utf8(&body[..at])
        && let Ok(form) = Multipart::parse(content_type, &body[at + 1..])
    {
        assert!(content_type.contains(&form.boundary) && (1..=70).contains(&form.boundary.len()));
    }
});
