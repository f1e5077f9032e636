//! Reads what lies on a tape of simd-json's, and puts values on one.

use crate::batch::{RowRefusal, RowStop, RowWriter};
use crate::column::{Node, StaticNode};

/// Nodes that the value at a node takes, itself included.
pub(crate) fn span(nodes: &[Node<'_>], at: usize) -> usize {
    match nodes[at] {
        Node::Object { count, .. } | Node::Array { count, .. } => 1 + count,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// Bytes that count for the value at a node: its texts, and one for each value. Never more than it has as JSON.
pub(crate) fn bytes(nodes: &[Node<'_>], at: usize) -> usize {
    let nodes = &nodes[at..at + span(nodes, at)];
    let bytes = nodes.iter().map(|node| match node {
        Node::String(text) => 1 + text.len(),
        _ => 1,
    });
    bytes.sum()
}

/// Bytes of the value at a node as JSON without blanks.
pub(crate) fn json_bytes(nodes: &[Node<'_>], at: usize) -> usize {
    let nodes = &nodes[at..at + span(nodes, at)];
    let bytes = nodes.iter().map(|node| match node {
        // Brackets, and between the members their commas and colons.
        Node::Object { len, .. } => 2 + (2 * len).saturating_sub(1),
        Node::Array { len, .. } => 2 + len.saturating_sub(1),
        Node::String(text) => quoted_bytes(text),
        Node::Static(StaticNode::I64(number)) => itoa::Buffer::new().format(*number).len(),
        Node::Static(StaticNode::U64(number)) => itoa::Buffer::new().format(*number).len(),
        Node::Static(StaticNode::F64(number)) => ryu::Buffer::new().format(*number).len(),
        Node::Static(StaticNode::Bool(false)) => 5,
        Node::Static(_) => 4,
    });
    bytes.sum()
}

/// Bytes of a text in JSON, quotes included.
pub(crate) fn quoted_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        ..b' ' => 6,
        _ => 1,
    });
    2 + escaped.sum::<usize>()
}

/// Copies the value at a node, which may have `depth_max` levels; its index on the row's tape.
///
/// # Errors
/// It has more.
pub(crate) fn copy<'t>(
    nodes: &[Node<'t>],
    at: usize,
    depth_max: u32,
    row: &mut RowWriter<'_, 't>,
) -> Result<u32, RowStop> {
    if !has_levels(nodes, at, depth_max) {
        return Err(RowRefusal::TooDeep.into());
    }
    let start = row.tape().len() as u32;
    row.tape().extend_from_slice(&nodes[at..at + span(nodes, at)]);
    Ok(start)
}

/// Whether the value at a node has at most `levels` of objects and arrays.
fn has_levels(nodes: &[Node<'_>], at: usize, levels: u32) -> bool {
    let (Node::Object { count, .. } | Node::Array { count, .. }) = nodes[at] else {
        return true;
    };
    let (mut inner, end) = (at + 1, at + 1 + count);
    while inner < end {
        // The recursion is bounded by this.
        if levels == 1 && span(nodes, inner) > 1 || levels == 0 || !has_levels(nodes, inner, levels - 1) {
            return false;
        }
        inner += span(nodes, inner);
    }
    true
}

/// Absent.
pub(crate) const NULL: Node<'static> = Node::Static(StaticNode::Null);

/// Elements of an array that are still to come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Elements {
    at: usize,
    pub(crate) left: usize,
}

impl Elements {
    /// Those of the array at a node; null is one without elements.
    pub(crate) fn of(nodes: &[Node<'_>], array: usize) -> Option<Elements> {
        match nodes[array] {
            Node::Array { len, .. } => Some(Elements {
                at: array + 1,
                left: len,
            }),
            Node::Static(StaticNode::Null) => Some(Elements::default()),
            _ => None,
        }
    }

    /// A whole message that is one object.
    pub(crate) fn one(nodes: &[Node<'_>]) -> Option<Elements> {
        matches!(nodes[0], Node::Object { .. }).then_some(Elements { at: 0, left: 1 })
    }

    /// A whole message that is one object, or an array of them.
    pub(crate) fn one_or_all(nodes: &[Node<'_>]) -> Option<Elements> {
        match nodes[0] {
            Node::Array { len, .. } => Some(Elements::first_of(0, len)),
            _ => Elements::one(nodes),
        }
    }

    /// Those of the array of `len` at a node.
    pub(crate) fn first_of(array: usize, len: usize) -> Elements {
        Elements {
            at: array + 1,
            left: len,
        }
    }

    /// The one that came last, which was at `at`, comes again.
    pub(crate) fn put_back(&mut self, at: usize) {
        self.at = at;
        self.left += 1;
    }

    /// The next one's index.
    pub(crate) fn next(&mut self, nodes: &[Node<'_>]) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at += span(nodes, at);
        Some(at)
    }
}

/// Members of an object that are not null: name, and where the value is.
pub(crate) struct Members<'t> {
    nodes: &'t [Node<'t>],
    rest: Elements,
}

impl<'t> Members<'t> {
    /// Those of the object at a node; null is one without members.
    pub(crate) fn of(nodes: &'t [Node<'t>], object: usize) -> Option<Members<'t>> {
        match nodes[object] {
            Node::Static(StaticNode::Null) => Some(Members {
                nodes,
                rest: Elements::default(),
            }),
            _ => Members::of_object(nodes, object),
        }
    }

    /// Those of the object at a node, which must be one.
    pub(crate) fn of_object(nodes: &'t [Node<'t>], object: usize) -> Option<Members<'t>> {
        let Node::Object { len, .. } = nodes[object] else {
            return None;
        };
        let rest = Elements {
            at: object + 1,
            left: 2 * len,
        };
        Some(Members { nodes, rest })
    }
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, usize);

    fn next(&mut self) -> Option<(&'t str, usize)> {
        loop {
            let key = self.rest.next(self.nodes)?;
            let value = self.rest.next(self.nodes)?;
            match self.nodes[key] {
                Node::String(name) if self.nodes[value] != NULL => return Some((name, value)),
                _ => {}
            }
        }
    }
}

/// A text on the tape; 0 for an empty one.
pub(crate) fn put_text<'t>(text: &'t str, row: &mut RowWriter<'_, 't>) -> u32 {
    if text.is_empty() {
        return 0;
    }
    row.tape().push(Node::String(text));
    row.tape().len() as u32 - 1
}

/// An integer of a value, as both encodings have it on the tape.
pub(crate) fn integer_node(number: i64) -> Node<'static> {
    Node::Static(match number {
        negative @ ..0 => StaticNode::I64(negative),
        _ => StaticNode::U64(number as u64),
    })
}

/// A floating-point number of a value. JSON has no number for some of them: they are named as in OTLP's JSON form.
pub(crate) fn double_node(number: f64) -> Node<'static> {
    match number {
        _ if number.is_finite() => Node::Static(StaticNode::F64(number)),
        _ if number.is_nan() => Node::String("NaN"),
        _ if number > 0.0 => Node::String("Infinity"),
        _ => Node::String("-Infinity"),
    }
}

/// The value of a member of the object at `object`, which is flat but for the values themselves; 0 when there is none.
pub(crate) fn find_member(tape: &[Node<'_>], object: u32, key: &str) -> u32 {
    let Node::Object { len, .. } = tape[object as usize] else {
        return 0;
    };
    let mut at = object as usize + 1;
    for _ in 0..len {
        if tape[at] == Node::String(key) {
            return at as u32 + 1;
        }
        at += match tape[at + 1] {
            Node::Object { count, .. } | Node::Array { count, .. } => 2 + count,
            Node::String(_) | Node::Static(_) => 2,
        };
    }
    0
}
