//! Reads that arrive together become one call: Terraform refreshes ten resources at a time, AWS answers lists.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::run::ports::{Error, Freshness, Kind};

/// How long the first read waits for others. A tenth of a person's notice, long enough for Terraform's ten at a time.
const WINDOW: Duration = Duration::from_millis(12);
/// How old an observation may be for a plan that follows its own refresh.
const RECENT: Duration = Duration::from_secs(10);

/// What a fetch of several keys returns: the values that were found.
pub(super) type Fetched<V> = Pin<Box<dyn Future<Output = Result<BTreeMap<String, V>, Error>> + Send>>;
type Fetch<V> = Arc<dyn Fn(Vec<String>) -> Fetched<V> + Send + Sync>;

/// Gathers reads by key.
pub(super) struct Batch<V> {
    fetch: Fetch<V>,
    /// The most keys that AWS takes in one call.
    limit: usize,
    state: Arc<Mutex<State<V>>>,
}

struct State<V> {
    waiting: Vec<(String, oneshot::Sender<Result<Option<V>, Error>>)>,
    recent: BTreeMap<String, (Instant, Option<V>)>,
    /// Grows with every forget: a read that began before one must not fill the memory after it.
    epoch: u64,
}

impl<V: Clone + Send + 'static> Batch<V> {
    pub(super) fn new(limit: usize, fetch: impl Fn(Vec<String>) -> Fetched<V> + Send + Sync + 'static) -> Batch<V> {
        let state = State { waiting: Vec::new(), recent: BTreeMap::new(), epoch: 0 };
        Batch { fetch: Arc::new(fetch), limit, state: Arc::new(Mutex::new(state)) }
    }

    /// The value of a key; none if it doesn't exist.
    pub(super) async fn get(&self, key: &str, freshness: Freshness) -> Result<Option<V>, Error> {
        let receiver = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = state.recent.get(key).filter(|(at, _)| at.elapsed() < RECENT);
            if let (Freshness::Recent, Some((_, value))) = (freshness, recent) {
                return Ok(value.clone());
            }
            let (sender, receiver) = oneshot::channel();
            if state.waiting.is_empty() {
                tokio::spawn(send(self.state.clone(), self.fetch.clone(), self.limit));
            }
            state.waiting.push((key.to_owned(), sender));
            receiver
        };
        let lost = |_| Error { kind: Kind::Other, message: "the read was given up".to_owned() };
        receiver.await.map_err(lost)?
    }

    /// Forgets what was seen: something was changed.
    pub(super) fn forget(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.recent.clear();
        state.epoch += 1;
    }
}

async fn send<V: Clone + Send + 'static>(state: Arc<Mutex<State<V>>>, fetch: Fetch<V>, limit: usize) {
    tokio::time::sleep(WINDOW).await;
    let (waiting, epoch) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.waiting), state.epoch)
    };
    let mut keys: Vec<String> = waiting.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    keys.dedup();
    let mut answers: BTreeMap<String, Result<Option<V>, Error>> = BTreeMap::new();
    for chunk in keys.chunks(limit) {
        let result = fetch(chunk.to_vec()).await;
        for key in chunk {
            let answer = result.as_ref().map(|found| found.get(key).cloned()).map_err(Clone::clone);
            answers.insert(key.clone(), answer);
        }
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, answer) in &answers {
        if let (Ok(value), true) = (answer, state.epoch == epoch) {
            state.recent.insert(key.clone(), (Instant::now(), value.clone()));
        }
    }
    drop(state);
    for (key, sender) in waiting {
        if let Some(answer) = answers.get(&key) {
            // Whoever asked may have been cancelled.
            drop(sender.send(answer.clone()));
        }
    }
}
