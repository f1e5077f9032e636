//! `filter_path`: which members of a bulk reply a client wants.

use super::items::Kind;

/// A member of the reply that has no members itself. Paths of items have the action's name in the second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// `took`
    Took,
    /// `errors`
    Errors,
    /// `items.*._index`
    Index,
    /// `items.*._id`
    Id,
    /// `items.*._version`
    Version,
    /// `items.*.result`
    Result,
    /// `items.*._shards.total`
    ShardsTotal,
    /// `items.*._shards.successful`
    ShardsSuccessful,
    /// `items.*._shards.failed`
    ShardsFailed,
    /// `items.*._seq_no`
    SeqNo,
    /// `items.*._primary_term`
    PrimaryTerm,
    /// `items.*.status`
    Status,
    /// `items.*.error.type`
    ErrorType,
    /// `items.*.error.reason`
    ErrorReason,
}

impl Leaf {
    const ALL: [Leaf; 14] = [
        Leaf::Took,
        Leaf::Errors,
        Leaf::Index,
        Leaf::Id,
        Leaf::Version,
        Leaf::Result,
        Leaf::ShardsTotal,
        Leaf::ShardsSuccessful,
        Leaf::ShardsFailed,
        Leaf::SeqNo,
        Leaf::PrimaryTerm,
        Leaf::Status,
        Leaf::ErrorType,
        Leaf::ErrorReason,
    ];

    fn path(self, kind: Kind) -> (&'static [&'static str], Option<Kind>) {
        match self {
            Leaf::Took => (&["took"], None),
            Leaf::Errors => (&["errors"], None),
            Leaf::Index => (&["_index"], Some(kind)),
            Leaf::Id => (&["_id"], Some(kind)),
            Leaf::Version => (&["_version"], Some(kind)),
            Leaf::Result => (&["result"], Some(kind)),
            Leaf::ShardsTotal => (&["_shards", "total"], Some(kind)),
            Leaf::ShardsSuccessful => (&["_shards", "successful"], Some(kind)),
            Leaf::ShardsFailed => (&["_shards", "failed"], Some(kind)),
            Leaf::SeqNo => (&["_seq_no"], Some(kind)),
            Leaf::PrimaryTerm => (&["_primary_term"], Some(kind)),
            Leaf::Status => (&["status"], Some(kind)),
            Leaf::ErrorType => (&["error", "type"], Some(kind)),
            Leaf::ErrorReason => (&["error", "reason"], Some(kind)),
        }
    }
}

/// The wanted members, for each kind of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter([u16; Kind::ALL.len()]);

/// Patterns that are looked at; further ones are not.
const PATTERNS_MAX: usize = 32;

/// Segments of a pattern; a longer one fits no member.
const SEGMENTS_MAX: usize = 8;

impl Filter {
    /// Everything.
    pub const ALL: Filter = Filter([u16::MAX; Kind::ALL.len()]);

    /// Takes patterns between commas: members joined by dots, `*` for any part of a name, `**` for any members on the way,
    /// and `-` before what is not wanted.
    pub fn parse(patterns: &str) -> Filter {
        let patterns = || {
            let named = patterns
                .split(',')
                .map(str::trim)
                .filter(|pattern| !pattern.is_empty());
            named.take(PATTERNS_MAX)
        };
        let all_are_exclusions = patterns().all(|pattern| pattern.starts_with('-'));
        Filter(Kind::ALL.map(|kind| {
            let mut wanted = 0;
            for leaf in Leaf::ALL {
                let (tail, of_item) = leaf.path(kind);
                let mut path = [""; 4];
                let mut length = 0;
                if let Some(kind) = of_item {
                    (path[0], path[1], length) = ("items", kind.name(), 2);
                }
                path[length..length + tail.len()].copy_from_slice(tail);
                let path = &path[..length + tail.len()];
                let included = all_are_exclusions || patterns().any(|pattern| matches(pattern, path));
                let excluded =
                    patterns().any(|pattern| pattern.strip_prefix('-').is_some_and(|p| matches(p, path)));
                wanted |= u16::from(included && !excluded) << leaf as u16;
            }
            wanted
        }))
    }

    /// Whether a member is wanted in items of a kind.
    #[inline]
    pub fn wants(self, kind: Kind, leaf: Leaf) -> bool {
        self.0[kind as usize] & 1 << leaf as u16 != 0
    }
}

/// Whether a pattern names the member at `path`, or one that it is in.
fn matches(pattern: &str, path: &[&str]) -> bool {
    let mut segments = [""; SEGMENTS_MAX];
    let mut count = 0;
    for segment in pattern.split('.') {
        if count == SEGMENTS_MAX {
            return false;
        }
        segments[count] = segment;
        count += 1;
    }
    follows(&segments[..count], path)
}

fn follows(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], _) => true,
        (["**", rest @ ..], _) => (0..=path.len()).any(|skipped| {
            // `**` alone is everything, and before something it is that at any depth.
            follows(rest, &path[skipped..])
        }),
        ([first, pattern @ ..], [name, path @ ..]) => is_like(first, name) && follows(pattern, path),
        (_, []) => false,
    }
}

fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            (0..=name.len()).any(|skipped| name.get(skipped..).is_some_and(|name| is_like(rest, name)))
        }),
    }
}
