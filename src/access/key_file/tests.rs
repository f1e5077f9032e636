use super::*;
use crate::access::token::Token;
use crate::access::{OverQuota, Refusal};

fn hash(token: &str) -> String {
    Token::new(token.as_bytes()).unwrap().digest().to_string()
}

fn read(text: &str) -> Result<Vec<Key>, KeyFileError> {
    read_keys(text, &Limits::default(), 2, &[])
}

/// A section named `web` with a good hash, and these lines.
fn web(lines: &str) -> String {
    format!("[[key]]\nname = \"web\"\nhash = \"{}\"\n{lines}\n", hash("web"))
}

fn sentence(text: &str) -> String {
    match read(text) {
        Err(error) => error.to_string(),
        Ok(keys) => panic!("{text} is taken: {keys:?}"),
    }
}

fn from(address: &str) -> Option<std::net::IpAddr> {
    Some(address.parse().unwrap())
}

#[test]
fn a_key_without_more_reaches_every_table_from_everywhere_without_end() {
    let keys = read(&web("")).unwrap();
    let [key] = keys.as_slice() else {
        panic!("{keys:?}")
    };
    assert_eq!(
        (&*key.name, key.digest),
        ("web", Some(hash("web").parse().unwrap()))
    );
    assert_eq!(key.admit_rows(from("192.0.2.1")), Ok(()));
    assert_eq!(key.admit_admin(from("127.0.0.1")), Err(Refusal::NotAdmin));
    assert_eq!(key.reach("any", "thing", "logs"), Ok(()));
    assert_eq!(key.charge(Some(u64::MAX), 0), Ok(()));
    assert!(key.table.is_none() && key.fields.is_empty());
}

#[test]
fn a_key_may_be_a_certificate_s_with_or_without_a_token() {
    let key = read("[[key]]\nname = 'web'\ncertificates = ['CN=web', 'DNS:Web.example.org']").unwrap();
    let names = ["CN=web", "DNS:web.example.org"].map(|name| name.parse().unwrap());
    assert_eq!(
        (key[0].digest, key[0].certificates.as_slice()),
        (None, &names[..])
    );
    let both = read(&web("certificates = ['CN=web']")).unwrap();
    assert!(both[0].digest.is_some() && both[0].certificates.len() == 1);

    for (text, part) in [
        ("[[key]]\nname = 'web'\n", "it needs a hash"),
        ("[[key]]\nname = 'web'\ncertificates = []", "it needs a hash"),
        (
            "[[key]]\nname = 'web'\ncertificates = ['web']",
            "key 1 (`web`): certificates: `web` names no certificate",
        ),
        (
            "[[key]]\nname = 'web'\ncertificates = ['DNS:A']\n[[key]]\nname = 'b'\ncertificates = ['DNS:a']",
            "key 2 (`b`): certificates: `DNS:a` is another key's",
        ),
        (
            "[[key]]\nname = 'web'\ncertificate = 'CN=web'",
            "did you mean `certificates`?",
        ),
    ] {
        let sentence = sentence(text);
        assert!(sentence.contains(part), "{text}: {sentence}");
    }
}

#[test]
fn every_key_of_a_section_is_read() {
    let text = web(
        "tables = [\"app_*\", \"audit.events\"]\ntable = \"audit.events\"\nadmin = true\ningest = true\n\
         allow = [\"10.0.0.0/8\", \"::1\"]\nrequests_per_second = 10\nrequests_burst = 2\nbytes_per_second = 1_000\n\
         fields = { env = \"prod\", team = \"core\" }",
    );
    let key = read(&text).unwrap().remove(0);
    assert_eq!(key.admit_rows(from("::ffff:10.0.0.1")), Ok(()));
    assert_eq!(key.admit_admin(from("::1")), Ok(()));
    for refused in [Key::admit_rows, Key::admit_admin] {
        assert_eq!(refused(&key, from("192.0.2.1")), Err(Refusal::NotAllowedFrom));
        assert_eq!(
            refused(&key, None),
            Err(Refusal::NotAllowedFrom),
            "who it is must be known"
        );
    }
    assert_eq!(key.reach("logs", "app_web", "logs"), Ok(()));
    assert_eq!(key.reach("audit", "events", "logs"), Ok(()));
    assert_eq!(
        key.reach("logs", "otel_logs", "logs"),
        Err(Refusal::TableNotAllowed)
    );
    assert_eq!(key.table.as_deref(), Some("audit.events"));
    assert_eq!(key.fields.pairs(), [("env", "prod"), ("team", "core")]);
    let rate = |quota: &Option<Arc<Quota>>| {
        quota
            .as_ref()
            .map(|quota| (quota.rate().per_second, quota.rate().burst))
    };
    assert_eq!(rate(&key.requests), Some((10, 2)));
    assert_eq!(
        rate(&key.bytes),
        Some((1_000, 1_000)),
        "a burst is a second's worth unless written"
    );
}

#[test]
fn a_body_beyond_its_quota_does_not_cost_a_request() {
    let key = read(&web(
        "requests_per_second = 1\nrequests_burst = 2\nbytes_per_second = 100",
    ))
    .unwrap()
    .remove(0);
    assert_eq!(key.charge(Some(100), 0), Ok(()));
    for _ in 0..5 {
        let over = key.charge(Some(50), 0).unwrap_err();
        assert!(
            matches!(
                over,
                Refusal::OverQuota(OverQuota {
                    unit: Unit::Bytes,
                    ..
                })
            ),
            "{over:?}"
        );
    }
    // The second request of the burst is still there.
    assert_eq!(key.charge(Some(0), 0), Ok(()));
    let over = key.charge(Some(0), 0).unwrap_err();
    assert!(
        matches!(
            over,
            Refusal::OverQuota(OverQuota {
                unit: Unit::Requests,
                ..
            })
        ),
        "{over:?}"
    );
}

#[test]
fn a_body_of_unknown_length_is_owed_as_it_comes() {
    let key = read(&web("bytes_per_second = 100")).unwrap().remove(0);
    assert_eq!(key.charge(None, 0), Ok(()));
    key.owe_bytes(499, 0);
    let over = key.charge(None, 0).unwrap_err().over_quota().unwrap();
    assert_eq!((over.remaining, over.retry_after_s), (0, 5));
    assert!(key.charge(None, 4_000_000_000).is_err());
    assert_eq!(key.charge(None, 4_100_000_000), Ok(()));
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    for (line, told) in [
        (
            "requests_per_secnd = 1",
            "unknown key `requests_per_secnd`; did you mean `requests_per_second`?",
        ),
        ("allowed = [\"::1\"]", "did you mean `allow`?"),
        ("tabels = [\"x\"]", "did you mean `tables`?"),
        (
            "xyzzyxyzzy = 1",
            "unknown key `xyzzyxyzzy`; a [[key]] section has name, hash",
        ),
    ] {
        let sentence = sentence(&web(line));
        assert!(sentence.contains(told), "{sentence}");
    }
    assert!(sentence("[[keys]]\nname = \"x\"").contains("did you mean `[[key]]`?"));
    assert!(sentence("limit = 1").contains("unknown key `limit`"));
}

#[test]
fn rejects_a_section_that_cannot_be_meant() {
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let value = "v".repeat(FIELD_BYTES_MAX + 1);
    let many: String = (0..=FIELDS_MAX).map(|at| format!("f{at} = \"\", ")).collect();
    for (lines, told) in [
        ("ingest = false", "may do nothing"),
        ("tables = []", "reach no table"),
        ("tables = [\"a.\"]", "`a.` is no pattern"),
        ("table = \"a.b.c\"", "table: `a.b.c` is not a table's name"),
        ("allow = []", "would allow nobody"),
        ("allow = [\"10.1.2.3/8\"]", "write 10.0.0.0/8"),
        ("requests_per_second = 0", "requests_per_second must be from 1"),
        (
            "bytes_per_second = 1\nbytes_burst = 0",
            "bytes_burst must be from 1",
        ),
        ("bytes_per_second = 1_000_000_000_001", "bytes_per_second must be"),
        (
            "bytes_per_second = 1\nbytes_burst = 1_000_000_000",
            "no more than comes in a year",
        ),
        (
            "requests_burst = 1",
            "requests_burst means something only together",
        ),
        ("fields = { \"\" = \"x\" }", "fields: at most"),
        (&format!("fields = {{ a = \"{value}\" }}"), "fields: at most"),
        (&format!("fields = {{ {many} }}"), "fields: at most"),
        ("requests_per_second = -1", "line 4"),
        ("admin = \"yes\"", "line 4, `admin`"),
    ] {
        let sentence = sentence(&web(lines));
        assert!(sentence.contains(told), "{lines}: {sentence}");
    }
    for name in ["", "a b", "a\u{e9}", &long] {
        let text = format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"", hash("x"));
        assert!(sentence(&text).contains("name must be 1 to 64"), "{name}");
    }
    assert!(sentence("").contains("no [[key]] section"));
    assert!(sentence("[[key]]\nname = \"x\"").contains("key 1 (`x`): it needs a hash"));
}

#[test]
fn rejects_two_keys_of_one_name_or_one_token() {
    let key = |name: &str, token: &str| format!("[[key]]\nname = \"{name}\"\nhash = \"{}\"\n", hash(token));
    assert_eq!(read(&(key("a", "1") + &key("b", "2"))).unwrap().len(), 2);
    let sentence_of = |second: String| sentence(&(key("a", "1") + &second));
    assert!(sentence_of(key("a", "2")).contains("key 2 (`a`): another key has this name"));
    assert!(sentence_of(key("b", "1")).contains("key 2 (`b`): another key has this hash"));
}

#[test]
fn a_message_never_holds_what_may_be_a_token() {
    for text in [
        "[[key]]\nname = \"x\"\nhash = \"rh_secret\"",
        "[[key]]\nname = \"x\"\nhash = rh_secret",
        "[[key]]\nname = \"x\"\nhash = [\"rh_secret\"]",
        "[[key]]\nname = \"x\"\nhash \"rh_secret\"",
    ] {
        let sentence = sentence(text);
        assert!(!sentence.contains("rh_secret"), "{sentence}");
    }
}

#[test]
fn keeps_to_its_limits() {
    let limits = Limits {
        keys_max: 1,
        keys_file_bytes_max: 1024,
        ..Limits::default()
    };
    let two = web("") + &web("").replace("web", "two");
    let error = read_keys(&two, &limits, 1, &[]).unwrap_err();
    assert!(error.to_string().contains("keys_max = 1"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    std::fs::write(&path, "#".repeat(1024)).unwrap();
    assert_eq!(read_file(&path, &limits).unwrap().len(), 1024);
    std::fs::write(&path, "#".repeat(1025)).unwrap();
    let error = read_file(&path, &limits).unwrap_err();
    assert!(
        error.to_string().contains("keys_file_bytes_max = 1024"),
        "{error}"
    );
}

#[test]
fn a_key_that_stays_keeps_its_counters_and_with_its_rate_what_it_owes() {
    let quotas = "requests_per_second = 1\nbytes_per_second = 10";
    let former = read(&web(quotas)).unwrap();
    former[0].usage.of(1).rows.add(7);
    assert_eq!(former[0].charge(Some(10), 0), Ok(()));
    let again = |lines: &str| {
        read_keys(&web(lines), &Limits::default(), 2, &former)
            .unwrap()
            .remove(0)
    };
    let same = again(&format!("{quotas}\ntables = [\"x\"]"));
    assert_eq!(same.usage.totals(), (0, 0, 7));
    assert!(same.charge(Some(0), 0).is_err());
    let other = again("requests_per_second = 1\nbytes_per_second = 20");
    assert_eq!(
        other.charge(Some(0), 1_000_000_000),
        Ok(()),
        "requests are those of before"
    );
    assert!(other.charge(Some(0), 1_000_000_000).is_err());
    let renamed = web(quotas).replace("name = \"web\"", "name = \"web2\"");
    let renamed = read_keys(&renamed, &Limits::default(), 2, &former)
        .unwrap()
        .remove(0);
    assert_eq!(renamed.usage.totals(), (0, 0, 0));
    assert_eq!(renamed.charge(Some(10), 0), Ok(()));
}
