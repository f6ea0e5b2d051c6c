//! What is admitted, counted and given back, by hand and by a model.

use super::*;
use crate::provider::Slug;
use proptest::prelude::*;
use std::collections::HashMap;

fn limit(metric: RateMetric, limit: u64, per: Option<RatePeriod>) -> RateLimit {
    RateLimit { metric, limit, per }
}

fn now() -> DateTime<Utc> {
    "2026-11-22T16:07:30Z".parse().unwrap()
}

fn subkey(limits: Vec<RateLimit>) -> Metered {
    Metered { owner: RateOwner::Subkey, rates: Arc::new(Rates::new(limits, 100)) }
}

fn provider(limits: Vec<RateLimit>) -> Metered {
    let slug: Slug = "p".parse().unwrap();
    Metered { owner: RateOwner::Provider(slug), rates: Arc::new(Rates::new(limits, u64::MAX)) }
}

fn enter(key: &Metered, now: DateTime<Utc>) -> Result<InFlight, RateRefusal> {
    InFlight::enter(std::slice::from_ref(key), now).map_err(|over| over.refusal)
}

fn left(owner: &Metered) -> Vec<u64> {
    owner.rates.standing(now()).iter().map(|standing| standing.remaining).collect()
}

#[test]
fn a_place_is_free_again_when_the_request_is_over() {
    let key = subkey(vec![limit(RateMetric::ConcurrentRequests, 1, None)]);
    let first = enter(&key, now()).unwrap();
    assert_eq!(enter(&key, now()).unwrap_err(), RateRefusal::Concurrency { limit: 1 });
    drop(first);
    assert!(enter(&key, now()).is_ok());
}

#[test]
fn one_full_limit_takes_nothing_from_the_others() {
    let per_minute = limit(RateMetric::Requests, 5, Some(RatePeriod::Minute));
    let per_second = limit(RateMetric::Requests, 1, Some(RatePeriod::Second));
    let key = subkey(vec![per_minute, per_second]);
    assert!(enter(&key, now()).is_ok());
    for _ in 0..10 {
        let wait = TimeDelta::seconds(1);
        assert_eq!(enter(&key, now()).unwrap_err(), RateRefusal::Exceeded { limit: per_second, wait });
    }
    for second in 1..5 {
        assert!(enter(&key, now() + TimeDelta::seconds(second)).is_ok(), "{second}");
    }
    let wait = TimeDelta::seconds(26);
    assert_eq!(
        enter(&key, now() + TimeDelta::seconds(4)).unwrap_err(),
        RateRefusal::Exceeded { limit: per_minute, wait },
        "of two that refuse, the one that lasts longer"
    );
}

#[test]
fn tokens_are_taken_at_the_worst_case_and_settled_at_use() {
    let tokens = limit(RateMetric::Tokens, 100, Some(RatePeriod::Minute));
    let key = subkey(vec![tokens]);
    let mut one = enter(&key, now()).unwrap();
    one.join(&[], 90, now()).unwrap();
    let mut two = enter(&key, now()).unwrap();
    assert!(matches!(two.join(&[], 20, now()).unwrap_err().refusal, RateRefusal::Exceeded { .. }));
    assert_eq!(
        two.join(&[], 101, now()).unwrap_err().refusal,
        RateRefusal::NeverFits { limit: tokens },
        "whatever else is in the window"
    );
    one.mark_sent();
    one.settle_tokens(10);
    assert_eq!(left(&key), [90]);
    assert!(two.join(&[], 90, now()).is_ok());
    two.mark_sent();
    two.settle_tokens(130);
    assert_eq!(left(&key), [0], "what is used beyond the worst case counts too");
    drop((one, two));
    assert!(enter(&key, now()).unwrap().join(&[], 1, now()).is_err());
}

#[test]
fn what_a_request_counts_for_when_it_is_over() {
    let requests = || limit(RateMetric::Requests, 10, Some(RatePeriod::Hour));
    let tokens = || limit(RateMetric::Tokens, 10, Some(RatePeriod::Hour));
    let places = || limit(RateMetric::ConcurrentRequests, 10, None);
    let begun = || {
        let key = subkey(vec![requests(), tokens(), places()]);
        let shared = provider(vec![requests(), tokens(), places()]);
        let mut in_flight = enter(&key, now()).unwrap();
        in_flight.join(std::slice::from_ref(&shared), 4, now()).unwrap();
        assert_eq!((left(&key), left(&shared)), (vec![9, 6, 9], vec![9, 6, 9]));
        (key, shared, in_flight)
    };
    let (key, shared, in_flight) = begun();
    drop(in_flight);
    assert_eq!((left(&key), left(&shared)), (vec![9, 10, 10], vec![10, 10, 10]), "refused after all");
    let (key, shared, mut in_flight) = begun();
    in_flight.withdraw();
    drop(in_flight);
    assert_eq!((left(&key), left(&shared)), (vec![10, 10, 10], vec![10, 10, 10]), "refused by a rate");
    let (key, shared, mut in_flight) = begun();
    in_flight.lower_tokens(3);
    in_flight.lower_tokens(5);
    in_flight.mark_sent();
    drop(in_flight);
    assert_eq!(
        (left(&key), left(&shared)),
        (vec![9, 7, 10], vec![9, 7, 10]),
        "sent, and nobody knows the use"
    );
    let (key, shared, mut in_flight) = begun();
    in_flight.mark_sent();
    in_flight.settle_tokens(1);
    drop(in_flight);
    assert_eq!((left(&key), left(&shared)), (vec![9, 9, 10], vec![9, 9, 10]), "settled");
}

#[test]
fn a_later_owner_that_refuses_costs_the_earlier_ones_nothing() {
    let hourly = |n| limit(RateMetric::Requests, n, Some(RatePeriod::Hour));
    let (key, shared) = (subkey(vec![hourly(5)]), provider(vec![hourly(1)]));
    let both = || vec![key.clone(), shared.clone()];
    let mut first = InFlight::enter(&both(), now()).unwrap();
    first.mark_sent();
    drop(first);
    for _ in 0..3 {
        let over = InFlight::enter(&both(), now()).unwrap_err();
        assert_eq!(over.owner, shared.owner);
        assert!(
            matches!(over.refusal, RateRefusal::Exceeded { wait, .. } if wait == TimeDelta::seconds(3_150))
        );
    }
    assert_eq!((left(&key), left(&shared)), (vec![4], vec![0]));
    assert!(InFlight::enter(&[key.clone(), key.clone()], now()).is_ok(), "named twice, counted once");
    assert_eq!(left(&key), [3]);
}

#[test]
fn a_patch_opens_no_fresh_window() {
    let requests = |n| vec![limit(RateMetric::Requests, n, Some(RatePeriod::Minute))];
    let key = subkey(requests(1));
    assert!(enter(&key, now()).is_ok());
    let patched = Metered { rates: Arc::new(key.rates.carry_over(requests(2), 100)), ..key };
    assert!(enter(&patched, now()).is_ok());
    assert!(enter(&patched, now()).is_err());
    let again = Rates::new(requests(3), 100).continuing(&patched.rates);
    assert_eq!(again.standing(now())[0].remaining, 1);
}

#[test]
fn a_patch_forgets_nothing_in_flight() {
    let concurrent = |n| vec![limit(RateMetric::ConcurrentRequests, n, None)];
    let key = subkey(concurrent(1));
    let before = enter(&key, now()).unwrap();
    let patched = Metered { rates: Arc::new(key.rates.carry_over(concurrent(1), 100)), ..key };
    assert!(enter(&patched, now()).is_err());
    drop(before);
    assert!(enter(&patched, now()).is_ok());
}

#[test]
fn chains_in_opposite_orders_do_not_wait_for_each_other() {
    let (one, two) = (subkey(Vec::new()), provider(Vec::new()));
    std::thread::scope(|scope| {
        for chain in [[one.clone(), two.clone()], [two, one]] {
            scope.spawn(move || {
                for _ in 0..20_000 {
                    drop(InFlight::enter(&chain, now()));
                }
            });
        }
    });
}

/// One step of a world of two keys, one provider and two credentials.
#[derive(Clone, Debug)]
enum Step {
    /// A key's request comes so many milliseconds later (or earlier), and goes out with a credential.
    Come { key: usize, credential: usize, tokens: u64, ms: i64 },
    /// One in flight ends: refused by something else, refused by a rate, sent, or settled at so many tokens.
    End { which: usize, how: u8, used: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let come = (0..2_usize, 0..2_usize, 0..12_u64, -300..600_i64)
        .prop_map(|(key, credential, tokens, ms)| Step::Come { key, credential, tokens, ms });
    let end =
        (any::<usize>(), 0..4_u8, 0..20_u64).prop_map(|(which, how, used)| Step::End { which, how, used });
    prop_oneof![come, end]
}

/// What the model counts: by owner, metric and second; and places by owner.
#[derive(Default)]
struct Model {
    counts: HashMap<(usize, RateMetric, i64), u64>,
    places: HashMap<usize, u64>,
    reached: HashMap<(usize, RateMetric), i64>,
}

struct Request {
    in_flight: InFlight,
    owners: [usize; 3],
    tokens: u64,
    /// By owner and metric, the second that counted it.
    seconds: HashMap<(usize, RateMetric), i64>,
}

const REQUESTS: u64 = 3;
const TOKENS: u64 = 20;
const PLACES: u64 = 4;

impl Model {
    fn enters(&mut self, owner: usize, second: i64) -> bool {
        let has_place = self.places.get(&owner).copied().unwrap_or(0) < PLACES;
        self.fits(owner, RateMetric::Requests, 1, second) && has_place
    }

    fn fits(&mut self, owner: usize, metric: RateMetric, amount: u64, second: i64) -> bool {
        if amount == 0 {
            return true;
        }
        let max = if metric == RateMetric::Tokens { TOKENS } else { REQUESTS };
        if amount > max {
            return false;
        }
        let reached = self.reached.entry((owner, metric)).or_default();
        *reached = second.max(*reached);
        self.counts.get(&(owner, metric, *reached)).copied().unwrap_or(0) + amount <= max
    }
}

proptest! {
    /// All owners admit a request exactly when each of them has room for all of it: never more than a limit in a window
    /// but for what was given back, never more places than there are, and nothing refused that fits.
    #[test]
    fn a_request_is_admitted_exactly_when_everybody_has_room(steps in prop::collection::vec(step(), 1..150)) {
        let limits = || vec![
            limit(RateMetric::Requests, REQUESTS, Some(RatePeriod::Second)),
            limit(RateMetric::Tokens, TOKENS, Some(RatePeriod::Second)),
            limit(RateMetric::ConcurrentRequests, PLACES, None),
        ];
        let credential = |id: &str| Metered {
            owner: RateOwner::Credential(id.to_owned()),
            rates: Arc::new(Rates::new(limits(), u64::MAX)),
        };
        let owners = [subkey(limits()), subkey(limits()), provider(limits()), credential("a"), credential("b")];
        let (mut model, mut open, mut now) = (Model::default(), Vec::<Request>::new(), now());
        for step in steps {
            match step {
                Step::Come { key, credential, tokens, ms } => {
                    now += TimeDelta::milliseconds(ms);
                    let mine = [key, 2, 3 + credential];
                    let second = now.timestamp();
                    let mut fits = model.enters(key, second);
                    if fits {
                        fits &= model.fits(key, RateMetric::Tokens, tokens, second);
                        for owner in &mine[1..] {
                            fits &= model.enters(*owner, second);
                            fits &= model.fits(*owner, RateMetric::Tokens, tokens, second);
                        }
                    }
                    let chain: Vec<Metered> = mine[1..].iter().map(|at| owners[*at].clone()).collect();
                    let entered = InFlight::enter(&[owners[key].clone()], now);
                    let joined = entered.and_then(|mut in_flight| match in_flight.join(&chain, tokens, now) {
                        Ok(()) => Ok(in_flight),
                        Err(over) => {
                            in_flight.withdraw();
                            Err(over)
                        }
                    });
                    prop_assert_eq!(joined.is_ok(), fits, "{:?}", joined);
                    let Ok(in_flight) = joined else { continue };
                    let mut seconds = HashMap::new();
                    for owner in mine {
                        *model.places.entry(owner).or_default() += 1;
                        for (metric, amount) in [(RateMetric::Requests, 1), (RateMetric::Tokens, tokens)] {
                            let reached = model.reached.get(&(owner, metric)).copied().unwrap_or(0);
                            *model.counts.entry((owner, metric, reached)).or_default() += amount;
                            seconds.insert((owner, metric), reached);
                        }
                    }
                    open.push(Request { in_flight, owners: mine, tokens, seconds });
                }
                Step::End { which, how, used } if !open.is_empty() => {
                    let mut request = open.swap_remove(which % open.len());
                    let (keeps_own, keeps, counted) = match how {
                        0 => (true, false, 0),
                        1 => {
                            request.in_flight.withdraw();
                            (false, false, 0)
                        }
                        2 => {
                            request.in_flight.mark_sent();
                            (true, true, request.tokens)
                        }
                        _ => {
                            request.in_flight.mark_sent();
                            request.in_flight.settle_tokens(used);
                            // No tokens taken, none settled: such a request generates nothing.
                            (true, true, if request.tokens == 0 { 0 } else { used })
                        }
                    };
                    drop(request.in_flight);
                    for owner in request.owners {
                        *model.places.get_mut(&owner).unwrap() -= 1;
                        let second = |metric| request.seconds[&(owner, metric)];
                        let (one, all) = (second(RateMetric::Requests), second(RateMetric::Tokens));
                        if !(keeps || keeps_own && owner < 2) {
                            *model.counts.get_mut(&(owner, RateMetric::Requests, one)).unwrap() -= 1;
                        }
                        let tokens = model.counts.get_mut(&(owner, RateMetric::Tokens, all)).unwrap();
                        *tokens = *tokens - request.tokens + counted;
                    }
                }
                Step::End { .. } => {}
            }
            for (at, owner) in owners.iter().enumerate() {
                let in_flight = model.places.get(&at).copied().unwrap_or(0);
                prop_assert_eq!(owner.rates.standing(now)[2].remaining, PLACES - in_flight);
            }
        }
    }
}

#[test]
fn what_turns_out_not_to_be_sent_counts_as_little_as_what_never_was_on_its_way() {
    let per_day = |metric, max| limit(metric, max, Some(RatePeriod::Day));
    let limits = || vec![per_day(RateMetric::Requests, 5), per_day(RateMetric::Tokens, 100)];
    let (key, account) = (subkey(limits()), provider(limits()));
    let mut in_flight = enter(&key, now()).unwrap();
    in_flight.join(std::slice::from_ref(&account), 60, now()).unwrap();
    in_flight.mark_sent();
    in_flight.mark_unsent();
    drop(in_flight);
    assert_eq!((left(&key), left(&account)), (vec![4, 100], vec![5, 100]));
}
