use std::fs;
use std::path::Path;

use super::*;

fn token(text: &str) -> Token {
    Token::new(text.as_bytes()).unwrap()
}

fn section(name: &str, secret: &str, lines: &str) -> String {
    format!(
        "[[key]]\nname = \"{name}\"\nhash = \"{}\"\n{lines}\n",
        token(secret).digest()
    )
}

/// Replaces a file as editors and Kubernetes do, so that each content is a file of its own.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, path).unwrap();
}

#[test]
fn a_token_finds_its_key_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    fs::write(&path, section("a", "rh_a", "") + &section("b", "rh_b", "")).unwrap();
    let access = Arc::new(Access::load(path, &Limits::default(), 1).unwrap());
    let core = CoreKeys::new(Arc::clone(&access));
    assert_eq!(&*core.find(&token("rh_a")).unwrap().name, "a");
    assert_eq!(&*core.find(&token("rh_b")).unwrap().name, "b");
    for unknown in ["rh_", "rh_c", "RH_A", "rh_a ", "rh_aa"] {
        let found = Token::new(unknown.as_bytes()).map(|token| core.find(&token).map(|key| key.name.clone()));
        assert!(matches!(found, None | Some(Err(Refusal::Unknown))), "{unknown}");
    }
}

#[test]
fn a_certificate_finds_the_key_it_is_enough_for_and_none_when_it_is_that_of_two() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let text = "[[key]]\nname = 'web'\ncertificates = ['CN=web', 'DNS:web.example.org']\n\
                [[key]]\nname = 'db'\ncertificates = ['URI:spiffe://example.org/db']\n";
    replace(&path, text);
    let access = Arc::new(Access::load(path.clone(), &Limits::default(), 1).unwrap());
    let core = CoreKeys::new(Arc::clone(&access));
    let find = |names: &[&str]| {
        let names: Vec<CertificateName> = names.iter().map(|name| name.parse().unwrap()).collect();
        core.find_by_certificate(&names).map(|key| key.name.to_string())
    };
    assert_eq!(
        find(&["CN=x", "CN=web", "DNS:web.example.org"]),
        Ok("web".to_owned())
    );
    assert_eq!(find(&["URI:spiffe://example.org/db"]), Ok("db".to_owned()));
    for other in [
        "CN=Web",
        "DNS:web",
        "URI:web.example.org",
        "DNS:a.web.example.org",
    ] {
        assert_eq!(find(&[other]), Err(Refusal::Missing), "{other}");
    }
    assert_eq!(find(&[]), Err(Refusal::Missing));
    assert_eq!(
        find(&["CN=web", "URI:spiffe://example.org/db"]),
        Err(Refusal::Ambiguous)
    );

    replace(&path, &section("web", "rh_web", ""));
    assert!(matches!(access.reload(false), Reloaded::Read(1)));
    assert_eq!(find(&["CN=web"]), Err(Refusal::Missing), "it was taken from it");
}

#[test]
fn cores_follow_a_changed_file_and_a_broken_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    replace(&path, &section("a", "rh_a", ""));
    let access = Arc::new(Access::load(path.clone(), &Limits::default(), 1).unwrap());
    let core = CoreKeys::new(Arc::clone(&access));
    let held = core.find(&token("rh_a")).unwrap();
    assert!(matches!(access.reload(false), Reloaded::Unchanged));

    replace(
        &path,
        &(section("a", "rh_new", "") + &section("b", "rh_b", "admin = true")),
    );
    assert!(!access.has_admin_key());
    assert!(matches!(access.reload(false), Reloaded::Read(2)));
    assert!(access.has_admin_key());
    assert_eq!(core.find(&token("rh_a")).unwrap_err(), Refusal::Unknown);
    let replaced = core.find(&token("rh_new")).unwrap();
    assert!(
        Arc::ptr_eq(&held.usage, &replaced.usage),
        "one key, another token"
    );

    let generation = access.generation();
    replace(&path, "[[key]]\nname = ");
    let Reloaded::Broken(error) = access.reload(false) else {
        panic!("it is broken")
    };
    assert!(error.to_string().contains("keys.toml: line 2"), "{error}");
    assert!(matches!(access.reload(false), Reloaded::Unchanged), "said once");
    fs::remove_file(&path).unwrap();
    assert!(matches!(access.reload(false), Reloaded::Broken(_)));
    assert!(matches!(access.reload(false), Reloaded::Unchanged), "said once");
    assert_eq!(access.generation(), generation);
    assert!(core.find(&token("rh_b")).is_ok());

    replace(&path, &section("c", "rh_c", ""));
    assert!(matches!(access.reload(false), Reloaded::Read(1)));
    assert!(matches!(access.reload(true), Reloaded::Read(1)), "asked for");
    assert!(core.find(&token("rh_c")).is_ok() && core.find(&token("rh_b")).is_err());
}

#[test]
fn a_file_that_cannot_be_read_at_the_start_is_an_error() {
    let missing = Access::load("/nonexistent/keys.toml".into(), &Limits::default(), 1).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("/nonexistent/keys.toml: it cannot be read"),
        "{missing}"
    );
}

#[test]
fn the_admin_pages_open_for_an_admin_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let admin = "admin = true\ningest = false\nallow = [\"10.0.0.0/8\"]";
    fs::write(
        &path,
        section("web", "rh_web", "") + &section("ops", "rh_ops", admin),
    )
    .unwrap();
    let access = Access::load(path, &Limits::default(), 1).unwrap();
    let ask = |header: &str, from: &str| {
        let mut credentials = Credentials::default();
        credentials.header(b"X-API-Key", header.as_bytes()).unwrap();
        access.admit_admin(credentials, from.parse().unwrap())
    };
    assert_eq!(ask("rh_ops", "10.0.0.1"), Ok(()));
    assert_eq!(ask("rh_ops", "192.0.2.1"), Err(Refusal::NotAllowedFrom));
    assert_eq!(ask("rh_web", "10.0.0.1"), Err(Refusal::NotAdmin));
    assert_eq!(ask("rh_other", "10.0.0.1"), Err(Refusal::Unknown));
    let nothing = access.admit_admin(Credentials::default(), "10.0.0.1".parse().unwrap());
    assert_eq!(nothing, Err(Refusal::Missing));
    let keys = access.keys();
    let ops = keys.iter().find(|key| &*key.name == "ops").unwrap();
    assert_eq!(ops.admit_rows("10.0.0.1".parse().ok()), Err(Refusal::NotIngest));
}

#[test]
fn a_new_key_is_printed_once_and_its_section_knows_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let new = |name: &str| NewKey {
        name: name.to_owned(),
        tables: vec!["app_*".to_owned()],
        ..NewKey::default()
    };
    let mut out = Vec::new();
    new_key(&new("web"), None, &mut out).unwrap();
    let printed = String::from_utf8(out).unwrap();
    let (first, section) = printed.split_once("\n\n").unwrap();
    assert!(!section.contains(first), "{printed}");
    fs::write(&path, section).unwrap();
    let find = |text: &str| {
        let access = Arc::new(Access::load(path.clone(), &Limits::default(), 1).unwrap());
        CoreKeys::new(access)
            .find(&token(text))
            .map(|key| key.name.to_string())
    };
    assert_eq!(find(first), Ok("web".to_owned()));

    let mut out = Vec::new();
    new_key(&new("other"), Some(&path), &mut out).unwrap();
    let second = String::from_utf8(out).unwrap();
    assert_eq!(find(second.trim_end()), Ok("other".to_owned()));
    assert_eq!(find(first), Ok("web".to_owned()));

    let before = fs::read(&path).unwrap();
    let error = new_key(&new("web"), Some(&path), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("another key has this name"), "{error}");
    let error = new_key(&new("no name"), Some(&path), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("name must be"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    let made = directory.path().join("made.toml");
    let admin = NewKey {
        name: "ops".to_owned(),
        admin: true,
        ..NewKey::default()
    };
    new_key(&admin, Some(&made), &mut Vec::new()).unwrap();
    let access = Access::load(made, &Limits::default(), 1).unwrap();
    assert!(access.has_admin_key() && !access.keys()[0].ingest);
}

#[test]
fn a_key_that_certificates_are_has_no_token() {
    let new = |certificate: &str| NewKey {
        name: "edge".to_owned(),
        certificates: vec![certificate.to_owned()],
        ..NewKey::default()
    };
    let mut section = Vec::new();
    new_key(&new("DNS:edge.example.org"), None, &mut section).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.toml");
    let mut printed = Vec::new();
    new_key(&new("DNS:edge.example.org"), Some(&path), &mut printed).unwrap();
    assert_eq!((fs::read(&path).unwrap(), printed), (section, Vec::new()));
    let access = Access::load(path, &Limits::default(), 1).unwrap();
    assert_eq!(&*access.keys()[0].name, "edge");

    let error = new_key(&new("edge.example.org"), None, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("certificates"), "{error}");
}

#[test]
fn a_token_is_hashed_without_its_line_end() {
    let hash = |input: &[u8]| {
        let mut out = Vec::new();
        let result = hash_token(&mut &input[..], &mut out);
        result.map(|()| String::from_utf8(out).unwrap())
    };
    let expected = format!("{}\n", token("abc").digest());
    for input in [&b"abc"[..], b"abc\n", b"abc\r\n", b"abc\nmore"] {
        assert_eq!(hash(input).unwrap(), expected);
    }
    for input in [&b""[..], b"\n", b"a b\n", &[b'x'; 300]] {
        assert!(matches!(hash(input), Err(KeysError::NoToken)), "{input:?}");
    }
}
