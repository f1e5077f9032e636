use super::*;
use crate::limits::LimitError;
use crate::topology::TopologyError;

const CPUS: [usize; 4] = [0, 1, 2, 3];

fn none(_: &str) -> Option<String> {
    None
}

fn resolve(toml: &str) -> Result<Settings, ConfigError> {
    Settings::resolve(Written::from_toml(toml)?, Some(Path::new("/home")), &CPUS)
}

/// The sentence an operator reads.
fn refusal(toml: &str) -> String {
    resolve(toml).expect_err(toml).to_string()
}

#[test]
fn runs_with_defaults_when_nothing_is_written() {
    let settings = resolve("").unwrap();
    assert_eq!(settings.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(settings.tables.len(), 1);
    assert_eq!(settings.tables[0].name(), "otel_logs");
    assert_eq!(settings.ack, AckLevel::Wal);
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.data_dir, Path::new("/home/ringhouse"));
    assert!(!settings.create_tables);
    assert_eq!(
        settings.clickhouse,
        ClickHouse::Remote {
            urls: vec![Secret::new("tcp://default@127.0.0.1:9000/default")],
            password: None,
            tls: ClientFiles::default(),
        }
    );
}

#[test]
fn puts_flags_above_variables_above_the_file_above_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringhouse.toml");
    let file = "listen = '127.0.0.1:1'\nadmin = '127.0.0.1:11'\nack = 'memory'\n\
                [limits]\nbatch_age_ms = 1\nbatch_rows_max = 11\nring_blocks = 111";
    std::fs::write(&path, file).unwrap();
    let variable = |name: &str| match name {
        "RINGHOUSE_CONFIG" => Some(path.to_str().unwrap().to_owned()),
        "RINGHOUSE_LISTEN" => Some("127.0.0.1:2".to_owned()),
        "RINGHOUSE_ADMIN" => Some("127.0.0.1:22".to_owned()),
        "RINGHOUSE_LIMITS" => Some("batch_age_ms=2, batch_rows_max=22".to_owned()),
        "RINGHOUSE_LOG_FORMAT" => Some(String::new()),
        _ => None,
    };
    let mut flags = Written {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..Written::default()
    };
    set_limit(&mut flags.limits, "batch_age_ms=3").unwrap();

    let settings = Settings::load(flags, &variable, &CPUS).unwrap();

    assert_eq!(settings.listeners[0].address.port(), 3);
    assert_eq!(settings.admin.port(), 22);
    assert_eq!(settings.ack, AckLevel::Memory);
    assert_eq!(settings.limits.batch_age_ms, 3);
    assert_eq!(settings.limits.batch_rows_max, 22);
    assert_eq!(settings.limits.ring_blocks, 111);
    assert_eq!(settings.limits.chunk_bytes, Limits::default().chunk_bytes);
    assert_eq!(
        settings.log_format,
        LogFormat::Text,
        "an empty variable counts as absent"
    );
}

#[test]
fn lets_an_upper_layer_choose_another_clickhouse() {
    let remote = Written::from_toml("clickhouse = 'tcp://a:9000'").unwrap();
    let embedded =
        Written::from_toml("embedded = true\nembedded_tcp_port = 7\nembedded_http_port = 0").unwrap();
    let chosen = |written: Written| Settings::resolve(written, None, &CPUS).unwrap().clickhouse;
    assert_eq!(
        chosen(embedded.clone().over(remote.clone())),
        ClickHouse::Embedded {
            tcp_port: 7,
            http_port: None
        }
    );
    assert_eq!(
        chosen(remote.over(embedded)),
        ClickHouse::Remote {
            urls: vec![Secret::new("tcp://a:9000")],
            password: None,
            tls: ClientFiles::default(),
        }
    );
}

#[test]
fn creates_tables_when_embedded_unless_told_otherwise() {
    assert!(resolve("embedded = true").unwrap().create_tables);
    assert!(
        !resolve("embedded = true\ncreate_tables = false")
            .unwrap()
            .create_tables
    );
    assert!(resolve("create_tables = true").unwrap().create_tables);
}

#[test]
fn names_the_nearest_key_for_an_unknown_one() {
    assert_eq!(
        refusal("lisen = 'x'"),
        "unknown key `lisen`; did you mean `listen`?"
    );
    assert_eq!(
        refusal("table = 'x'"),
        "unknown key `table`; did you mean `tables`?"
    );
    assert_eq!(
        refusal("[limits]\nbatch_row_max = 1"),
        "unknown key `limits.batch_row_max`; did you mean `limits.batch_rows_max`?"
    );
    assert_eq!(
        refusal("batch_rows_max = 1"),
        "unknown key `batch_rows_max`; did you mean `limits.batch_rows_max`?"
    );
    assert_eq!(
        refusal("[mapping.otel_logs]\ncolums = {}"),
        "unknown key `mapping.otel_logs.colums`; did you mean `mapping.otel_logs.columns`?"
    );
    assert_eq!(
        refusal("zzzzzz = 1"),
        "unknown key `zzzzzz`; `ringhouse check` prints every key"
    );
}

#[test]
fn lists_the_keys_the_file_has() {
    let mut settings =
        resolve("embedded = true\nadmin_tls_cert = 'c'\nadmin_tls_key = 'k'\nadmin_tls_client_ca = 'a'\n[mapping.otel_logs]\noverflow = 'x'\n[[route]]\npath = '/x'\ntable = 'y'")
            .unwrap();
    settings.keys_file = Some("k".into());
    let embedded = Written::from(&settings);
    settings.clickhouse = ClickHouse::Remote {
        urls: vec![Secret::new("tcps://a")],
        password: None,
        tls: ClientFiles {
            ca: Some("ca".into()),
            identity: Some(Identity {
                certificate: "c".into(),
                key: "k".into(),
            }),
        },
    };
    let mut remote = Written::from(&settings);
    remote.clickhouse_password_file = Some("p".into());
    let mut keys: Vec<String> = [embedded, remote]
        .iter()
        .flat_map(|written| {
            toml::Table::try_from(written)
                .unwrap()
                .into_iter()
                .map(|(key, _)| key)
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let mut listed = Written::KEYS.to_vec();
    listed.sort_unstable();
    assert_eq!(keys, listed);
}

#[test]
fn names_line_and_key_of_a_wrong_value() {
    for (toml, line, key) in [
        ("listen = 'nonsense'", 1, "listen"),
        ("ack = 'memory'\nadmin = 8081", 2, "admin"),
        ("ack = 'disk'", 1, "ack"),
        ("ingest_cores = true", 1, "ingest_cores"),
        ("ingest_cores = -1", 1, "ingest_cores"),
        ("ingest_cores = '1-'", 1, "ingest_cores"),
        ("[limits]\nbatch_age_ms = -1", 2, "batch_age_ms"),
        ("[limits]\nbatch_age_ms = 'soon'", 2, "batch_age_ms"),
        ("ack = 'memory'\nack = 'memory'", 2, "ack"),
    ] {
        match resolve(toml) {
            Err(ConfigError::Malformed { line: l, key: k, .. }) => {
                assert_eq!((l, k.as_str()), (line, key), "{toml}")
            }
            other => panic!("{toml}: {other:?}"),
        }
    }
}

#[test]
fn rejects_what_contradicts_itself() {
    let cases = [
        (
            "listen = '127.0.0.1:9'\nadmin = '127.0.0.1:9'",
            "admin and http are both 127.0.0.1:9",
        ),
        (
            "embedded_http_port = 1",
            "embedded_http_port means something only together with `embedded`",
        ),
        (
            "embedded = true\nembedded_tcp_port = 0",
            "embedded_tcp_port must not be 0",
        ),
        (
            "embedded = true\nembedded_tcp_port = 8123",
            "embedded_tcp_port and embedded_http_port are both 8123",
        ),
        ("tables = []", "tables must name at least one table"),
        ("tables = ['a', 'a']", "tables names `a` twice"),
        ("tables = ['a.b.c']", "`a.b.c` is not a table's name"),
        ("tables = ['']", "`` is not a table's name"),
        ("tables = ['a/b']", "`a/b` is not a table's name"),
        (
            "tables = ['logs']\n[mapping.log]",
            "mapping.log is for a table that `tables` does not name; did you mean `logs`?",
        ),
        ("log_level = 'chatty'", "log_level = `chatty`"),
        (
            "clickhouse_password_file = '/nowhere/p'",
            "cannot read clickhouse_password_file /nowhere/p",
        ),
        (
            "clickhouse_ca = '/nowhere/ca'",
            "clickhouse_ca means something only for an address that begins with tcps://",
        ),
        (
            "clickhouse_tls_cert = '/nowhere/c'\nclickhouse_tls_key = '/nowhere/k'",
            "clickhouse_tls_cert means something only for an address that begins with tcps://",
        ),
        (
            "clickhouse = 'tcps://h'\nclickhouse_tls_cert = '/nowhere/c'",
            "there is no clickhouse_tls_key",
        ),
        (
            "clickhouse = 'tcps://h'\nclickhouse_tls_key = '/nowhere/k'",
            "there is no clickhouse_tls_cert",
        ),
        (
            "clickhouse = 'tcps://h'\nclickhouse_ca = '/nowhere/ca'",
            "clickhouse: cannot read /nowhere/ca",
        ),
        ("admin_tls_cert = 'c'", "there is no admin_tls_key"),
        ("admin_tls_client_ca = 'a'", "there is no admin_tls_cert"),
        ("ingest_cores = 9", "ingest_cores = 9 is more than the 4 CPUs"),
        ("writer_core = 9", "CPU 9 does not exist"),
    ];
    for (toml, sentence) in cases {
        let refusal = refusal(toml);
        assert!(refusal.contains(sentence), "{toml}: {refusal}");
    }
    assert!(matches!(
        resolve("ingest_cores = 0"),
        Err(ConfigError::Topology(TopologyError::NoIngestCores))
    ));
}

#[test]
fn rejects_two_clickhouses_in_one_layer() {
    let refused = Written::from_toml("clickhouse = 'tcp://a'\nembedded = true").unwrap_err();
    assert!(
        matches!(refused, ConfigError::TwoClickHouses("the configuration file")),
        "{refused}"
    );
    let variable = |name: &str| match name {
        "RINGHOUSE_CLICKHOUSE" => Some("tcp://a".to_owned()),
        "RINGHOUSE_EMBEDDED" => Some("true".to_owned()),
        _ => None,
    };
    let refused = Written::from_environment(&variable).unwrap_err();
    assert!(
        matches!(refused, ConfigError::TwoClickHouses("the environment")),
        "{refused}"
    );
}

#[test]
fn names_the_variable_and_hides_its_value() {
    let variable = |name: &str| (name == "RINGHOUSE_ADMIN").then(|| "hunter2".to_owned());
    let refused = Written::from_environment(&variable).unwrap_err().to_string();
    assert!(refused.starts_with("RINGHOUSE_ADMIN: "), "{refused}");
    assert!(!refused.contains("hunter2"), "{refused}");
    let variable = |name: &str| (name == "RINGHOUSE_LIMITS").then(|| "batch_age=1".to_owned());
    let refused = Written::from_environment(&variable).unwrap_err().to_string();
    assert_eq!(refused, "unknown limit `batch_age`; did you mean `batch_age_ms`?");
    let variable = |name: &str| (name == "RINGHOUSE_LIMITS").then(|| "batch_age_ms".to_owned());
    let refused = Written::from_environment(&variable).unwrap_err().to_string();
    assert_eq!(
        refused,
        "limit `batch_age_ms` has no value; write it as KEY=VALUE, like batch_age_ms=200"
    );
}

#[test]
fn never_prints_a_password() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let toml = format!(
        "clickhouse = 'tcp://u:hunter2@h:9000/d'\nclickhouse_password_file = '{}'",
        path.display()
    );
    let settings = resolve(&toml).unwrap();
    match &settings.clickhouse {
        ClickHouse::Remote {
            urls,
            password: Some(password),
            ..
        } => {
            assert_eq!(urls[0].expose(), "tcp://u:hunter2@h:9000/d");
            assert_eq!(
                password.expose(),
                "hunter2",
                "the newline at the end is none of it"
            );
        }
        other => panic!("{other:?}"),
    }
    for printed in [format!("{settings:?}"), settings.to_toml()] {
        assert!(printed.contains("tcp://u:***@h:9000/d"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    for url in ["tcp://hun:ter2@h", "tcp://u:p@ter2@h", "tcp://u:a/ter2@h", "ter2"] {
        assert!(!Secret::new(url).redacted().contains("ter2"), "{url}");
    }
    // Lines the TOML reader stumbles over, with the password on them.
    for toml in [
        "clickhouse = 'tcp://u:hunter2@h",
        "clickhouse 'tcp://u:hunter2@h'",
        "clickhouse: hunter2",
    ] {
        let refusal = refusal(toml);
        assert!(
            refusal.contains("clickhouse") && !refusal.contains("hunter2"),
            "{refusal}"
        );
    }
}

#[test]
fn accepts_several_addresses_however_they_are_written() {
    let urls = |settings: Settings| match settings.clickhouse {
        ClickHouse::Remote { urls, .. } => urls,
        other => panic!("{other:?}"),
    };
    let expected = ["tcp://u:a%2Cb@h1/d", "tcp://h2:9001/d", "tcp://h3/d"].map(Secret::new);
    for toml in [
        "clickhouse = 'tcp://u:a%2Cb@h1/d, tcp://h2:9001/d,tcp://h3/d'",
        "clickhouse = ['tcp://u:a%2Cb@h1/d', 'tcp://h2:9001/d', 'tcp://h3/d']",
        "clickhouse = ['tcp://u:a%2Cb@h1/d,tcp://h2:9001/d', 'tcp://h3/d,']",
    ] {
        assert_eq!(urls(resolve(toml).unwrap()), expected, "{toml}");
    }
    let variable = |name: &str| {
        (name == "RINGHOUSE_CLICKHOUSE").then(|| "tcp://u:a%2Cb@h1/d,tcp://h2:9001/d, tcp://h3/d".to_owned())
    };
    let settings = Settings::load(Written::default(), &variable, &CPUS).unwrap();
    let endpoints = settings.clickhouse.endpoints().unwrap();
    assert_eq!(endpoints[0].password.expose(), "a,b");
    assert_eq!(endpoints[1].authority(), "h2:9001");
    assert_eq!(urls(settings), expected);

    let variable = |name: &str| match name {
        "RINGHOUSE_CLICKHOUSE" => Some("tcp://u:p1@h1,tcp://v@h2".to_owned()),
        "RINGHOUSE_CLICKHOUSE_PASSWORD" => Some("p2".to_owned()),
        _ => None,
    };
    let settings = Settings::load(Written::default(), &variable, &CPUS).unwrap();
    for endpoint in settings.clickhouse.endpoints().unwrap() {
        assert_eq!(endpoint.password.expose(), "p2", "the one password is for all");
    }
}

#[test]
fn rejects_addresses_that_are_no_replicas() {
    for (toml, sentence) in [
        (
            "clickhouse = ['tcp://a/logs', 'tcp://b/other']",
            "clickhouse names the databases `logs` and `other`",
        ),
        (
            "clickhouse = 'tcp://a,tcp://b/d'",
            "the databases `default` and `d`",
        ),
        (
            "clickhouse = 'tcp://a,tcp://A:9000'",
            "clickhouse names A:9000 twice",
        ),
        (
            "clickhouse = 'tcp://u@a,tcp://v@a'",
            "clickhouse names a:9000 twice",
        ),
        ("clickhouse = []", "clickhouse must name at least one address"),
        ("clickhouse = ','", "clickhouse must name at least one address"),
        (
            "clickhouse = 'http://a'",
            "clickhouse: the ClickHouse address must be",
        ),
        (
            "clickhouse = 'tcp://u:1,hunter2@a'",
            "clickhouse, address 2 of 2:",
        ),
        (
            "clickhouse = 'tcp://u:hunter2,x@a'",
            "write one in a password as %2C",
        ),
        (
            "clickhouse = 5",
            "line 1, `clickhouse`: invalid type: integer `5`, expected a string or an array",
        ),
    ] {
        let refusal = refusal(toml);
        assert!(refusal.contains(sentence), "{toml}: {refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
    }
}

#[test]
fn never_prints_the_password_of_any_address() {
    let toml = "clickhouse = 'tcp://u:hunter2@a/d,tcp://v:hunter2@b/d'";
    let written = Written::from_toml(toml).unwrap();
    let settings = resolve(toml).unwrap();
    for printed in [
        format!("{written:?}"),
        format!("{settings:?}"),
        settings.to_toml(),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(
            printed.contains("tcp://u:***@a/d") && printed.contains("tcp://v:***@b/d"),
            "{printed}"
        );
    }
}

#[test]
fn keeps_the_password_of_the_layer_that_names_one() {
    let lower = Written {
        clickhouse_password: Some(Secret::new("lower")),
        ..Written::default()
    };
    let upper = Written {
        clickhouse_password_file: Some("/upper".into()),
        ..Written::default()
    };
    let both = upper.over(lower.clone());
    assert_eq!(
        (both.clickhouse_password, both.clickhouse_password_file),
        (None, Some("/upper".into()))
    );
    let url_only = Written {
        clickhouse: Some("tcp://a".parse().unwrap()),
        ..Written::default()
    };
    assert_eq!(
        url_only.over(lower).clickhouse_password,
        Some(Secret::new("lower"))
    );
}

#[test]
fn prints_a_file_that_resolves_to_the_same_settings() {
    for toml in [
        "",
        "clickhouse = ['tcp://a/d', 'tcp://b/d']",
        "embedded = true\nembedded_http_port = 0\ndata_dir = '/d'\nack = 'memory'\nlog_format = 'json'",
        "ack = 'wal'\n[limits]\nwal_bytes_max = 9_223_372_036_854_775_807",
        "ack = 'inserted'",
        "tables = ['a.b', 'c']\ningest_cores = '0,2'\nwriter_core = 3\n[mapping.'a.b']\ncolumns = { '@ts' = 'time' }\n\
         overflow = 'rest'\n[limits]\nbatch_age_ms = 7",
    ] {
        let settings = resolve(toml).unwrap();
        let printed = settings.to_toml();
        assert_eq!(
            resolve(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}")),
            settings,
            "{printed}"
        );
        for key in Limits::KEYS {
            assert!(
                printed.contains(&format!("\n{key} = ")),
                "{key} is missing from\n{printed}"
            );
        }
    }
}

#[test]
fn names_key_and_bounds_of_a_limit_out_of_range() {
    assert_eq!(
        refusal("[limits]\nbatch_rows_max = 0"),
        "limits.batch_rows_max = 0 is out of range: it must be between 1 and 1048449"
    );
    assert!(matches!(
        resolve("[limits]\nreceive_buffer_bytes = 4096"),
        Err(ConfigError::Limit(LimitError::Contradiction {
            key: "receive_buffer_bytes",
            value: 4096,
            other: "head_bytes_max",
            bound: 8192,
            ..
        }))
    ));
}

#[test]
fn loads_flags_as_clap_reads_them() {
    use clap::Parser;
    let written = |arguments: &[&str]| {
        let arguments = ["ringhouse", "serve"].iter().chain(arguments);
        match crate::cli::Arguments::try_parse_from(arguments) {
            Ok(crate::cli::Arguments {
                command: crate::cli::Command::Serve(flags),
            }) => flags.into_written().map_err(|error| error.to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    let flags = written(&[
        "--listen=0.0.0.0:1",
        "--admin",
        "[::1]:2",
        "--embedded",
        "--embedded-tcp-port=3",
        "--embedded-http-port=0",
        "--create-tables=false",
        "--table=a",
        "--table",
        "b.c",
        "--data-dir=/d",
        "--ingest-cores=0,2-3",
        "--writer-core=1",
        "--ack=memory",
        "--limit=batch_age_ms=1_000",
        "--limit",
        "depth_max=9",
        "--log-level=debug",
        "--log-format=json",
    ])
    .unwrap();
    let settings = Settings::load(flags, &none, &CPUS).unwrap();
    let file = "listen = '0.0.0.0:1'\nadmin = '[::1]:2'\nembedded = true\nembedded_tcp_port = 3\nembedded_http_port = 0\n\
                create_tables = false\ntables = ['a', 'b.c']\ndata_dir = '/d'\ningest_cores = [0, 2, 3]\nwriter_core = 1\n\
                ack = 'memory'\nlog_level = 'debug'\nlog_format = 'json'\n[limits]\nbatch_age_ms = 1000\ndepth_max = 9";
    assert_eq!(settings, resolve(file).unwrap());

    let flags = written(&["--clickhouse=tcp://a,tcp://b", "--clickhouse", "tcp://c"]).unwrap();
    assert_eq!(flags.clickhouse, Some("tcp://a,tcp://b,tcp://c".parse().unwrap()));

    for (arguments, sentence) in [
        (vec!["--lisen=0.0.0.0:1"], "--listen"),
        (vec!["--ack=insertd"], "inserted"),
        (vec!["--ingest-cores=x"], "ingest_cores = `x` is neither"),
        (vec!["--limit=batch_age=1"], "did you mean `batch_age_ms`"),
        (
            vec!["--limit=batch_age_ms=x"],
            "limits.batch_age_ms = `x` is not a whole number",
        ),
        (
            vec!["--embedded", "--clickhouse=tcp://a"],
            "the command line asks for both",
        ),
    ] {
        let refused = written(&arguments).expect_err("refused");
        assert!(refused.contains(sentence), "{arguments:?}: {refused}");
    }
}

#[test]
fn refuses_a_password_that_cannot_be_read_by_naming_its_file() {
    let variable = |name: &str| (name == "RINGHOUSE_CLICKHOUSE_PASSWORD_FILE").then(|| "/nowhere".to_owned());
    let refused = Settings::load(Written::default(), &variable, &CPUS).unwrap_err();
    assert!(matches!(refused, ConfigError::PasswordFile { ref path, .. } if path == Path::new("/nowhere")));
}

#[test]
fn finds_the_data_directory_where_serve_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ringhouse.toml");
    std::fs::write(&file, "data_dir = \"/of-file\"\n").unwrap();
    let mut variables = std::collections::HashMap::from([("HOME", "/home/u".to_owned())]);
    let found = |flag: Option<&str>, variables: &std::collections::HashMap<&str, String>| {
        let variable = |name: &str| variables.get(name).cloned();
        let path = data_dir(flag.map(PathBuf::from), &variable).unwrap();
        if flag.is_none() {
            let settings = Settings::load(Written::default(), &variable, &[0, 1]).unwrap();
            assert_eq!(settings.data_dir, path);
        }
        path.to_str().unwrap().to_owned()
    };
    assert_eq!(found(None, &Default::default()), "/var/lib/ringhouse");
    assert_eq!(found(None, &variables), "/home/u/.local/share/ringhouse");
    variables.insert("XDG_DATA_HOME", "/x".to_owned());
    assert_eq!(found(None, &variables), "/x/ringhouse");
    variables.insert("RINGHOUSE_CONFIG", file.to_str().unwrap().to_owned());
    assert_eq!(found(None, &variables), "/of-file");
    variables.insert("RINGHOUSE_DATA_DIR", "/of-variable".to_owned());
    assert_eq!(found(None, &variables), "/of-variable");
    assert_eq!(found(Some("/of-flag"), &variables), "/of-flag");
}

#[test]
fn takes_listeners_from_every_layer_and_checks_each() {
    let flags = Written {
        listener: [("otlp=http://127.0.0.1:3")]
            .into_iter()
            .map(|text| text.parse::<NamedListener>().unwrap())
            .map(|named| (named.name, named.listener))
            .collect(),
        ..Written::default()
    };
    let file = Written::from_toml(
        "listen = '127.0.0.1:1'\nack = 'memory'\n[listener.http]\ntable = 'a.b'\n\
         [listener.otlp]\naddress = '127.0.0.1:2'\nack = 'inserted'\nfields = {env = 'prod'}\n\
         tls_cert = 'c'\ntls_key = 'k'\ntls_client_ca = 'a'\n",
    )
    .unwrap();
    let settings = Settings::resolve(flags.over(file), None, &CPUS).unwrap();
    let [main, otlp] = &settings.listeners[..] else {
        panic!("{:?}", settings.listeners)
    };
    assert_eq!((main.name.as_str(), main.address.port()), ("http", 1));
    assert_eq!((main.table.as_deref(), main.ack), (Some("a.b"), AckLevel::Memory));
    assert_eq!((otlp.name.as_str(), otlp.address.port()), ("otlp", 3));
    assert_eq!(otlp.ack, AckLevel::Inserted);
    assert_eq!(otlp.fields["env"], "prod");
    assert_eq!(
        (main.scheme(), otlp.scheme()),
        ("http".to_owned(), "https".to_owned())
    );
    let files = otlp.tls.as_ref().expect("it has all that TLS needs");
    assert_eq!(
        (files.certificate.as_path(), files.key.as_path()),
        (Path::new("c"), Path::new("k"))
    );
    assert_eq!(files.client_ca.as_deref(), Some(Path::new("a")));
    let again = Written::from_toml(&settings.to_toml()).unwrap();
    assert_eq!(Settings::resolve(again, None, &CPUS).unwrap(), settings);

    for (toml, sentence) in [
        ("[listener.a]\n", "listener.a has no address"),
        (
            "[listener.'a b']\naddress = '127.0.0.1:1'",
            "is no name for a listener",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:8080'",
            "http and a are both 127.0.0.1:8080",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:8081'",
            "admin and a are both 127.0.0.1:8081",
        ),
        (
            "[listener.a]\naddres = '127.0.0.1:1'",
            "did you mean `listener.a.address`?",
        ),
        ("[listener.a]\naddress = '127.0.0.1:1'\ntable = 'a b'", "a b"),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'syslog'\nshared_key = 'k'",
            "listener.a: shared_key means nothing to the protocol `syslog`",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'forward'\nusers = {a = 'b'}",
            "users are let in with a shared_key only",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'forward'\nrequire_key = true",
            "listener.a: require_key means nothing to the protocol `forward`",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'json'\ntimezone = 'UTC'",
            "listener.a: timezone means nothing to the protocol `json`",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'syslog'\ntimezone = 'CEST'",
            "`CEST` is no time zone like Europe/Berlin, UTC or +02:00",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'syslog-udp'\nproxy_protocol = true",
            "listener.a: proxy_protocol means nothing to the protocol `syslog-udp`",
        ),
        (
            "[listener.a]\naddress = '127.0.0.1:1'\nprotocol = 'syslog'\n\
             [listener.b]\naddress = '127.0.0.1:1'\nprotocol = 'json'",
            "a and b are both 127.0.0.1:1",
        ),
        ("[listener.http]\ntls_cert = 'c'", "listener.http has no tls_key"),
        ("[listener.http]\ntls_key = 'k'", "listener.http has no tls_cert"),
        (
            "[listener.http]\ntls_client_ca = 'a'",
            "listener.http has no tls_cert",
        ),
        ("[[route]]\ntable = 'a'", "route 1: it has no condition"),
        ("[[route]]\nindex = 'x'", "route 1: "),
        (
            "[[route]]\nlistener = 'x'\ntable = 'a'",
            "route 1: there is no listener `x`",
        ),
    ] {
        let refused = resolve(toml).unwrap_err().to_string();
        assert!(refused.contains(sentence), "{toml}: {refused}");
    }
    // UDP has ports of its own.
    let toml = "[listener.a]\naddress = '127.0.0.1:8081'\nprotocol = 'syslog-udp'\n\
                [listener.b]\naddress = '127.0.0.1:514'\nprotocol = 'syslog'\n\
                [listener.c]\naddress = '127.0.0.1:514'\nprotocol = 'syslog-udp'\n\
                [listener.d]\naddress = '127.0.0.1:1'\nprotocol = 'forward'\nshared_key = 'k'\nusers = {a = 'b'}";
    let settings = resolve(toml).unwrap();
    let protocols: Vec<&str> = settings
        .listeners
        .iter()
        .map(|listener| listener.protocol.name())
        .collect();
    assert_eq!(
        protocols,
        ["http", "syslog-udp", "syslog", "syslog-udp", "forward"]
    );
    assert!(!format!("{settings:?}").contains("'k'") && !settings.to_toml().contains("\"k\""));
    for text in ["a", "a=b", "a=htp://127.0.0.1:1", "a=http://x"] {
        text.parse::<NamedListener>().unwrap_err();
    }
}

#[test]
fn asks_for_keys_where_there_are_some_unless_told_otherwise() {
    let settings = resolve(
        "keys_file = '/k'\n[listener.open]\naddress = '127.0.0.1:1'\nrequire_key = false\n\
         [listener.proxied]\naddress = '127.0.0.1:2'\nproxy_protocol = true\nallow = ['::ffff:10.0.0.0/104', '::1']",
    )
    .unwrap();
    let asks: Vec<_> = settings
        .listeners
        .iter()
        .map(|listener| {
            (
                listener.name.as_str(),
                listener.require_key,
                listener.proxy_protocol,
            )
        })
        .collect();
    assert_eq!(
        asks,
        [
            ("http", true, false),
            ("open", false, false),
            ("proxied", true, true)
        ]
    );
    let tls = "tls_cert = 'c'\ntls_key = 'k'\n";
    for (ca, asks) in [("", false), ("tls_client_ca = 'a'", true)] {
        let text = format!(
            "keys_file = '/k'\n[listener.s]\nprotocol = 'syslog'\naddress = '127.0.0.1:1'\n{tls}{ca}"
        );
        assert_eq!(resolve(&text).unwrap().listeners[1].require_key, asks, "{ca}");
    }
    let allow = settings.listeners[2].allow.as_ref().unwrap();
    assert_eq!(allow.to_texts(), ["10.0.0.0/8", "::1/128"]);
    let again = Written::from_toml(&settings.to_toml()).unwrap();
    assert_eq!(Settings::resolve(again, None, &CPUS).unwrap(), settings);
    assert!(!resolve("").unwrap().listeners[0].require_key);

    for (admin, asks) in [
        ("127.0.0.1:1", false),
        ("[::1]:1", false),
        ("0.0.0.0:1", true),
        ("[::]:1", true),
    ] {
        assert_eq!(
            resolve(&format!("admin = '{admin}'")).unwrap().admin_require_key,
            asks,
            "{admin}"
        );
        let told = format!("admin = '{admin}'\nadmin_require_key = {}", !asks);
        assert_eq!(resolve(&told).unwrap().admin_require_key, !asks, "{admin}");
    }
    for (toml, sentence) in [
        (
            "[listener.http]\nrequire_key = true",
            "listener.http has require_key = true, but there are no keys",
        ),
        (
            "[listener.http]\nallow = []",
            "listener.http: allow: an empty list",
        ),
        ("[listener.http]\nallow = ['10.1.2.3/8']", "write 10.0.0.0/8"),
        (
            "[listener.http]\nproxy_protocl = true",
            "did you mean `listener.http.proxy_protocol`?",
        ),
    ] {
        let refused = refusal(toml);
        assert!(refused.contains(sentence), "{toml}: {refused}");
    }
}
