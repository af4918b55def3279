//! Reads that arrive together share calls: AWS throttles Describe calls per account, and Terraform reads resources
//! side by side.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::error::or_if_gone;
use crate::run::ports::{FailureKind, Freshness, PortError};

/// A reading that many can wait for.
type Reading<V> = Shared<BoxFuture<'static, Result<V, PortError>>>;

/// Within this time a refresh takes what another one has just read: each resource is read once in a refresh, so this is
/// as if it had been read that much earlier.
const SHARED_FOR: Duration = Duration::from_secs(2);
/// Where there is so much to read that even this is too often, it is shared for longer. AWS adds ten reads of load balancers a
/// second to an account's bucket of forty ("Request throttling for the Elastic Load Balancing API"); each of the two kinds that
/// are shared here, listeners and rules, takes less than half of that.
const READS_A_SECOND: f64 = 4.0;
/// But for no longer than this: what another provider has changed in the same run is to be seen. Beyond sixty load balancers it is
/// the throttled call that waits.
const SHARED_AT_MOST: Duration = Duration::from_secs(15);
/// How long the first of a batch waits for others. Terraform's next ten reads arrive within a millisecond or two.
const GATHER_FOR: Duration = Duration::from_millis(10);

/// One reading per key, shared by all that ask at about the same time.
pub(super) struct Recent<K, V>(Mutex<HashMap<K, (Instant, Reading<V>)>>);

impl<K: Eq + Hash + Clone, V: Clone + Send + Sync + 'static> Recent<K, V> {
    pub(super) fn new() -> Recent<K, V> {
        Recent(Mutex::new(HashMap::new()))
    }

    /// Forgets what was read of a key: it is not so any more.
    pub(super) fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The value of a key, as old as the caller allows.
    pub(super) async fn get<F>(&self, key: K, age: Freshness, read: impl FnOnce() -> F) -> Result<V, PortError>
    where
        F: Future<Output = Result<V, PortError>> + Send + 'static,
    {
        let (since, reading) = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            entries.retain(|_, (since, _)| now.saturating_duration_since(*since) < SHARED_AT_MOST);
            let shared_for = SHARED_FOR.max(Duration::from_secs_f64(entries.len() as f64 / READS_A_SECOND));
            let recent = entries
                .get(&key)
                .filter(|(since, _)| age == Freshness::Shared && now.saturating_duration_since(*since) < shared_for);
            match recent {
                Some(entry) => entry.clone(),
                None => {
                    let entry = (now, read().boxed().shared());
                    entries.insert(key.clone(), entry.clone());
                    entry
                }
            }
        };
        let result = reading.await;
        if result.is_err() {
            // The next one tries again.
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if entries.get(&key).is_some_and(|(own, _)| *own == since) {
                entries.remove(&key);
            }
        }
        result
    }
}

/// Reads many things with one call; where one that is gone spoils the answer for all, one by one.
pub(super) async fn all_that_are_there<T, F>(
    keys: Vec<String>,
    read: impl Fn(Vec<String>) -> F,
) -> Result<Vec<T>, PortError>
where
    F: Future<Output = Result<Vec<T>, PortError>>,
{
    match read(keys.clone()).await {
        Err(error) if error.kind == FailureKind::Gone => {}
        other => return other,
    }
    let mut found = Vec::new();
    // One alone was asked for already.
    let each = if keys.len() > 1 { keys } else { Vec::new() };
    for key in each {
        found.extend(or_if_gone(read(vec![key]).await, Vec::new())?);
    }
    Ok(found)
}

/// Gathers keys for one call that reads many.
pub(super) struct Gather<K, V> {
    limit: usize,
    open: Mutex<Option<Batch<K, V>>>,
    /// One call at a time: what arrives while one is on its way goes into the next. So the batches are as large as AWS is
    /// slow, and nobody waits longer than two calls.
    lane: Arc<tokio::sync::Mutex<()>>,
}

/// A batch that still takes keys; `keys` is taken out when it closes.
struct Batch<K, V> {
    keys: Arc<Mutex<Option<BTreeSet<K>>>>,
    full: Arc<Notify>,
    reading: Reading<Arc<HashMap<K, V>>>,
}

impl<K: Ord + Eq + Hash + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Gather<K, V> {
    /// A call takes at most `limit` keys.
    pub(super) fn new(limit: usize) -> Gather<K, V> {
        Gather { limit, open: Mutex::new(None), lane: Arc::default() }
    }

    /// The value of a key; none if the call doesn't return one.
    pub(super) async fn get<F>(
        &self,
        key: K,
        read: impl FnOnce(Vec<K>) -> F + Send + 'static,
    ) -> Result<Option<V>, PortError>
    where
        F: Future<Output = Result<HashMap<K, V>, PortError>> + Send + 'static,
    {
        let reading = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match open.as_ref().and_then(|batch| self.join(batch, &key)) {
                Some(reading) => reading,
                None => {
                    let batch = begin(key.clone(), self.lane.clone(), read);
                    let reading = batch.reading.clone();
                    *open = Some(batch);
                    reading
                }
            }
        };
        Ok(reading.await?.get(&key).cloned())
    }

    fn join(&self, batch: &Batch<K, V>, key: &K) -> Option<Reading<Arc<HashMap<K, V>>>> {
        let mut keys = batch.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.as_mut()?;
        if keys.len() >= self.limit && !keys.contains(key) {
            return None;
        }
        keys.insert(key.clone());
        if keys.len() >= self.limit {
            batch.full.notify_one();
        }
        Some(batch.reading.clone())
    }
}

fn begin<K, V, F>(
    key: K,
    lane: Arc<tokio::sync::Mutex<()>>,
    read: impl FnOnce(Vec<K>) -> F + Send + 'static,
) -> Batch<K, V>
where
    K: Ord + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
    F: Future<Output = Result<HashMap<K, V>, PortError>> + Send + 'static,
{
    let keys = Arc::new(Mutex::new(Some(BTreeSet::from([key]))));
    let full = Arc::new(Notify::new());
    let (own_keys, own_full) = (keys.clone(), full.clone());
    let reading = async move {
        tokio::select! {
            () = sleep(GATHER_FOR) => {}
            () = own_full.notified() => {}
        }
        let _alone = lane.lock().await;
        let keys = own_keys.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        read(keys.into_iter().collect()).await.map(Arc::new)
    };
    Batch { keys, full, reading: reading.boxed().shared() }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    /// An account's bucket of reads.
    struct Bucket(Mutex<(f64, Instant)>);

    impl Bucket {
        /// Takes a token; whether there was one.
        fn take(&self) -> bool {
            let mut bucket = self.0.lock().unwrap();
            let now = Instant::now();
            let tokens = now.duration_since(bucket.1).as_secs_f64().mul_add(10.0, bucket.0).min(40.0);
            *bucket = (tokens - 1.0, now);
            tokens >= 1.0
        }
    }

    /// How many reads of load balancers a refresh of so many switches takes, and how many of them are throttled.
    async fn refreshed(switches: usize, load_balancers: usize, latency: Duration) -> (usize, usize) {
        let bucket = Arc::new(Bucket(Mutex::new((40.0, Instant::now()))));
        let counts = Arc::new(Mutex::new((0, 0)));
        let read = || {
            let (bucket, counts) = (Arc::clone(&bucket), Arc::clone(&counts));
            || async move {
                let is_refused = !bucket.take();
                {
                    let mut counts = counts.lock().unwrap();
                    *counts = (counts.0 + 1, counts.1 + usize::from(is_refused));
                }
                sleep(latency).await;
                Ok::<_, PortError>(())
            }
        };
        let (listeners, rules, records) = (Recent::new(), Recent::new(), Gather::new(10));
        // Terraform reads ten at a time; half of them have a listener of their own as route, all of them a rule.
        futures::stream::iter(0..switches)
            .for_each_concurrent(10, |n| {
                let (listeners, rules, records) = (&listeners, &rules, &records);
                async move {
                    let of = n % load_balancers;
                    let record = records.get(n, move |names: Vec<usize>| async move {
                        sleep(latency).await;
                        Ok(names.into_iter().map(|name| (name, ())).collect())
                    });
                    let routes = async {
                        if n % 2 == 0 {
                            listeners.get(of, Freshness::Shared, read()).await?;
                        }
                        rules.get(of, Freshness::Shared, read()).await
                    };
                    let (record, routes) = futures::join!(record, routes);
                    record.unwrap();
                    routes.unwrap();
                }
            })
            .await;
        let counts = counts.lock().unwrap();
        *counts
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_switches_are_read_without_being_throttled() {
        for latency in [5, 20, 100, 400, 2000].map(Duration::from_millis) {
            let (reads, throttled) = refreshed(1000, 20, latency).await;
            assert_eq!(throttled, 0, "of {reads} reads that took {latency:?}");
            // A few are read as often as somebody may look.
            let (reads, throttled) = refreshed(200, 1, latency).await;
            assert_eq!(throttled, 0, "of {reads} reads of one load balancer that took {latency:?}");
        }
    }
}
