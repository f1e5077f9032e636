//! Reads the structured data of a message (RFC 5424 section 6.3).

use crate::batch::RowStop;
use crate::message::Room;

/// The elements between a message's header and its text, well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StructuredData<'b> {
    text: &'b str,
    /// Parameters, and elements without any.
    pub params: usize,
    /// Bytes of the longest name of an element with that of a parameter and the dot between them.
    pub name_bytes: usize,
}

/// A parameter, or an element that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'b> {
    /// SD-ID
    pub element: &'b str,
    /// PARAM-NAME, empty for an element without parameters.
    pub name: &'b str,
    /// PARAM-VALUE, with its escapes.
    pub escaped: &'b str,
}

impl<'b> StructuredData<'b> {
    /// The elements that `text` starts with, and what follows them; `None` when they are malformed or there are none.
    pub fn parse(text: &'b str) -> Option<(StructuredData<'b>, &'b str)> {
        let mut data = StructuredData::default();
        let mut params = Params::of(text);
        while let Some(param) = params.step()? {
            data.params += 1;
            data.name_bytes = data.name_bytes.max(param.element.len() + 1 + param.name.len());
        }
        data.text = &text[..text.len() - params.rest.len()];
        (data.params > 0).then_some((data, params.rest))
    }

    /// All of it as it was written.
    pub fn text(&self) -> &'b str {
        self.text
    }

    /// Its parameters in their order.
    pub fn params(&self) -> Params<'b> {
        Params::of(self.text)
    }
}

/// Goes through the parameters of structured data.
#[derive(Debug, Clone, Copy)]
pub struct Params<'b> {
    element: &'b str,
    /// Within an element.
    open: bool,
    rest: &'b str,
}

impl<'b> Params<'b> {
    fn of(text: &'b str) -> Params<'b> {
        Params {
            element: "",
            open: false,
            rest: text,
        }
    }

    /// The next parameter, `Some(None)` behind the last element, `None` when it is malformed.
    fn step(&mut self) -> Option<Option<Param<'b>>> {
        loop {
            if !self.open {
                let Some(inner) = self.rest.strip_prefix('[') else {
                    return Some(None);
                };
                (self.element, self.rest) = name(inner)?;
                self.open = true;
                if let Some(rest) = self.rest.strip_prefix(']') {
                    (self.open, self.rest) = (false, rest);
                    return Some(Some(Param {
                        element: self.element,
                        name: "",
                        escaped: "",
                    }));
                }
            }
            if let Some(rest) = self.rest.strip_prefix(']') {
                (self.open, self.rest) = (false, rest);
                continue;
            }
            let (name, rest) = name(self.rest.strip_prefix(' ')?)?;
            let value = rest.strip_prefix("=\"")?;
            let mut at = 0;
            loop {
                at += memchr::memchr2(b'"', b'\\', &value.as_bytes()[at..])?;
                if value.as_bytes()[at] == b'"' {
                    break;
                }
                // Whatever is escaped, it ends nothing.
                at += 1 + value[at + 1..].chars().next()?.len_utf8();
            }
            self.rest = &value[at + 1..];
            return Some(Some(Param {
                element: self.element,
                name,
                escaped: &value[..at],
            }));
        }
    }
}

impl<'b> Iterator for Params<'b> {
    type Item = Param<'b>;

    fn next(&mut self) -> Option<Param<'b>> {
        // It was well formed when it was parsed.
        self.step().flatten()
    }
}

/// SD-NAME: printable, without `=`, space, `]` and `"`; at least one letter. RFC 5424 allows 32, and more are read.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text
        .bytes()
        .position(|byte| matches!(byte, b'=' | b']' | b'"' | ..=b' '))?;
    (end > 0).then(|| text.split_at(end))
}

impl<'b> Param<'b> {
    /// Its value: `\"`, `\\` and `\]` stand for what follows the backslash, any other backslash for itself.
    ///
    /// # Errors
    /// No room is left.
    pub fn value(&self, room: &mut Room<'b>) -> Result<&'b str, RowStop> {
        if !self.escaped.contains('\\') {
            return Ok(self.escaped);
        }
        let mut bytes = self.escaped.bytes().peekable();
        let taken = room.take(self.escaped.len())?;
        let mut len = 0;
        while let Some(mut byte) = bytes.next() {
            if byte == b'\\' && matches!(bytes.peek(), Some(b'"' | b'\\' | b']')) {
                byte = bytes.next().expect("it was just looked at");
            }
            taken[len] = byte;
            len += 1;
        }
        crate::message::text_of(&taken[..len])
    }
}
