//! Chooses the table of rows by what is known of them: listener, path and headers of their request, index, labels.
//!
//! What a request says is looked at once, and leaves a set of routes; what its rows say chooses among those.

use wildmatch::WildMatch;

use crate::config::{RouteConfig, split_table_name};

/// The configured routes, in their order.
#[derive(Debug, Clone, Default)]
pub struct Router {
    routes: Vec<Route>,
    /// Routes with conditions on rows.
    of_rows: u64,
}

#[derive(Debug, Clone)]
struct Route {
    listener: Option<String>,
    path: Option<WildMatch>,
    headers: Vec<(String, WildMatch)>,
    index: Option<WildMatch>,
    labels: Vec<(String, WildMatch)>,
    table: String,
}

/// What is known of a request.
pub struct RequestFacts<'a> {
    /// Name of the listener it came in by.
    pub listener: &'a str,
    /// Its path, empty where there is none.
    pub path: &'a str,
    /// The value of a header.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

/// The value of a label by its name.
pub type Labels<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// What is known of some rows of a request.
#[derive(Clone, Copy, Default)]
pub struct RowFacts<'a> {
    /// The index they name.
    pub index: Option<&'a str>,
    /// The value of a label of their stream.
    pub label: Option<&'a Labels<'a>>,
}

/// The routes that a request's rows may take, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Candidates(u64);

impl Router {
    /// Takes routes whose tables were checked; at most [`ROUTES_MAX`](crate::config::ROUTES_MAX).
    pub fn new(routes: &[RouteConfig]) -> Router {
        let patterns = |patterns: &std::collections::BTreeMap<String, String>| {
            let compiled = patterns
                .iter()
                .map(|(name, pattern)| (name.clone(), WildMatch::new(pattern)));
            compiled.collect()
        };
        let pattern = |pattern: &Option<String>| pattern.as_deref().map(WildMatch::new);
        let routes: Vec<Route> = routes
            .iter()
            .map(|route| Route {
                listener: route.listener.clone(),
                path: pattern(&route.path),
                headers: patterns(&route.header),
                index: pattern(&route.index),
                labels: patterns(&route.label),
                table: route.table.clone(),
            })
            .collect();
        assert!(
            routes.len() <= crate::config::ROUTES_MAX,
            "the configuration was checked"
        );
        let of_rows = bits(&routes, |route| route.index.is_some() || !route.labels.is_empty());
        Router { routes, of_rows }
    }

    /// The routes whose conditions on the request hold.
    pub fn candidates(&self, request: &RequestFacts<'_>) -> Candidates {
        Candidates(bits(&self.routes, |route| {
            route
                .listener
                .as_ref()
                .is_none_or(|name| name == request.listener)
                && route.path.as_ref().is_none_or(|path| path.matches(request.path))
                && route.headers.iter().all(|(name, pattern)| {
                    (request.header)(name)
                        .and_then(|value| std::str::from_utf8(value).ok())
                        .is_some_and(|value| pattern.matches(value))
                })
        }))
    }

    /// Whether rows of one request may go to different tables.
    pub fn depends_on_rows(&self, candidates: Candidates) -> bool {
        candidates.0 & self.of_rows != 0
    }

    /// The table of rows, as `table` or `database.table`; `None` when no route is theirs.
    pub fn table(&self, candidates: Candidates, rows: RowFacts<'_>) -> Option<&str> {
        let mut left = candidates.0;
        while left != 0 {
            let route = &self.routes[left.trailing_zeros() as usize];
            left &= left - 1;
            let index = route
                .index
                .as_ref()
                .is_none_or(|pattern| rows.index.is_some_and(|index| pattern.matches(index)));
            let labels = route.labels.iter().all(|(name, pattern)| {
                rows.label
                    .and_then(|label| label(name))
                    .is_some_and(|value| pattern.matches(value))
            });
            if index && labels {
                return Some(&route.table);
            }
        }
        None
    }
}

/// Splits a table's name that the configuration has checked.
pub fn split_checked(name: &str) -> (Option<&str>, &str) {
    split_table_name(name).expect("the configuration was checked")
}

fn bits(routes: &[Route], holds: impl Fn(&Route) -> bool) -> u64 {
    let set = routes.iter().enumerate().filter(|(_, route)| holds(route));
    set.fold(0, |bits, (at, _)| bits | 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(toml: &str) -> Router {
        let written = crate::config::Written::from_toml(toml).unwrap();
        Router::new(&written.route)
    }

    fn candidates(
        router: &Router,
        listener: &str,
        path: &str,
        headers: &[(&str, &'static str)],
    ) -> Candidates {
        router.candidates(&RequestFacts {
            listener,
            path,
            header: &|name| {
                let found = headers
                    .iter()
                    .find(|(header, _)| header.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.as_bytes())
            },
        })
    }

    #[test]
    fn takes_the_first_route_whose_every_condition_holds() {
        let router = router(
            "[[route]]\nlistener = 'edge'\npath = '/loki/*'\ntable = 'a'\n\
             [[route]]\nheader = {'X-Scope-OrgID' = 'team-?'}\ntable = 'b'\n\
             [[route]]\npath = '*'\nindex = 'app-*'\ntable = 'c'\n\
             [[route]]\nlabel = {app = 'web', env = 'prod*'}\ntable = 'd'\n\
             [[route]]\npath = '/x'\ntable = 'e'\n",
        );
        let none = RowFacts::default();
        let edge = candidates(
            &router,
            "edge",
            "/loki/api/v1/push",
            &[("x-scope-orgid", "team-1")],
        );
        assert_eq!(router.table(edge, none), Some("a"));
        assert!(router.depends_on_rows(edge));
        let http = candidates(
            &router,
            "http",
            "/loki/api/v1/push",
            &[("x-scope-orgid", "team-1")],
        );
        assert_eq!(router.table(http, none), Some("b"));
        let other = candidates(&router, "http", "/x", &[("x-scope-orgid", "team-10")]);
        assert_eq!(router.table(other, none), Some("e"));
        let index = |index| RowFacts {
            index: Some(index),
            ..none
        };
        assert_eq!(router.table(other, index("app-2026")), Some("c"));
        assert_eq!(router.table(other, index("apps")), Some("e"));
        let label = |name: &str| match name {
            "app" => Some("web"),
            "env" => Some("production"),
            _ => None,
        };
        let labels = RowFacts {
            label: Some(&label),
            ..none
        };
        assert_eq!(router.table(other, labels), Some("d"));
        let web_only = |name: &str| (name == "app").then_some("web");
        let labels = RowFacts {
            label: Some(&web_only),
            ..none
        };
        assert_eq!(router.table(other, labels), Some("e"));
        assert_eq!(router.table(candidates(&router, "http", "/y", &[]), none), None);
    }

    #[test]
    fn a_request_alone_decides_where_no_route_asks_for_more() {
        let router =
            router("[[route]]\npath = '/x'\ntable = 'e'\n[[route]]\nindex = 'i'\npath = '/y'\ntable = 'f'\n");
        assert!(!router.depends_on_rows(candidates(&router, "http", "/x", &[])));
        assert!(router.depends_on_rows(candidates(&router, "http", "/y", &[])));
    }
}
