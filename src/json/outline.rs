//! Follows brackets, strings and escapes, to tell where a JSON value ends without parsing it.

use memchr::memchr2;

/// Where [`Outline::element`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementEnd {
    /// At the comma after the element.
    Comma(usize),
    /// At the bracket that ends the array.
    Bracket(usize),
    /// The text ended within the element.
    More,
}

/// Where [`Outline::object`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectEnd {
    /// One past the closing brace.
    Complete(usize),
    /// At the `{` of a new line that cannot continue the object: what lies before it is a bad row.
    Cut(usize),
    /// The text ended within the object.
    More,
}

/// Bytes of the object that `text` begins with, or of what stands in its place up to the next one.
pub fn object_end(text: &[u8]) -> usize {
    match Outline::default().object(text, 0) {
        ObjectEnd::Complete(end) | ObjectEnd::Cut(end) => end,
        ObjectEnd::More => text.len(),
    }
}

/// The state of a scan between two pieces of text. It believes the text: what it delimits may still not be JSON.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outline {
    /// Open brackets of either kind.
    depth: u32,
    /// The kind of the innermost 128 of them, 1 = array. Deeper ones are read as objects; only the guess at a
    /// cut line uses it.
    kinds: u128,
    in_string: bool,
    escaped: bool,
    /// The last byte that is not white space, outside strings.
    last: u8,
    after_newline: bool,
    /// The row cannot be an object any more and lasts until a line starts with `{`.
    junk: bool,
    /// A line within the object ended.
    pub(super) spans_lines: bool,
    /// A line that starts with `{` was taken as part of the object.
    pub(super) holds_brace_line: bool,
    /// A line ended within a string, which JSON forbids.
    pub(super) breaks_string: bool,
}

/// What a byte means outside strings.
const PLAIN: u8 = 0;
const SPACE: u8 = 1;
const NEWLINE: u8 = 2;
const QUOTE: u8 = 3;
const OPEN: u8 = 4;
const CLOSE: u8 = 5;
const COMMA: u8 = 6;

const CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    class[b' ' as usize] = SPACE;
    class[b'\t' as usize] = SPACE;
    class[b'\r' as usize] = SPACE;
    class[b'\n' as usize] = NEWLINE;
    class[b'"' as usize] = QUOTE;
    class[b'{' as usize] = OPEN;
    class[b'[' as usize] = OPEN;
    class[b'}' as usize] = CLOSE;
    class[b']' as usize] = CLOSE;
    class[b',' as usize] = COMMA;
    class
};

impl Outline {
    /// Scans an array element from `from`, which is inside it, to the comma or bracket that follows it.
    pub(super) fn element(&mut self, text: &[u8], from: usize) -> ElementEnd {
        let mut at = from;
        while at < text.len() {
            if self.in_string {
                at = self.string(text, at);
                continue;
            }
            let byte = text[at];
            match CLASS[usize::from(byte)] {
                QUOTE => self.in_string = true,
                OPEN => self.depth += 1,
                CLOSE if self.depth > 0 => self.depth -= 1,
                CLOSE if byte == b']' => return ElementEnd::Bracket(at),
                COMMA if self.depth == 0 => return ElementEnd::Comma(at),
                _ => {}
            }
            at += 1;
        }
        ElementEnd::More
    }

    /// Scans an object from `from`, its `{` or a place inside it, to its end.
    ///
    /// Text that starts otherwise is junk that lasts until a line starts with `{`. So does an object whose line
    /// ends within a string.
    pub(super) fn object(&mut self, text: &[u8], from: usize) -> ObjectEnd {
        let mut at = from;
        while at < text.len() {
            if self.in_string && !self.junk {
                at = self.string_of_line(text, at);
                continue;
            }
            let byte = text[at];
            let class = CLASS[usize::from(byte)];
            if class == NEWLINE {
                self.after_newline = true;
                self.spans_lines = true;
                at += 1;
                continue;
            }
            if class == SPACE {
                at += 1;
                continue;
            }
            if byte == b'{' && self.after_newline {
                if self.junk || !self.may_start_value() {
                    return ObjectEnd::Cut(at);
                }
                self.holds_brace_line = true;
            }
            self.after_newline = false;
            match class {
                _ if self.junk => {}
                QUOTE if self.depth > 0 => self.in_string = true,
                OPEN => {
                    self.depth += 1;
                    self.kinds = (self.kinds << 1) | u128::from(byte == b'[');
                }
                CLOSE if self.depth == 0 => self.junk = true,
                CLOSE => {
                    self.depth -= 1;
                    self.kinds >>= 1;
                    if self.depth == 0 {
                        return ObjectEnd::Complete(at + 1);
                    }
                }
                _ => self.junk = self.depth == 0,
            }
            self.last = byte;
            at += 1;
        }
        ObjectEnd::More
    }

    /// Whether a value may stand after `last`: only then can a line that starts with `{` continue the object.
    fn may_start_value(&self) -> bool {
        match self.last {
            b':' | b'[' => true,
            b',' => self.kinds & 1 == 1,
            _ => false,
        }
    }

    /// Skips string content from `at` to after the closing quote or to the end of the text.
    fn string(&mut self, text: &[u8], at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            return at + 1;
        }
        match memchr2(b'"', b'\\', &text[at..]) {
            None => text.len(),
            Some(skipped) => {
                if text[at + skipped] == b'"' {
                    self.in_string = false;
                    self.last = b'"';
                } else {
                    self.escaped = true;
                }
                at + skipped + 1
            }
        }
    }

    /// As [`Outline::string`], for text where a line end in a string means that the row is bad.
    fn string_of_line(&mut self, text: &[u8], at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            // An escaped line end is as forbidden as a bare one: leave it for the caller's next look.
            return if text[at] == b'\n' { at } else { at + 1 };
        }
        match memchr::memchr3(b'"', b'\\', b'\n', &text[at..]) {
            None => text.len(),
            Some(skipped) => {
                match text[at + skipped] {
                    b'"' => {
                        self.in_string = false;
                        self.last = b'"';
                    }
                    b'\\' => self.escaped = true,
                    _ => {
                        self.breaks_string = true;
                        self.junk = true;
                        return at + skipped;
                    }
                }
                at + skipped + 1
            }
        }
    }
}
