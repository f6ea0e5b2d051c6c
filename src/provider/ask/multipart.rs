//! `multipart/form-data`, as uploads come (RFC 7578 on top of RFC 2046), read strictly and in place.
//!
//! What is checked here is read again by the provider, with another reader. So whatever two readers could take for two
//! things is refused: a delimiter with anything around it, bare line ends before one, a parameter given twice or written
//! so that a quote can be its end or not, an encoding of a part. The client libraries write none of that. The parts
//! borrow from the body and nothing is copied.

use memchr::{memchr, memmem};
use std::ops::Range;

const PARTS_MAX: usize = 128;
const PART_HEAD_BYTES_MAX: usize = 4_096;
const NAME_BYTES_MAX: usize = 128;
/// RFC 2046, section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// A form, in its order.
#[derive(Debug)]
pub struct Multipart<'b> {
    /// What separates its parts, without the hyphens before it.
    pub boundary: String,
    /// Its parts.
    pub parts: Vec<Part<'b>>,
}

/// One part of a form.
#[derive(Debug)]
pub struct Part<'b> {
    /// The field: printable ASCII that no reader decodes.
    pub name: &'b str,
    /// There is a file name: the part is a file.
    pub is_file: bool,
    /// The content.
    pub bytes: &'b [u8],
    /// Where the content stands in the body.
    pub span: Range<usize>,
}

/// Why a body is no form that every reader reads alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The content type has no usable boundary.
    #[error("the content type must be multipart/form-data with one boundary of at most 70 characters")]
    Boundary,
    /// Something stands where a delimiter must, or around one.
    #[error("the form is not delimited as RFC 2046 says, at byte {at}: send it as client libraries write it")]
    Delimiter {
        /// Where.
        at: usize,
    },
    /// The last delimiter is missing.
    #[error("the form has no end: the last delimiter is missing")]
    NoEnd,
    /// Too many parts.
    #[error("the form has more than {PARTS_MAX} parts")]
    TooMany,
    /// The head of a part.
    #[error("the head of part {part} {problem}")]
    Head {
        /// Which, from 1.
        part: usize,
        /// What is wrong.
        problem: HeadProblem,
    },
}

/// What is wrong with the head of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadProblem {
    /// It does not end, or is too long.
    #[error("must end with an empty line within {PART_HEAD_BYTES_MAX} bytes")]
    Unended,
    /// A line is no header.
    #[error("has a line that is no header")]
    NotAHeader,
    /// A header that matters stands there twice.
    #[error("has a header twice")]
    Twice,
    /// No `Content-Disposition: form-data`, or one that can be read in two ways.
    #[error("must have one Content-Disposition of form-data, its parameters quoted and given once")]
    Disposition,
    /// A name that two readers could decode differently.
    #[error("must have a name of 1 to 128 printable ASCII characters without quotes, backslashes and %")]
    Name,
    /// The part says that its content is encoded.
    #[error("must not say that its content is encoded")]
    Encoded,
    /// The part's text is in another character set.
    #[error("must not name a character set other than UTF-8")]
    Charset,
}

impl<'b> Multipart<'b> {
    /// Reads the form in `body`, whose content type is `content_type`.
    ///
    /// # Errors
    /// Anything that RFC 2046 and 7578 do not say, and the liberties that they allow and no client library takes.
    pub fn parse(content_type: &str, body: &'b [u8]) -> Result<Self, MultipartError> {
        let boundary = boundary(content_type).ok_or(MultipartError::Boundary)?;
        let delimiter = format!("--{boundary}");
        let mut delimiters = delimiters(body, delimiter.as_bytes());
        match delimiters.next().transpose()? {
            Some(0) => {}
            Some(_) => return Err(MultipartError::Delimiter { at: 0 }),
            None => return Err(MultipartError::NoEnd),
        }
        let mut parts = Vec::new();
        let mut at = delimiter.len();
        loop {
            let after = &body[at..];
            if let Some(end) = after.strip_prefix(b"--") {
                return if matches!(end, b"" | b"\r\n") {
                    Ok(Self { boundary, parts })
                } else {
                    Err(MultipartError::Delimiter { at: at + 2 })
                };
            }
            if !after.starts_with(b"\r\n") {
                return Err(MultipartError::Delimiter { at });
            }
            if parts.len() == PARTS_MAX {
                return Err(MultipartError::TooMany);
            }
            let start = at + 2;
            let next = delimiters.next().transpose()?.ok_or(MultipartError::NoEnd)?;
            // The line's end before a delimiter belongs to it.
            let end = next.checked_sub(2).filter(|end| *end >= start);
            let end = end.ok_or(MultipartError::Delimiter { at: next })?;
            let part = Part::read(&body[start..end], start)
                .map_err(|problem| MultipartError::Head { part: parts.len() + 1, problem })?;
            parts.push(part);
            at = next + delimiter.len();
        }
    }

    /// A part that says this of a field, as it stands before the first one.
    pub fn written(boundary: &str, name: &str, value: &str) -> String {
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    }
}

impl<'b> Part<'b> {
    /// A part without its delimiters; `at` is its place in the body.
    fn read(part: &'b [u8], at: usize) -> Result<Self, HeadProblem> {
        let looked_at = &part[..part.len().min(PART_HEAD_BYTES_MAX)];
        let head_end = memmem::find(looked_at, b"\r\n\r\n").ok_or(HeadProblem::Unended)?;
        let (head, content) = (&part[..head_end], head_end + 4);
        let head = std::str::from_utf8(head).map_err(|_| HeadProblem::NotAHeader)?;
        let (mut disposition, mut has_type, mut has_encoding) = (None, false, false);
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').ok_or(HeadProblem::NotAHeader)?;
            let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
            if !is_token || value.contains(|ch: char| ch.is_control() && ch != '\t') {
                return Err(HeadProblem::NotAHeader);
            }
            let value = value.trim_matches([' ', '\t']);
            let is_second = match name.to_ascii_lowercase().as_str() {
                "content-disposition" => disposition.replace(Disposition::read(value)?).is_some(),
                "content-type" if !is_utf8(value) => return Err(HeadProblem::Charset),
                "content-type" => std::mem::replace(&mut has_type, true),
                "content-transfer-encoding" if !is_identity(value) => return Err(HeadProblem::Encoded),
                "content-transfer-encoding" => std::mem::replace(&mut has_encoding, true),
                "content-encoding" => return Err(HeadProblem::Encoded),
                _ => false,
            };
            if is_second {
                return Err(HeadProblem::Twice);
            }
        }
        let Disposition { name, is_file } = disposition.ok_or(HeadProblem::Disposition)?;
        Ok(Self { name, is_file, bytes: &part[content..], span: at + content..at + part.len() })
    }
}

/// What a part's `Content-Disposition` says.
struct Disposition<'b> {
    name: &'b str,
    is_file: bool,
}

impl<'b> Disposition<'b> {
    fn read(value: &'b str) -> Result<Self, HeadProblem> {
        let (kind, parameters) = value.split_once(';').ok_or(HeadProblem::Disposition)?;
        if !kind.trim().eq_ignore_ascii_case("form-data") {
            return Err(HeadProblem::Disposition);
        }
        let (mut name, mut filename, mut extended) = (None, None, None);
        for parameter in Parameters(parameters) {
            let (key, value) = parameter.ok_or(HeadProblem::Disposition)?;
            let seen = match key.to_ascii_lowercase().as_str() {
                "name" => name.replace(value),
                "filename" => filename.replace(value),
                // Clients write it beside or instead of the plain one where that cannot say a name (RFC 5987).
                "filename*" => extended.replace(value),
                _ => return Err(HeadProblem::Disposition),
            };
            if seen.is_some() {
                return Err(HeadProblem::Disposition);
            }
        }
        let name = name.filter(|name| is_field_name(name)).ok_or(HeadProblem::Name)?;
        Ok(Self { name, is_file: filename.is_some() || extended.is_some() })
    }
}

/// The parameters of a header's value; `None` for the first that can be read in two ways, and then no more.
struct Parameters<'b>(&'b str);

impl<'b> Iterator for Parameters<'b> {
    type Item = Option<(&'b str, &'b str)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_matches([' ', '\t']);
        if rest.is_empty() {
            return None;
        }
        self.0 = "";
        let Some((key, after)) = rest.split_once('=') else { return Some(None) };
        if key.is_empty() || !key.bytes().all(is_token_byte) {
            return Some(None);
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            let Some(end) = memchr(b'"', quoted.as_bytes()) else { return Some(None) };
            let value = &quoted[..end];
            let backslashes = value.bytes().rev().take_while(|byte| *byte == b'\\').count();
            // For some readers an escaped quote ends the value, for others not.
            if backslashes % 2 == 1 {
                return Some(None);
            }
            (value, &quoted[end + 1..])
        } else {
            let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
            let value = &after[..end];
            if value.is_empty() || !value.bytes().all(is_token_byte) {
                return Some(None);
            }
            (value, &after[end..])
        };
        let after = after.trim_start_matches([' ', '\t']);
        match after.strip_prefix(';') {
            Some(next) => self.0 = next,
            None if after.is_empty() => {}
            None => return Some(None),
        }
        Some(Some((key, value)))
    }
}

/// Where delimiters stand, in order. What a lenient reader could take for one and a strict one not is an error.
fn delimiters<'b>(
    body: &'b [u8],
    delimiter: &'b [u8],
) -> impl Iterator<Item = Result<usize, MultipartError>> + 'b {
    memmem::find_iter(body, delimiter).filter_map(move |at| match &body[..at] {
        [] | [.., b'\r', b'\n'] => Some(Ok(at)),
        [.., b'\r' | b'\n'] => Some(Err(MultipartError::Delimiter { at })),
        _ => None,
    })
}

/// The boundary that the content type names.
fn boundary(content_type: &str) -> Option<String> {
    let (essence, parameters) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut boundary = None;
    for parameter in Parameters(parameters) {
        let (key, value) = parameter?;
        if key.eq_ignore_ascii_case("boundary") {
            if boundary.replace(value).is_some() {
                return None;
            }
        } else if !(key.eq_ignore_ascii_case("charset") && value.eq_ignore_ascii_case("utf-8")) {
            return None;
        }
    }
    boundary.filter(|boundary| is_boundary(boundary)).map(str::to_owned)
}

/// RFC 2046, section 5.1.1.
fn is_boundary(boundary: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
        && boundary.bytes().all(is_plain)
        && !boundary.ends_with(' ')
}

/// A name that stands for itself in every reader. `_charset_` changes how the others are read.
fn is_field_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\%".contains(&byte) || byte == b' ';
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.eq_ignore_ascii_case("_charset_")
}

/// Whether a content type leaves a text UTF-8.
pub(super) fn is_utf8(content_type: &str) -> bool {
    let Some((_, parameters)) = content_type.split_once(';') else { return true };
    Parameters(parameters).all(|parameter| {
        parameter.is_some_and(|(key, value)| {
            !key.eq_ignore_ascii_case("charset")
                || ["utf-8", "us-ascii"].iter().any(|one| value.eq_ignore_ascii_case(one))
        })
    })
}

/// Whether a transfer encoding leaves the content as it is.
fn is_identity(encoding: &str) -> bool {
    ["binary", "8bit", "7bit"].iter().any(|plain| encoding.eq_ignore_ascii_case(plain))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
