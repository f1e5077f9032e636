//! Tape values as text: scalars as they are, arrays and objects as compact JSON.

use super::{Node, StaticNode};

/// Tape index after the value at `index`.
#[inline]
pub(super) fn next_value(tape: &[Node<'_>], index: usize) -> usize {
    index
        + match tape[index] {
            Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
            Node::String(_) | Node::Static(_) => 1,
        }
}

/// Appends the value at `index` as a String column holds it: texts without quotes, null as nothing.
pub(super) fn put_text(tape: &[Node<'_>], index: usize, out: &mut Vec<u8>) {
    match tape[index] {
        Node::String(text) => out.extend_from_slice(text.as_bytes()),
        Node::Static(StaticNode::Null) => {}
        _ => {
            put_json(tape, index, out);
        }
    }
}

/// Appends the value at `index` as JSON without spaces and returns the index after it.
///
/// Recursion is as deep as the tape, which the parser bounds (`Limits::depth_max`).
pub(super) fn put_json(tape: &[Node<'_>], index: usize, out: &mut Vec<u8>) -> usize {
    match tape[index] {
        Node::String(text) => {
            put_json_string(text.as_bytes(), out);
            index + 1
        }
        Node::Static(value) => {
            put_static(value, out);
            index + 1
        }
        Node::Array { len, .. } => {
            out.push(b'[');
            let mut at = index + 1;
            for element in 0..len {
                if element > 0 {
                    out.push(b',');
                }
                at = put_json(tape, at, out);
            }
            out.push(b']');
            at
        }
        Node::Object { len, .. } => {
            out.push(b'{');
            let mut at = index + 1;
            for member in 0..len {
                if member > 0 {
                    out.push(b',');
                }
                at = put_json(tape, at, out);
                out.push(b':');
                at = put_json(tape, at, out);
            }
            out.push(b'}');
            at
        }
    }
}

/// Appends `text` quoted, with the escapes JSON needs.
pub(super) fn put_json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest
        .iter()
        .position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn put_static(value: StaticNode, out: &mut Vec<u8>) {
    match value {
        StaticNode::I64(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        StaticNode::U64(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        StaticNode::F64(value) => out.extend_from_slice(ryu::Buffer::new().format(value).as_bytes()),
        StaticNode::Bool(true) => out.extend_from_slice(b"true"),
        StaticNode::Bool(false) => out.extend_from_slice(b"false"),
        StaticNode::Null => out.extend_from_slice(b"null"),
    }
}
