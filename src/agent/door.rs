//! The door of the fleet: a new host knocks with a token, and gets what it needs to be one of its hosts.
//!
//! Invariants: nothing is told to who has no token, and only sealed with its secret; a token lets in one request, which
//! is written down in Swarm before it is answered, so every manager may answer, and a new one knows what was used.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::line::{Heard, Line};
use crate::contract::documents::{HostAdmission, HostJoin, to_bytes};
use crate::contract::topics::Topic;
use crate::contract::{Code, Fault};
use crate::domain::layout;
use crate::drivers::join::{Claim, JoinToken, Knock, Welcome, claim};
use crate::drivers::seal::FleetKey;
use crate::drivers::swarm::{Labels, Swarm};
use crate::drivers::{self, certificates};
use crate::model::{FleetId, HostId, Scope};
use crate::runtime::chain::chain;
use crate::runtime::clock::SharedClock;
use crate::store::{Rows as _, Store};
use crate::world::{FLEET_LABEL, RESOURCE_LABEL, SCOPE_LABEL, record};

/// The resource that a used token is.
const TOKEN_RESOURCE: &str = "join";

/// What lets hosts in.
pub struct Door {
    /// The fleet.
    pub fleet: FleetId,
    /// This host.
    pub here: HostId,
    /// What tokens and records follow from; it is handed over.
    pub key: Arc<FleetKey>,
    /// Where answers go out.
    pub line: Arc<dyn Line>,
    /// The Swarm that is joined.
    pub swarm: Arc<dyn Swarm>,
    /// It knows the fleet's authority.
    pub store: Store,
    /// The time.
    pub clock: SharedClock,
}

impl Door {
    /// Answers until told to stop, or until nothing comes any more.
    pub async fn run(&self, mut arriving: mpsc::Receiver<Heard>, stop: CancellationToken) {
        loop {
            let heard = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                heard = arriving.recv() => heard,
            };
            let Some(heard) = heard else { return };
            let Some((topic, answer)) = self.answer(&heard).await else { continue };
            if let Err(error) = self.line.say(&topic, &to_bytes(&answer)).await {
                tracing::info!(error, "the answer to a host that joins was not said; it asks again");
            }
        }
    }

    /// The answer to a knock, and its topic; none to what is no knock.
    async fn answer(&self, heard: &Heard) -> Option<(String, HostAdmission)> {
        let Some(Topic::HostJoin(host)) = Topic::parse(&self.fleet, &heard.topic) else { return None };
        let asked: HostJoin = serde_json::from_slice(&heard.payload).ok()?;
        let topic = Topic::HostAdmission(host.clone()).to_string(&self.fleet);
        let (faults, sealed) = match self.let_in(&host, &asked, (&heard.topic, &topic)).await {
            Ok(sealed) => {
                tracing::info!(%host, token = %asked.token, "a host is let in");
                (Vec::new(), Some(sealed))
            }
            Err(fault) => {
                tracing::info!(%host, token = %asked.token, fault = %fault, "a host is not let in");
                (vec![fault], None)
            }
        };
        Some((topic, HostAdmission { id: asked.id, from: self.here.clone(), faults, sealed }))
    }

    async fn let_in(&self, host: &HostId, asked: &HostJoin, (from, to): (&str, &str)) -> Result<String, Fault> {
        let unavailable = |error: &(dyn std::error::Error + 'static)| Fault::new(Code::Unavailable, "", chain(error));
        let invalid = |what: &str| Fault::new(Code::TokenInvalid, "/token", what);
        let kept = self.store.read(|reader| reader.fleet_record()).map_err(|error| unavailable(&error))?;
        // Who follows keeps none.
        let record = match kept {
            Some(record) => Some(record),
            None => record::fleet(&*self.swarm, &self.key, &self.fleet).await.map_err(|error| unavailable(&error))?,
        };
        let Some(record) = record else {
            return Err(Fault::new(Code::Unavailable, "", "the fleet has no authority yet"));
        };
        let authority = certificates::certificate_digest(&record.ca_certificate_pem);
        let authority = authority.map_err(|error| unavailable(&error))?;
        if asked.authority != authority {
            return Err(invalid("the token was made under another authority than the fleet has"));
        }
        let token = JoinToken::new(&self.key, &self.fleet, &asked.token, asked.expires_at_s, &authority);
        let token = token.map_err(|error| unavailable(&error))?;
        // Before its end, so that who has no token learns nothing about one.
        let knock: Knock = token
            .open(from, &asked.id, &asked.sealed)
            .map_err(|_| invalid("the token is not one of this fleet, or a part of it was changed"))?;
        if knock.host != *host {
            return Err(invalid("the request is another host's"));
        }
        let now_s = self.clock.now_ms() / 1000;
        if now_s > token.expires_at_s {
            let ago_s = now_s - token.expires_at_s;
            return Err(Fault::new(Code::TokenExpired, "/expires_at_s", format!("the token ended {ago_s} s ago")));
        }
        let swarm = self.swarm.admission().await.map_err(|error| unavailable(&error))?;
        match self.claim(&token, asked, now_s).await.map_err(|error| unavailable(&error))? {
            Claim::Ours => {}
            Claim::Used => return Err(Fault::new(Code::TokenUsed, "/token", "a host has joined with this token")),
        }
        let welcome =
            Welcome { fleet_key: self.key.to_text(), authority_pem: record.ca_certificate_pem.clone(), swarm };
        token.seal(to, &asked.id, &welcome).map_err(|error| unavailable(&error))
    }

    async fn claim(&self, token: &JoinToken, asked: &HostJoin, now_s: i64) -> drivers::Result<Claim> {
        let selector = Labels::from([
            (FLEET_LABEL.to_owned(), self.fleet.to_string()),
            (SCOPE_LABEL.to_owned(), Scope::Fleet.label()),
            (RESOURCE_LABEL.to_owned(), TOKEN_RESOURCE.to_owned()),
        ]);
        let name = layout::token_config(&self.fleet, &token.id);
        claim(&*self.swarm, &name, &selector, token, (&asked.id, now_s)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::drivers::certificates::make_authority;
    use crate::drivers::fake;
    use crate::model::{Digest, FleetRecord, Secret, TaskId};
    use crate::runtime::clock::TokioClock;
    use crate::store::Options;

    const NOW_S: i64 = 1_790_000_000;

    #[derive(Default)]
    struct Said(Mutex<Vec<(String, Vec<u8>)>>);

    #[async_trait]
    impl Line for Said {
        async fn say(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
            self.0.lock().unwrap().push((topic.to_owned(), payload.to_vec()));
            Ok(())
        }
    }

    struct Site {
        door: Door,
        authority: Digest,
        world: fake::World,
        said: Arc<Said>,
        directory: tempfile::TempDir,
    }

    fn id(text: &str) -> TaskId {
        TaskId::parse(text).unwrap()
    }

    impl Site {
        async fn new() -> Self {
            let clock: SharedClock = Arc::new(TokioClock::starting_at(NOW_S * 1000));
            let directory = tempfile::tempdir().unwrap();
            let fleet = FleetId::parse("edge").unwrap();
            let key = Arc::new(FleetKey::load_or_create(&directory.path().join("fleet.key")).unwrap());
            let store = Store::open(&directory.path().join("pgmoor.redb"), &Options::new(fleet.clone())).unwrap();
            let authority = make_authority(&fleet, NOW_S).unwrap();
            let record = FleetRecord {
                revision: 1,
                fleet: fleet.clone(),
                ca_certificate_pem: authority.certificate_pem.clone(),
                ca_key_pem: authority.key_pem,
                etcd_root_password: Secret::new("x"),
                etcd_members: Default::default(),
                etcd_joined: Default::default(),
                etcd_change: None,
                hosts: Default::default(),
                leftovers: Default::default(),
                etcd_cluster_token: "x".to_owned(),
            };
            store.write(move |writer| writer.put_fleet_record(&record)).await.unwrap();
            let world = fake::World::new(fake::Options::new(Arc::clone(&clock)));
            let (said, swarm) = (Arc::new(Said::default()), world.drivers().swarm);
            let here = HostId::parse("host-1").unwrap();
            let line: Arc<dyn Line> = Arc::clone(&said) as _;
            let authority = certificates::certificate_digest(&authority.certificate_pem).unwrap();
            Self { door: Door { fleet, here, key, line, swarm, store, clock }, authority, world, said, directory }
        }

        fn token(&self, name: &str, life_s: i64) -> JoinToken {
            JoinToken::new(&self.door.key, &self.door.fleet, &id(name), NOW_S + life_s, &self.authority).unwrap()
        }

        fn knock(&self, token: &JoinToken, request: &str, host: &str) -> (Heard, TaskId) {
            let host = HostId::parse(host).unwrap();
            let (topic, request) = (Topic::HostJoin(host.clone()).to_string(&self.door.fleet), id(request));
            let sealed = token.seal(&topic, &request, &Knock { host }).unwrap();
            let document = HostJoin {
                id: request.clone(),
                token: token.id.clone(),
                expires_at_s: token.expires_at_s,
                authority: token.authority.clone(),
                sealed,
            };
            (Heard { topic, payload: to_bytes(&document) }, request)
        }

        /// What comes of it: the welcome, or the codes of the faults.
        async fn told(&self, token: &JoinToken, (heard, request): (Heard, TaskId)) -> Result<Welcome, Vec<Code>> {
            let (topic, answer) = self.door.answer(&heard).await.unwrap();
            assert_eq!(answer.id, request);
            match answer.sealed {
                Some(sealed) => Ok(token.open(&topic, &request, &sealed).unwrap()),
                None => Err(answer.faults.iter().map(|fault| fault.code).collect()),
            }
        }
    }

    #[tokio::test]
    async fn a_token_lets_one_host_in_once() {
        let site = Site::new().await;
        let token = site.token("t1", 60);
        let first = site.knock(&token, "r1", "host-2");
        let welcome = site.told(&token, first.clone()).await.unwrap();
        assert!(token.is_of(&welcome.authority_pem));
        assert_eq!(welcome.swarm.managers.len(), 1);
        let path = site.directory.path().join("handed-over");
        FleetKey::write_new(&path, &welcome.fleet_key).unwrap();
        let sealed = site.door.key.seal("x", b"record").unwrap();
        assert_eq!(FleetKey::load_or_create(&path).unwrap().open("x", &sealed).unwrap(), b"record");
        // An answer may get lost: the same request is answered again; another one, of whatever host, is not.
        assert!(site.told(&token, first).await.is_ok());
        for host in ["host-2", "host-3"] {
            let other = site.knock(&token, "r2", host);
            assert_eq!(site.told(&token, other).await, Err(vec![Code::TokenUsed]), "{host}");
        }
        // What is used is in Swarm, and another manager's pgmoor knows it; it goes once its time is over.
        let used = || async { site.world.drivers().swarm.configs(&Labels::new()).await.unwrap().len() };
        assert_eq!(used().await, 1);
        let stale = site.token("t2", 10);
        let knock = site.knock(&stale, "r3", "host-4");
        site.told(&stale, knock).await.unwrap();
        assert_eq!(used().await, 2);
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        let (third, fourth) = (site.token("t3", 100), site.knock(&stale, "r3", "host-4"));
        assert_eq!(site.told(&stale, fourth).await, Err(vec![Code::TokenExpired]), "also for who had it before");
        let knock = site.knock(&third, "r4", "host-5");
        site.told(&third, knock).await.unwrap();
        assert_eq!(used().await, 2, "t1 and t3");
    }

    #[tokio::test]
    async fn who_has_no_token_is_told_nothing() {
        let site = Site::new().await;
        let token = site.token("t1", 60);
        // A later end than it was made with.
        let text = token.to_text().expose().replace(&format!(".{}.", NOW_S + 60), &format!(".{}.", NOW_S + 9999));
        let longer: JoinToken = text.parse().unwrap();
        let mut other = token.clone();
        other.authority = Digest::of_bytes(b"other");
        for (what, token) in [("a later end", &longer), ("another authority", &other)] {
            let knock = site.knock(token, "r1", "host-2");
            assert_eq!(site.told(token, knock).await, Err(vec![Code::TokenInvalid]), "{what}");
        }
        // The request of one host, said again by another.
        let (heard, request) = site.knock(&token, "r1", "host-2");
        let moved = Heard { topic: heard.topic.replace("host-2", "host-3"), ..heard };
        assert_eq!(site.told(&token, (moved, request)).await, Err(vec![Code::TokenInvalid]));
        let garbage = Heard { topic: "pgmoor/v1/edge/hosts/host-2/join".to_owned(), payload: b"{".to_vec() };
        assert!(site.door.answer(&garbage).await.is_none());
        assert!(site.world.drivers().swarm.configs(&Labels::new()).await.unwrap().is_empty(), "no token is used up");
        assert!(site.said.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_swarm_that_does_not_answer_uses_no_token_up() {
        let site = Site::new().await;
        let token = site.token("t1", 60);
        site.world.unreachable(fake::System::Swarm, true);
        let knock = site.knock(&token, "r1", "host-2");
        assert_eq!(site.told(&token, knock.clone()).await, Err(vec![Code::Unavailable]));
        site.world.unreachable(fake::System::Swarm, false);
        assert!(site.told(&token, knock).await.is_ok());
    }
}
