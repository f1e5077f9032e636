//! Reads the labels of a stream as protobuf has them: `{name="value", ...}`, as Prometheus writes them.
//!
//! A value stands in double quotes, with the escapes of a Go string, or in backquotes, without any.

/// Not a set of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The labels that name a service, best first: the order in which Loki looks for one.
pub(super) const SERVICE_NAMES: [&str; 14] = [
    "service_name",
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

/// The labels of a set, in order. Ends behind the first that is malformed.
#[derive(Debug, Clone)]
pub(super) struct Labels<'b> {
    /// Behind the opening brace or a comma.
    rest: &'b str,
    ended: bool,
}

/// The value of a label, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'b> {
    written: &'b str,
    has_escapes: bool,
}

impl<'b> Labels<'b> {
    /// The labels of `set`.
    pub(super) fn of(set: &'b str) -> Labels<'b> {
        match set.trim_ascii().strip_prefix('{') {
            Some(rest) => Labels { rest, ended: false },
            // Without a brace it is malformed, and so is nothing where a name should be.
            None => Labels {
                rest: "",
                ended: false,
            },
        }
    }

    fn label(&mut self) -> Result<Option<(&'b str, Value<'b>)>, Malformed> {
        self.skip_blanks();
        if self.take("}") {
            return match self.rest.is_empty() {
                true => Ok(None),
                false => Err(Malformed),
            };
        }
        let is_of_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'.' | b'-' | b'/');
        let len = self.rest.bytes().take_while(|byte| is_of_name(*byte)).count();
        let (name, rest) = self.rest.split_at(len);
        if name.is_empty() {
            return Err(Malformed);
        }
        self.rest = rest;
        self.skip_blanks();
        if !self.take("=") {
            return Err(Malformed);
        }
        self.skip_blanks();
        let value = self.value()?;
        self.skip_blanks();
        if !self.take(",") && !self.rest.starts_with('}') {
            return Err(Malformed);
        }
        Ok(Some((name, value)))
    }

    fn value(&mut self) -> Result<Value<'b>, Malformed> {
        if self.take("`") {
            let (written, rest) = self.rest.split_once('`').ok_or(Malformed)?;
            self.rest = rest;
            return Ok(Value {
                written,
                has_escapes: false,
            });
        }
        if !self.take("\"") {
            return Err(Malformed);
        }
        let (mut at, mut has_escapes) = (0, false);
        loop {
            at += memchr::memchr2(b'"', b'\\', &self.rest.as_bytes()[at..]).ok_or(Malformed)?;
            if self.rest.as_bytes()[at] == b'"' {
                break;
            }
            has_escapes = true;
            // What is escaped is no end, whatever it is.
            at += 2;
            if at > self.rest.len() {
                return Err(Malformed);
            }
        }
        let (written, rest) = (&self.rest[..at], &self.rest[at + 1..]);
        self.rest = rest;
        Ok(Value { written, has_escapes })
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, mark: &str) -> bool {
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

impl<'b> Iterator for Labels<'b> {
    type Item = Result<(&'b str, Value<'b>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let label = self.label();
        self.ended = !matches!(label, Ok(Some(_)));
        label.transpose()
    }
}

impl<'b> Value<'b> {
    /// The value, if it is written as it is.
    pub(super) fn plain(self) -> Option<&'b str> {
        (!self.has_escapes).then_some(self.written)
    }

    /// Bytes it takes at most.
    pub(super) fn bytes_max(self) -> usize {
        self.written.len()
    }

    /// Writes the value to `room`, which has [`Value::bytes_max`]; how many bytes it has. They may be no UTF-8.
    ///
    /// # Errors
    /// An escape that Go does not have.
    pub(super) fn unescape(self, room: &mut [u8]) -> Result<usize, Malformed> {
        if let Some(plain) = self.plain() {
            room[..plain.len()].copy_from_slice(plain.as_bytes());
            return Ok(plain.len());
        }
        let (mut rest, mut len) = (self.written.as_bytes(), 0);
        let mut put = |bytes: &[u8]| {
            room[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        loop {
            let Some(escape) = memchr::memchr(b'\\', rest) else {
                put(rest);
                return Ok(len);
            };
            put(&rest[..escape]);
            let (kind, behind) = rest[escape + 1..].split_first().ok_or(Malformed)?;
            rest = behind;
            let digits = match kind {
                b'x' => 2,
                b'u' => 4,
                b'U' => 8,
                b'0'..=b'7' => {
                    let code = number(&rest[..2.min(rest.len())], 2, 8).ok_or(Malformed)?;
                    let code = u32::from(kind - b'0') * 64 + code;
                    put(&[u8::try_from(code).map_err(|_| Malformed)?]);
                    rest = &rest[2..];
                    continue;
                }
                _ => {
                    let plain = match kind {
                        b'a' => 7,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'v' => 11,
                        b'f' => 12,
                        b'r' => b'\r',
                        b'\\' | b'"' => *kind,
                        _ => return Err(Malformed),
                    };
                    put(&[plain]);
                    continue;
                }
            };
            let (written, behind) = rest.split_at_checked(digits).ok_or(Malformed)?;
            let code = number(written, digits, 16).ok_or(Malformed)?;
            rest = behind;
            match kind {
                // A byte, and no character.
                b'x' => put(&[code as u8]),
                _ => put(char::from_u32(code)
                    .ok_or(Malformed)?
                    .encode_utf8(&mut [0; 4])
                    .as_bytes()),
            }
        }
    }
}

/// So many digits as a number; no sign.
fn number(written: &[u8], digits: usize, radix: u32) -> Option<u32> {
    let is_number = written.len() == digits && written.iter().all(u8::is_ascii_alphanumeric);
    let text = is_number.then_some(written)?;
    u32::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(set: &str) -> Result<Vec<(String, String)>, Malformed> {
        let labels = Labels::of(set).map(|label| {
            let (name, value) = label?;
            let mut room = vec![0; value.bytes_max()];
            let len = value.unescape(&mut room)?;
            if let Some(plain) = value.plain() {
                assert_eq!(plain.as_bytes(), &room[..len]);
            }
            let value = std::str::from_utf8(&room[..len]).map_err(|_| Malformed)?;
            Ok((name.to_owned(), value.to_owned()))
        });
        labels.collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, Malformed> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(owned.collect())
    }

    #[test]
    fn reads_labels_as_prometheus_and_go_write_them() {
        for (set, expected) in [
            ("{}", &[][..]),
            (" { } ", &[]),
            (r#"{app="x"}"#, &[("app", "x")]),
            (r#"{app="x", env = "prod", }"#, &[("app", "x"), ("env", "prod")]),
            (
                r#"{a="",b="}",c=",\"="}"#,
                &[("a", ""), ("b", "}"), ("c", ",\"=")],
            ),
            ("{a=`\\n\"`,b=\"é\"}", &[("a", "\\n\""), ("b", "é")]),
            (
                r#"{a="\a\b\f\n\r\t\v\\\"\x41\101\u00e9\U0001f600"}"#,
                &[("a", "\u{7}\u{8}\u{c}\n\r\t\u{b}\\\"AA\u{e9}\u{1f600}")],
            ),
            (r#"{a="\xc3\xa9"}"#, &[("a", "é")]),
            (r#"{k8s.pod/name="p"}"#, &[("k8s.pod/name", "p")]),
        ] {
            assert_eq!(read(set), pairs(expected), "{set}");
        }
    }

    #[test]
    fn rejects_what_is_no_set_of_labels() {
        for set in [
            "",
            "app=\"x\"",
            "{",
            "{app}",
            "{app=}",
            "{app=x}",
            "{app='x'}",
            r#"{app="x""#,
            r#"{app="x}"#,
            r#"{app="x\"}"#,
            r#"{app="x\"#,
            r#"{="x"}"#,
            r#"{app!="x"}"#,
            r#"{app="x" env="y"}"#,
            r#"{,app="x"}"#,
            r#"{app="x"}}"#,
            r#"{app="\q"}"#,
            r#"{app="\u12"}"#,
            r#"{app="\u+123"}"#,
            r#"{app="\ud800"}"#,
            r#"{app="\777"}"#,
            r#"{app="\1"}"#,
            r#"{app="\xff"}"#,
            "{a=`x}",
        ] {
            assert_eq!(read(set), Err(Malformed), "{set}");
        }
    }

    proptest! {
        #[test]
        fn any_value_comes_back_from_its_quoted_form(
            labels in prop::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,8}", any::<String>()), 0..5),
            cut in any::<prop::sample::Index>(),
        ) {
            // A Go string of ASCII letters and the escapes of both languages.
            let quote = |value: &str| -> String {
                value.chars().map(|c| match c {
                    '"' | '\\' => format!("\\{c}"),
                    ' '..='~' => c.to_string(),
                    c => format!("\\U{:08x}", u32::from(c)),
                }).collect()
            };
            let written: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            let set = format!("{{{}}}", written.join(", "));
            prop_assert_eq!(read(&set), Ok(labels));
            // No prefix of it is one.
            prop_assert_eq!(read(&set[..cut.index(set.len())]), Err(Malformed));
        }
    }
}
