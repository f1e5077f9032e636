//! Reads one message, in the form of RFC 5424 or of RFC 3164.

use super::structured::StructuredData;
use super::time;
use crate::timestamp::{self, DateCache, UnixTime};
use crate::zone::Zone;

/// One message. What it does not have is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message<'b> {
    /// PRI, or that of RFC 3164 section 4.3.3 for a message without.
    pub priority: Priority,
    /// TIMESTAMP in nanoseconds since 1970.
    pub time_ns: Option<u64>,
    /// HOSTNAME
    pub hostname: &'b str,
    /// APP-NAME, or the TAG of RFC 3164.
    pub app_name: &'b str,
    /// PROCID, or what stands in brackets behind the TAG.
    pub procid: &'b str,
    /// MSGID
    pub msgid: &'b str,
    /// STRUCTURED-DATA
    pub structured_data: StructuredData<'b>,
    /// MSG or CONTENT: all that is in none of the parts above.
    pub text: &'b str,
}

/// Facility and severity, eight severities to a facility.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priority(u8);

impl Default for Priority {
    /// `user.notice`
    fn default() -> Self {
        Priority(13)
    }
}

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

impl Priority {
    /// The priority of this number, 0 to 191.
    pub fn new(number: u8) -> Option<Priority> {
        (usize::from(number) < 8 * FACILITIES.len()).then_some(Priority(number))
    }

    /// 0 (emergency) to 7 (debug).
    pub fn severity(self) -> u8 {
        self.0 % 8
    }

    /// Name of the facility, as syslog.conf has it.
    pub fn facility(self) -> &'static str {
        FACILITIES[usize::from(self.0 / 8)]
    }

    /// The PRI that `text` starts with, and what follows it. With zeros in front it is none (RFC 3164 section 4.3.3).
    fn parse(text: &str) -> Option<(Priority, &str)> {
        let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
        let is_number = matches!(digits.len(), 1..=3)
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        let number = is_number.then(|| digits.parse().ok()).flatten()?;
        Some((Priority::new(number)?, rest))
    }
}

/// Reads a message that was received at `now_s`, seconds since 1970, of a sender whose clock is that of `zone` when it does not say. There is none that cannot be read: what is in no known form is
/// text.
pub fn parse<'b>(text: &'b str, now_s: i64, zone: Zone, cache: &mut DateCache) -> Message<'b> {
    let Some((priority, rest)) = Priority::parse(text) else {
        return Message {
            text: without_mark(text),
            ..Message::default()
        };
    };
    let of_version = version(rest).and_then(|rest| parse_5424(rest, cache));
    let message = of_version.or_else(|| parse_3164(rest, now_s, zone, cache));
    Message {
        priority,
        ..message.unwrap_or(Message {
            text: without_mark(rest),
            ..Message::default()
        })
    }
}

/// What follows VERSION and a space.
fn version(text: &str) -> Option<&str> {
    let (version, rest) = text.split_at_checked(text.find(' ')?)?;
    let is_version = matches!(version.len(), 1..=3)
        && version.bytes().all(|byte| byte.is_ascii_digit())
        && !version.starts_with('0');
    is_version.then(|| &rest[1..])
}

/// From TIMESTAMP on.
fn parse_5424<'b>(text: &'b str, cache: &mut DateCache) -> Option<Message<'b>> {
    let (time, rest) = text.split_once(' ')?;
    let time_ns = match time.as_bytes() {
        b"-" => None,
        // `2003-10-11T22:14:15Z` is the shortest.
        bytes if bytes.len() >= 20 && bytes[4] == b'-' => Some(nanos(timestamp::parse(bytes, cache)?)?),
        _ => return None,
    };
    let (hostname, rest) = rest.split_once(' ')?;
    let (app_name, rest) = rest.split_once(' ')?;
    let (procid, rest) = rest.split_once(' ')?;
    let (msgid, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if [hostname, app_name, procid, msgid].contains(&"") {
        return None;
    }
    // Some leave the structured data out, and some write it wrong: then it is text.
    let (structured_data, text) = match StructuredData::parse(rest) {
        Some((data, "")) => (data, ""),
        Some((data, behind)) if behind.starts_with(' ') => (data, &behind[1..]),
        _ if rest == "-" => (StructuredData::default(), ""),
        _ => (StructuredData::default(), rest.strip_prefix("- ").unwrap_or(rest)),
    };
    Some(Message {
        priority: Priority::default(),
        time_ns,
        hostname: value(hostname),
        app_name: value(app_name),
        procid: value(procid),
        msgid: value(msgid),
        structured_data,
        text: without_mark(text),
    })
}

/// A field that may be NILVALUE.
fn value(field: &str) -> &str {
    if field == "-" { "" } else { field }
}

/// From TIMESTAMP on; what has none is not read any further.
fn parse_3164<'b>(text: &'b str, now_s: i64, zone: Zone, cache: &mut DateCache) -> Option<Message<'b>> {
    let (time, rest) = time::parse(text, now_s, zone, cache)?;
    let mut message = Message {
        time_ns: Some(nanos(time)?),
        ..Message::default()
    };
    let mut rest = rest;
    // What is written as a tag is none: programs on the host itself leave the name of the host out.
    if tag(rest).is_none()
        && let Some((hostname, behind)) = rest.split_once(' ')
        && !hostname.is_empty()
    {
        message.hostname = hostname;
        rest = behind;
    }
    if let Some((tag, procid, behind)) = tag(rest) {
        (message.app_name, message.procid) = (tag, procid);
        rest = behind;
    }
    message.text = without_mark(rest);
    Some(message)
}

/// `tag: ` or `tag[procid]: ` in front of a text, and what is behind it.
///
/// RFC 3164 ends a tag at any character that is neither letter nor digit; in practice it has paths, dots and dashes, and a colon at
/// its end. A word without one stays with the text.
fn tag(text: &str) -> Option<(&str, &str, &str)> {
    let end = text
        .bytes()
        .position(|byte| matches!(byte, b':' | b'[' | b' '))
        .filter(|end| *end > 0)?;
    let (tag, rest) = text.split_at(end);
    let (procid, rest) = match rest.strip_prefix('[') {
        None => ("", rest),
        Some(inner) => inner
            .split_once(']')
            .filter(|(procid, _)| !procid.is_empty() && !procid.contains(' '))?,
    };
    let rest = rest.strip_prefix(':')?;
    match rest.strip_prefix(' ') {
        Some(content) => Some((tag, procid, content)),
        None => rest.is_empty().then_some((tag, procid, "")),
    }
}

/// A text without the byte order mark that RFC 5424 puts in front of UTF-8.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Nanoseconds since 1970 of a time from then to 2262. A message of another time is read as text, which keeps it.
fn nanos(time: UnixTime) -> Option<u64> {
    let nanos = time
        .seconds
        .checked_mul(1_000_000_000)?
        .checked_add(i64::from(time.nanos))?;
    u64::try_from(nanos).ok()
}
