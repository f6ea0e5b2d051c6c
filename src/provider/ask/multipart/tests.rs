use super::*;
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=a-b";

fn read(body: &[u8]) -> Result<Vec<(String, bool, Vec<u8>)>, MultipartError> {
    let form = Multipart::parse(TYPE, body)?;
    for part in &form.parts {
        assert_eq!(&body[part.span.clone()], part.bytes);
    }
    Ok(form.parts.iter().map(|part| (part.name.to_owned(), part.is_file, part.bytes.to_vec())).collect())
}

/// A form of one part with this head.
fn head(head: &str) -> Result<Vec<(String, bool, Vec<u8>)>, MultipartError> {
    read(format!("--a-b\r\n{head}\r\n\r\n1\r\n--a-b--\r\n").as_bytes())
}

fn part(name: &str, is_file: bool, bytes: &[u8]) -> (String, bool, Vec<u8>) {
    (name.to_owned(), is_file, bytes.to_vec())
}

#[test]
fn fields_and_files_are_read_byte_for_byte() {
    let body = b"--a-b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--a-b\r\n\
        content-disposition:form-data;filename=\"x; name=y\";name=file\r\nContent-Type: image/png\r\n\
        X-Other: 1\r\n\r\n\r\n-\0\xff--a-b\r\n\r\n--a-b\r\n\
        Content-Disposition: form-data; name=\"empty[]\"\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\n\r\n--a-b--\r\n";
    let wanted = [
        part("model", false, b"m"),
        part("file", true, b"\r\n-\0\xff--a-b\r\n"),
        part("empty[]", false, b""),
    ];
    assert_eq!(read(body).unwrap(), wanted);
    assert_eq!(read(b"--a-b--").unwrap(), []);
    assert_eq!(read(b"--a-b--\r\n").unwrap(), []);
}

#[test]
fn a_written_part_is_read_as_what_it_says() {
    let body = format!("{}--a-b--\r\n", Multipart::written("a-b", "model", "gpt-4o"));
    assert_eq!(read(body.as_bytes()).unwrap(), [part("model", false, b"gpt-4o")]);
}

#[test]
fn what_stands_around_delimiters_is_refused() {
    let one = "Content-Disposition: form-data; name=\"n\"\r\n\r\n1";
    let delimiter = |at| Err(MultipartError::Delimiter { at });
    for (body, wanted) in [
        (String::new(), Err(MultipartError::NoEnd)),
        ("--a-c\r\n".into(), Err(MultipartError::NoEnd)),
        (format!("\r\n--a-b\r\n{one}\r\n--a-b--"), delimiter(0)),
        (format!("preamble\r\n--a-b\r\n{one}\r\n--a-b--"), delimiter(0)),
        (format!("--a-b\r\n{one}\r\n--a-b"), delimiter(59)),
        (format!("--a-b\r\n{one}"), Err(MultipartError::NoEnd)),
        (format!("--a-b\r\n{one}\n--a-b--"), delimiter(53)),
        (format!("--a-b\r\n{one}\r--a-b--"), delimiter(53)),
        (format!("--a-b \r\n{one}\r\n--a-b--"), delimiter(5)),
        (format!("--a-b\n{one}\r\n--a-b--"), delimiter(5)),
        (format!("--a-bc\r\n{one}\r\n--a-b--"), delimiter(5)),
        (format!("--a-b\r\n{one}\r\n--a-b-- "), delimiter(61)),
        (format!("--a-b\r\n{one}\r\n--a-b--\r\nepilogue"), delimiter(61)),
        (format!("--a-b\r\n{one}\r\n--a-bc\r\n\r\n--a-b--"), delimiter(59)),
        ("--a-b\r\n--a-b--".into(), delimiter(7)),
    ] {
        assert_eq!(read(body.as_bytes()).map(|_| ()), wanted, "{body:?}");
    }
    let many = format!("--a-b\r\n{one}\r\n").repeat(PARTS_MAX + 1) + "--a-b--";
    assert_eq!(read(many.as_bytes()).unwrap_err(), MultipartError::TooMany);
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let refused = |problem| Err(MultipartError::Head { part: 1, problem });
    for (bad, problem) in [
        ("Content-Type: text/plain", HeadProblem::Disposition),
        ("Content-Disposition: attachment; name=\"n\"", HeadProblem::Disposition),
        ("Content-Disposition: form-data", HeadProblem::Disposition),
        ("Content-Disposition: form-data; filename=\"n\"", HeadProblem::Name),
        ("Content-Disposition: form-data; name=\"n\"; name=\"m\"", HeadProblem::Disposition),
        ("Content-Disposition: form-data; name=\"n\"; NAME=\"m\"", HeadProblem::Disposition),
        ("Content-Disposition: form-data; name=\"n\"; name*=utf-8''m", HeadProblem::Disposition),
        ("Content-Disposition: form-data; name=\"n\" x", HeadProblem::Disposition),
        ("Content-Disposition: form-data; name=\"n", HeadProblem::Disposition),
        ("Content-Disposition: form-data; name=n m", HeadProblem::Disposition),
        ("Content-Disposition: form-data; name=", HeadProblem::Disposition),
        (
            "Content-Disposition: form-data; filename=\"a\\\"; name=\"m\"; name=\"n\"",
            HeadProblem::Disposition,
        ),
        ("Content-Disposition: form-data; name=\"\"", HeadProblem::Name),
        ("Content-Disposition: form-data; name=\"mo%64el\"", HeadProblem::Name),
        ("Content-Disposition: form-data; name=\"mod\u{e9}l\"", HeadProblem::Name),
        ("Content-Disposition: form-data; name=\"a\\\\b\"", HeadProblem::Name),
        ("Content-Disposition: form-data; name=\"_charset_\"", HeadProblem::Name),
        (
            "Content-Disposition: form-data; name=\"n\"\r\nContent-Disposition: form-data; name=\"m\"",
            HeadProblem::Twice,
        ),
        (
            "Content-Disposition: form-data; name=\"n\"\r\nContent-Type: a/b\r\nContent-Type: a/b",
            HeadProblem::Twice,
        ),
        ("Content-Disposition: form-data;\r\n name=\"n\"", HeadProblem::Name),
        ("Content-Disposition: form-data; name=\"n\"\r\n name=\"m\"", HeadProblem::NotAHeader),
        ("Content-Disposition : form-data; name=\"n\"", HeadProblem::NotAHeader),
        ("Content-Disposition: form-data; name=\"n\"\nX: y", HeadProblem::NotAHeader),
        ("Content-Disposition: form-data; name=\"n\"\r\nno header", HeadProblem::NotAHeader),
        (
            "Content-Disposition: form-data; name=\"n\"\r\nContent-Transfer-Encoding: base64",
            HeadProblem::Encoded,
        ),
        ("Content-Disposition: form-data; name=\"n\"\r\nContent-Encoding: gzip", HeadProblem::Encoded),
        (
            "Content-Disposition: form-data; name=\"n\"\r\nContent-Type: text/plain; charset=utf-16",
            HeadProblem::Charset,
        ),
    ] {
        assert_eq!(head(bad), refused(problem), "{bad:?}");
    }
    let long =
        format!("X: {}\r\nContent-Disposition: form-data; name=\"n\"", "y".repeat(PART_HEAD_BYTES_MAX));
    assert_eq!(head(&long), refused(HeadProblem::Unended));
    assert_eq!(read(b"--a-b\r\nno end\r\n--a-b--").unwrap_err(), refused(HeadProblem::Unended).unwrap_err());
}

#[test]
fn heads_that_client_libraries_write_are_read() {
    for good in [
        "Content-Disposition: form-data; name=\"n\"; filename=\"a.png\"",
        "Content-Disposition: form-data; name=\"n\"; filename=\"a%22b\\\\.png\"",
        "Content-Disposition: form-data; name=\"n\"; filename=\"\u{e4}.png\"",
        "Content-Disposition: form-data; name=\"n\"; filename*=utf-8''%C3%A4.png",
        "Content-Disposition: form-data; name=n; filename=a.png",
        "content-type: image/png; name=x\r\ncontent-disposition: form-data; name=\"n\"; filename=\"a\"",
        "Content-Transfer-Encoding: binary\r\nContent-Disposition: form-data; name=\"n\"; filename=\"\"",
    ] {
        assert_eq!(head(good), Ok(vec![part("n", true, b"1")]), "{good:?}");
    }
}

#[test]
fn only_one_plain_boundary_is_taken() {
    for content_type in
        ["multipart/form-data; boundary=\"a-b\"", "Multipart/Form-Data;charset=UTF-8 ; Boundary=a-b"]
    {
        assert!(Multipart::parse(content_type, b"--a-b--").is_ok(), "{content_type}");
    }
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a-b \"",
        "multipart/form-data; boundary=a-b; boundary=a-b",
        "multipart/form-data; boundary=a-b; charset=utf-7",
        "multipart/form-data; boundary=a-b; x=y",
        "multipart/form-data; boundary=\"a\\\"-b\"",
        "multipart/mixed; boundary=a-b",
        "application/json",
        &format!("multipart/form-data; boundary={}", "a".repeat(71)),
    ] {
        assert_eq!(Multipart::parse(content_type, b"--a-b--").unwrap_err(), MultipartError::Boundary);
    }
}

proptest! {
    /// What a client writes is what is read, whatever the contents hold but a delimiter at a line's beginning.
    #[test]
    fn what_is_written_is_read(
        parts in prop::collection::vec(
            ("[a-zA-Z_\\[\\]]{1,12}", prop::option::of("[^\"\\\\\r\n\\p{C}]{0,12}"), prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'a'), Just(b'b'), any::<u8>()], 0..40,
            )), 0..5,
        ),
    ) {
        let is_delimiter = |content: &[u8]| {
            let framed = [b"\r\n", content].concat();
            [&b"\n--a-b"[..], b"\r--a-b"].iter().any(|end| memmem::find(&framed, end).is_some())
        };
        prop_assume!(!parts.iter().any(|(.., content)| is_delimiter(content)));
        let mut body = Vec::new();
        for (name, filename, content) in &parts {
            let filename = filename.as_ref().map_or(String::new(), |name| format!("; filename=\"{name}\""));
            body.extend_from_slice(
                format!("--a-b\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--a-b--\r\n");
        let wanted: Vec<_> =
            parts.iter().map(|(name, file, content)| part(name, file.is_some(), content)).collect();
        prop_assert_eq!(read(&body).unwrap(), wanted);
    }

    /// Nothing at all makes the reader fail otherwise than by an error.
    #[test]
    fn anything_is_read_or_refused(
        body in prop::collection::vec(
            prop_oneof![
                Just(&b"--a-b"[..]), Just(&b"\r\n"[..]), Just(&b"--"[..]), Just(&b"\n"[..]), Just(&b";"[..]),
                Just(&b"Content-Disposition: form-data; name=\"n\""[..]), Just(&b"\""[..]), Just(&b"\xff"[..]),
            ], 0..24,
        ),
    ) {
        let _ = read(&body.concat());
    }
}
