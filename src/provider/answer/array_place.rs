//! Where one stands in an array of JSON that grows: which byte ends an element, and what may follow.

/// Follows brackets and strings.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    depth: usize,
    /// The depth at which elements stand: 1 inside an array, 0 for an object by itself.
    base: usize,
    text: Text,
    begun: bool,
    /// The array, or the object, was closed.
    pub(super) ended: bool,
    last: Last,
}

/// What stands last where elements stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// The bracket that begins the array, or a comma.
    #[default]
    Opening,
    /// A whole element.
    Element,
    /// A part of something that nobody can tell the end of.
    Part,
}

/// Where a scanner stands towards strings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Text {
    #[default]
    Outside,
    Inside,
    /// After a backslash.
    Escaped,
}

/// Where an array stands, for whoever has to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayPlace {
    /// Nothing was passed.
    Start,
    /// Where an element is to come: behind the bracket, or behind a comma.
    Before,
    /// Behind an element: a comma is to come.
    After,
    /// Inside an element, or after the end.
    Inside,
}

impl Scanner {
    /// Where what was read ends.
    pub(super) fn place(&self) -> ArrayPlace {
        match self {
            Scanner { last: Last::Part, .. } | Scanner { text: Text::Inside | Text::Escaped, .. } => {
                ArrayPlace::Inside
            }
            Scanner { begun: false, last: Last::Opening, .. } => ArrayPlace::Start,
            Scanner { depth: 1, base: 1, last: Last::Opening, .. } => ArrayPlace::Before,
            Scanner { depth: 1, base: 1, last: Last::Element, .. } => ArrayPlace::After,
            Scanner { .. } => ArrayPlace::Inside,
        }
    }

    /// Reads up to the end of an element, or all: how many bytes, and whether an element ends there.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.text != Text::Outside {
                self.text = match (self.text, byte) {
                    (Text::Inside, b'\\') => Text::Escaped,
                    (Text::Inside, b'"') => Text::Outside,
                    (Text::Inside | Text::Escaped | Text::Outside, _) => Text::Inside,
                };
                if self.text == Text::Outside && self.depth == self.base {
                    self.last = Last::Element;
                }
                continue;
            }
            match byte {
                b'"' => self.text = Text::Inside,
                b'{' | b'[' => {
                    if !self.begun {
                        self.begun = true;
                        self.base = usize::from(*byte == b'[');
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended |= self.depth == 0;
                    if self.depth == self.base {
                        self.last = Last::Element;
                    }
                    if self.depth == self.base && *byte == b'}' {
                        return (at + 1, true);
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b',' if self.depth == self.base => self.last = Last::Opening,
                _ if self.depth == self.base => self.last = Last::Part,
                _ => {}
            }
        }
        (bytes.len(), false)
    }
}
