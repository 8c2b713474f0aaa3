//! The demo's own eyes: asks every host for its front page, as a load balancer would, and remembers
//! the lowest number of hosts per zone that were seen serving at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Between two rounds over all hosts.
const EVERY: Duration = Duration::from_millis(50);
/// A host that takes longer does not serve.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Target {
    pub zone: String,
    pub address: SocketAddr,
}

/// Hosts seen serving, by zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub rounds: u32,
    /// The lowest so far.
    pub lowest: BTreeMap<String, u32>,
    pub lowest_of_all: u32,
    pub now: BTreeMap<String, u32>,
    /// What the hosts answer, with how many answer it.
    pub answers: BTreeMap<String, u32>,
}

#[derive(Debug)]
pub struct Prober {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    pub fn start(targets: Vec<Target>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let round = look(&targets).await;
                shared.lock().unwrap_or_else(PoisonError::into_inner).note(round);
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { seen, task }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One answer per host: its zone, and its front page if it serves.
type Round = Vec<(String, Option<String>)>;

async fn look(targets: &[Target]) -> Round {
    let asked: Vec<_> = targets
        .iter()
        .cloned()
        .map(|target| tokio::spawn(async move { (target.zone.clone(), ask(target.address).await) }))
        .collect();
    let mut round = Vec::with_capacity(asked.len());
    for task in asked {
        if let Ok(answer) = task.await {
            round.push(answer);
        }
    }
    round
}

async fn ask(address: SocketAddr) -> Option<String> {
    let asked = tokio::time::timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200 ").then(|| body.trim().to_owned())
    });
    asked.await.ok().flatten()
}

impl Seen {
    fn note(&mut self, round: Round) {
        let mut now: BTreeMap<String, u32> = BTreeMap::new();
        self.answers.clear();
        for (zone, answer) in round {
            let count = now.entry(zone).or_default();
            if let Some(answer) = answer {
                *count += 1;
                *self.answers.entry(answer).or_default() += 1;
            }
        }
        let all = now.values().sum();
        self.lowest_of_all = if self.rounds == 0 { all } else { self.lowest_of_all.min(all) };
        for (zone, count) in &now {
            let lowest = self.lowest.entry(zone.clone()).or_insert(*count);
            *lowest = (*lowest).min(*count);
        }
        self.rounds += 1;
        self.now = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_is_kept_by_zone_and_over_all() {
        let serving = |zone: &str, serves: bool| (zone.to_owned(), serves.then(|| "hi".to_owned()));
        let mut seen = Seen::default();
        seen.note(vec![serving("a", true), serving("a", true), serving("b", true)]);
        seen.note(vec![serving("a", false), serving("a", true), serving("b", true)]);
        seen.note(vec![serving("a", true), serving("a", true), serving("b", false)]);
        assert_eq!(seen.lowest, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
        assert_eq!(seen.lowest_of_all, 2);
        assert_eq!(seen.now["a"], 2);
    }
}
