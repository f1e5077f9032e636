//! Which of several ClickHouse servers is used next: the one in use while it works, then the least recently failed.

use std::sync::Arc;

use super::endpoint::Endpoint;

/// What a failure means for the round: the failures since any server last answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Another server has not failed in this round: try it at once.
    GoesOn,
    /// Every server has failed: time for a pause. The next failure begins another round.
    Over,
}

/// The servers rows can go to: replicas of one shard. Never empty.
///
/// It reads no clock and needs none: servers stand in the order they are to be tried, and a failure moves a server to
/// the end. The first is therefore the one in use, and behind it those that never failed, in the order they were
/// written, and then the others, the least recently failed first.
#[derive(Debug, Clone)]
pub struct Endpoints {
    list: Arc<[Endpoint]>,
    /// Indices into `list`, the next to be tried first.
    order: Vec<usize>,
    /// By index into `list`: failed in this round.
    failed: Vec<bool>,
}

impl Endpoints {
    /// Servers in order of preference.
    ///
    /// # Panics
    /// When there is none.
    pub fn new(list: Vec<Endpoint>) -> Endpoints {
        assert!(
            !list.is_empty(),
            "there is always a ClickHouse, if only a dead one"
        );
        Endpoints {
            order: (0..list.len()).collect(),
            failed: vec![false; list.len()],
            list: list.into(),
        }
    }

    /// The servers as they were written.
    pub fn list(&self) -> &Arc<[Endpoint]> {
        &self.list
    }

    /// Index of the server to use now. It stays the same until that server fails.
    pub fn pick(&self) -> usize {
        self.order[0]
    }

    /// A server could not be reached or did not answer.
    ///
    /// When it went away under many users at once, each of them tells: the first report moves on to the next server, and
    /// the later ones leave that one in use.
    pub fn failed(&mut self, index: usize) -> Round {
        self.move_to_the_end(index);
        self.failed[index] = true;
        if self.failed.contains(&false) {
            return Round::GoesOn;
        }
        self.failed.fill(false);
        Round::Over
    }

    /// A server answered that it does not take the rows: another may, but this one is there.
    pub fn refused(&mut self, index: usize) {
        self.move_to_the_end(index);
        self.answered();
    }

    /// A server answered: whatever failed before did not fail in a row.
    pub fn answered(&mut self) {
        self.failed.fill(false);
    }

    fn move_to_the_end(&mut self, index: usize) {
        self.order.retain(|at| *at != index);
        self.order.push(index);
        debug_assert_eq!(self.order.len(), self.list.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoints(count: u16) -> Endpoints {
        Endpoints::new((0..count).map(|index| Endpoint::local(9000 + index)).collect())
    }

    #[test]
    fn stays_with_a_server_that_works() {
        let mut three = endpoints(3);
        assert_eq!(three.pick(), 0);
        three.answered();
        assert_eq!(three.pick(), 0);
        assert_eq!(three.failed(0), Round::GoesOn);
        three.answered();
        assert_eq!(
            three.pick(),
            1,
            "the first is not gone back to because it may be well again"
        );
    }

    #[test]
    fn takes_those_that_never_failed_in_order_and_then_the_least_recently_failed() {
        let mut three = endpoints(3);
        three.failed(0);
        assert_eq!(three.pick(), 1);
        three.failed(1);
        assert_eq!(three.pick(), 2);
        three.answered();
        three.failed(2);
        assert_eq!(three.pick(), 0);
        three.failed(0);
        assert_eq!(three.pick(), 1);
    }

    #[test]
    fn a_failure_told_twice_keeps_the_next_server_in_use() {
        let mut three = endpoints(3);
        for _ in 0..5 {
            assert_eq!(three.failed(0), Round::GoesOn);
            assert_eq!(three.pick(), 1);
        }
    }

    #[test]
    fn a_round_is_over_when_every_server_failed_in_a_row() {
        let mut two = endpoints(2);
        for _ in 0..3 {
            assert_eq!(two.failed(0), Round::GoesOn);
            assert_eq!(two.failed(1), Round::Over);
        }
        assert_eq!(two.failed(0), Round::GoesOn);
        two.answered();
        assert_eq!(two.failed(1), Round::GoesOn, "it was not in a row");
        two.refused(0);
        assert_eq!(
            two.failed(1),
            Round::GoesOn,
            "the other is there, whatever it says"
        );
    }

    #[test]
    fn one_server_fails_for_all() {
        let mut one = endpoints(1);
        for _ in 0..3 {
            assert_eq!(one.failed(0), Round::Over);
            one.refused(0);
            assert_eq!(one.pick(), 0);
        }
    }

    #[test]
    #[should_panic(expected = "always a ClickHouse")]
    fn refuses_an_empty_list() {
        Endpoints::new(Vec::new());
    }

    /// What happens to a server.
    #[derive(Debug, Clone, Copy)]
    enum Happening {
        Failed(usize),
        Refused(usize),
        Answered,
    }

    fn happening(count: usize) -> impl Strategy<Value = Happening> {
        prop_oneof![
            (0..count).prop_map(Happening::Failed),
            (0..count).prop_map(Happening::Refused),
            Just(Happening::Answered),
        ]
    }

    fn history() -> impl Strategy<Value = (usize, Vec<Happening>)> {
        (1_usize..6).prop_flat_map(|count| (Just(count), proptest::collection::vec(happening(count), 0..60)))
    }

    proptest! {
        /// The oracle remembers when each server last failed and looks for the smallest time.
        #[test]
        fn agrees_with_times_and_a_search((count, history) in history()) {
            let mut endpoints = endpoints(count as u16);
            let mut last_failed_at = vec![0; count];
            let mut in_round = std::collections::BTreeSet::new();
            for (at, happening) in history.into_iter().enumerate() {
                let before = endpoints.pick();
                let moved = match happening {
                    Happening::Failed(index) => {
                        last_failed_at[index] = at + 1;
                        in_round.insert(index);
                        let round = endpoints.failed(index);
                        prop_assert_eq!(round == Round::Over, in_round.len() == count);
                        if round == Round::Over {
                            in_round.clear();
                        }
                        index == before
                    }
                    Happening::Refused(index) => {
                        last_failed_at[index] = at + 1;
                        in_round.clear();
                        endpoints.refused(index);
                        index == before
                    }
                    Happening::Answered => {
                        in_round.clear();
                        endpoints.answered();
                        false
                    }
                };
                let least_recently = (0..count).min_by_key(|index| (last_failed_at[*index], *index));
                prop_assert_eq!(Some(endpoints.pick()), least_recently);
                prop_assert!(moved || endpoints.pick() == before, "a server that works is left");
            }
        }

        /// One server that works is found before any pause, whatever the others did.
        #[test]
        fn finds_the_one_that_works((count, history) in history(), works in 0_usize..6) {
            let works = works % count;
            let mut endpoints = endpoints(count as u16);
            for happening in history {
                match happening {
                    Happening::Failed(index) => drop(endpoints.failed(index)),
                    Happening::Refused(index) => endpoints.refused(index),
                    Happening::Answered => endpoints.answered(),
                }
            }
            endpoints.answered();
            for tries in 0.. {
                prop_assert!(tries < count);
                let index = endpoints.pick();
                if index == works {
                    break;
                }
                prop_assert_eq!(endpoints.failed(index), Round::GoesOn);
            }
        }
    }
}
