//! The embedded engine and the control thread against each other, for real.

mod common;

use std::sync::Arc;

use common::{Engine, eventually, is_alive, signal};
use ringhouse::catalog::{Catalog, Lookup};
use ringhouse::clickhouse::control::{ControlConfig, ControlError, check, start_control};
use ringhouse::clickhouse::endpoint::{Endpoint, Secret};
use ringhouse::limits::Limits;
use ringhouse::schema::{Schema, TableName};
use rustix::process::Signal;

fn config(endpoint: Endpoint, create_tables: bool) -> ControlConfig {
    ControlConfig {
        default_table: TableName {
            database: endpoint.database.clone(),
            table: "otel_logs".to_owned(),
        },
        endpoints: vec![endpoint],
        tables: Vec::new(),
        only_listed: false,
        known_tables: None,
        create_tables,
        ttl_days: None,
        limits: Limits {
            schema_refresh_ms: 400,
            ..Limits::default()
        },
    }
}

fn found(catalog: &Catalog, table: &str) -> Option<Schema> {
    match catalog.lookup(None, Some(table)) {
        Lookup::Found(schema) => Some(schema),
        _ => None,
    }
}

#[test]
fn a_killed_engine_comes_back_on_its_port_with_its_tables() {
    let engine = Engine::start();
    let (pid, port) = (engine.embedded.pid(), engine.tcp_port());
    engine.sql("CREATE TABLE t (a UInt32) ENGINE = MergeTree ORDER BY a");
    engine.sql("INSERT INTO t SELECT number FROM numbers(1000)");
    signal(pid, Signal::KILL);
    eventually("the engine's restart", || {
        (engine.embedded.restarts() == 1).then_some(())
    });
    let count = eventually("the table", || engine.try_sql("SELECT count() FROM t").ok());
    assert_eq!(count, "1000");
    assert_eq!(engine.tcp_port(), port);
    assert_ne!(engine.embedded.pid(), pid);
}

#[test]
fn a_stopped_engine_is_gone() {
    let engine = Engine::start();
    let pid = engine.embedded.pid();
    drop(engine);
    assert!(!is_alive(pid));
}

#[test]
fn tables_are_created_found_changed_and_lost() {
    let engine = Engine::start();
    let endpoint = Endpoint {
        database: "it's logs".to_owned(),
        ..engine.embedded.endpoint()
    };
    let control = start_control(config(endpoint, true)).unwrap();
    let catalog = control.catalog();
    eventually("the first reading", || {
        control.readiness().connected.then_some(())
    });
    assert!(control.readiness().server_version.unwrap().starts_with("26."));
    let assumed = found(catalog, "otel_logs").expect("the default table was created");
    assert!(assumed.columns.iter().any(|c| c.name == "Body"));
    assert!(matches!(catalog.lookup(None, Some("nothing")), Lookup::NotServed));

    engine.sql("CREATE TABLE `it's logs`.events (a UInt32, b String) ENGINE = Null");
    engine.sql("CREATE VIEW `it's logs`.seen AS SELECT 1 AS a");
    catalog.request_refresh();
    let before = eventually("the new table", || found(catalog, "events"));
    assert!(found(catalog, "seen").is_none(), "a view is no destination");
    assert!(Arc::ptr_eq(&assumed, &found(catalog, "otel_logs").unwrap()));

    engine.sql("ALTER TABLE `it's logs`.otel_logs ADD COLUMN extra UInt64");
    eventually("the new column", || {
        found(catalog, "otel_logs")?
            .columns
            .iter()
            .any(|c| c.name == "extra")
            .then_some(())
    });
    assert!(
        Arc::ptr_eq(&before, &found(catalog, "events").unwrap()),
        "an unchanged table keeps its pointer"
    );

    engine.sql("DROP TABLE `it's logs`.events SYNC");
    eventually("the table's end", || {
        matches!(catalog.lookup(None, Some("events")), Lookup::NotServed).then_some(())
    });
}

#[test]
fn the_control_thread_outlives_the_engine() {
    let engine = Engine::start();
    let control = start_control(config(engine.embedded.endpoint(), true)).unwrap();
    eventually("the first reading", || {
        control.readiness().connected.then_some(())
    });
    signal(engine.embedded.pid(), Signal::KILL);
    eventually("a failed reading or the restart", || {
        (engine.embedded.restarts() > 0).then_some(())
    });
    eventually("the next reading", || {
        let readiness = control.readiness();
        (readiness.connected && readiness.last_error.is_none()).then_some(())
    });
    assert!(found(control.catalog(), "otel_logs").is_some());
}

#[test]
fn accounts_are_checked_and_their_passwords_not_printed() {
    let users = "<clickhouse><users>
        <default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
            <quota>default</quota></default>
        <writer><password>p@ss word</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
            <quota>default</quota></writer>
        </users><profiles><default></default></profiles><quotas><default></default></quotas></clickhouse>";
    let engine = Engine::start_with(Some(users));
    let text = format!("tcp://writer:p%40ss%20word@127.0.0.1:{}", engine.tcp_port());
    let endpoint: Endpoint = text.parse().unwrap();
    let report = check(&config(endpoint.clone(), false)).unwrap();
    assert_eq!(report.missing.len(), 1);

    let wrong = Endpoint {
        password: Secret::new("hunter2"),
        ..endpoint
    };
    let error = check(&config(wrong, false)).unwrap_err();
    assert!(matches!(error, ControlError::Server { code: 516, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn check_warns_where_a_retry_may_double() {
    let engine = Engine::start();
    engine.sql("CREATE TABLE plain (a UInt32) ENGINE = MergeTree ORDER BY a");
    let report = check(&config(engine.embedded.endpoint(), false)).unwrap();
    let plain = report.tables.iter().find(|t| t.name.table == "plain").unwrap();
    assert_eq!(plain.warnings.len(), 1, "{plain:?}");
    engine.sql("ALTER TABLE plain MODIFY SETTING non_replicated_deduplication_window = 10");
    let report = check(&config(engine.embedded.endpoint(), false)).unwrap();
    let plain = report.tables.iter().find(|t| t.name.table == "plain").unwrap();
    assert!(plain.warnings.is_empty(), "{plain:?}");
}
