//! The way to the broker: how it is reached, one session for a command, and a subscription that outlives connections.
//!
//! Invariant: files (password, authorities) are read only by commands that connect.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Context, Error, Out};
use crate::contract::documents::{Availability, HostStatus, OnlineState, Trash};
use crate::contract::topics::filters;
use crate::model::{DatabaseId, Secret};
use crate::mqtt::{Credentials, Message, Options, Received, Server, Session, Subscription, Tls};

/// How long a connection, a subscription or a publish may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Retained messages have all come when nothing came for so long: brokers send what they have without pause.
const QUIET: Duration = Duration::from_millis(400);
/// The pause before a lost connection is made again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the settings say about the broker.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// An external broker; none: the daemon's own, at `listen`.
    pub url: Option<String>,
    /// Where the daemon's own broker listens.
    pub listen: SocketAddr,
    /// The certificate of the daemon's own broker: it speaks TLS when there is one.
    pub listen_cert_file: Option<PathBuf>,
    /// User name.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Authorities that the broker's certificate is checked against, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
}

impl BrokerSettings {
    fn server(&self) -> Result<Server, Error> {
        if let Some(url) = &self.url {
            return url.parse().map_err(Error::BrokerSettings);
        }
        // Nobody connects to «every address»: the daemon's machine is this one.
        let host = match self.listen.ip() {
            IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            address @ (IpAddr::V4(_) | IpAddr::V6(_)) => address,
        };
        Ok(Server { host: host.to_string(), port: self.listen.port(), tls: self.listen_cert_file.is_some() })
    }

    pub(super) fn options(&self) -> Result<Options, Error> {
        let server = self.server()?;
        let credentials = match &self.username {
            None => None,
            Some(username) => Some(Credentials { username: username.clone(), password: self.password()? }),
        };
        // A certificate of the daemon's own broker that signed itself is its own authority.
        let own = self.listen_cert_file.clone().filter(|_| self.url.is_none());
        let client = self.cert_file.clone().zip(self.key_file.clone());
        let tls = self.ca_file.clone().or(own).map(|ca| Tls { ca, client });
        Ok(Options { server, tls, credentials, ..Options::default() })
    }

    fn password(&self) -> Result<Secret, Error> {
        let Some(path) = &self.password_file else { return Ok(Secret::default()) };
        let text = std::fs::read_to_string(path).map_err(|source| Error::ReadFile { path: path.clone(), source })?;
        Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
    }
}

/// A connection to the broker, for as long as a command runs.
pub(super) struct Link {
    session: Session,
}

impl Link {
    pub(super) async fn connect(context: &Context<'_>) -> Result<Self, Error> {
        let options = context.options.broker.options()?;
        let session = Session::connect(&options, "cli", &context.random, LIMIT).await.map_err(Error::Unreachable)?;
        Ok(Self { session })
    }

    pub(super) fn server(&self) -> &str {
        self.session.server()
    }

    pub(super) fn error(&self, source: crate::mqtt::Error) -> Error {
        Error::Broker { server: self.server().to_owned(), source }
    }

    pub(super) async fn subscribe(&self, filters: &[String]) -> Result<Subscription, Error> {
        self.session.subscribe(filters, LIMIT).await.map_err(|source| self.error(source))
    }

    pub(super) async fn publish(&self, message: &Message) -> Result<(), Error> {
        self.session.publish(message, LIMIT).await.map_err(|source| self.error(source))
    }

    /// The one retained message of a topic that this link does not follow.
    pub(super) async fn retained(&self, topic: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = self.session.read_retained(topic, LIMIT).await.map_err(|source| self.error(source))?;
        Ok(found.into_iter().next().map(|(_, payload)| payload))
    }

    /// What is retained below a filter that this link does not follow, by topic.
    pub(super) async fn all_retained(&self, filter: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.session.read_retained(filter, LIMIT).await.map_err(|source| self.error(source))
    }

    /// What the fleet's controllers say about themselves, in the order of their ids.
    pub(super) async fn controllers(&self, context: &Context<'_>) -> Result<Vec<Availability>, Error> {
        let filter = filters::availability(&context.options.fleet);
        let found = self.all_retained(&filter).await?;
        let mut controllers: Vec<Availability> =
            found.iter().filter_map(|(_, payload)| serde_json::from_slice(payload).ok()).collect();
        controllers.sort_by(|a, b| a.controller.cmp(&b.controller));
        Ok(controllers)
    }

    /// The deleted databases whose data the fleet's hosts keep.
    pub(super) async fn trash(&self, context: &Context<'_>) -> Result<BTreeMap<DatabaseId, Trash>, Error> {
        let found = self.all_retained(&filters::hosts(&context.options.fleet)).await?;
        let hosts = found.iter().filter_map(|(_, payload)| serde_json::from_slice::<HostStatus>(payload).ok());
        Ok(hosts.flat_map(|host| host.inventory.trash).collect())
    }

    pub(super) async fn close(self) {
        self.session.close().await;
    }
}

/// Whether somebody is there to act, and if not, what is known, as a sentence for people.
pub(super) fn nobody_online(context: &Context<'_>, server: &str, controllers: &[Availability]) -> Option<String> {
    if controllers.iter().any(|controller| controller.state == OnlineState::Online) {
        return None;
    }
    let fleet = &context.options.fleet;
    let told: Vec<String> = controllers
        .iter()
        .map(|controller| {
            let state = match controller.state {
                OnlineState::Online => "online",
                OnlineState::Offline => "offline",
                OnlineState::Lost => "lost",
            };
            format!("{} is {state} since {}", controller.controller, controller.since)
        })
        .collect();
    Some(if told.is_empty() {
        format!(
            "no controller of fleet {fleet} was ever seen at {server}: is `pgmoor serve` running, with this --fleet?"
        )
    } else {
        format!("no controller of fleet {fleet} is online ({}): start `pgmoor serve`", told.join(", "))
    })
}

/// What stands retained on some topics and what comes after it, over lost connections.
pub(super) struct Follow {
    link: Link,
    subscription: Subscription,
    filters: Vec<String>,
    /// What came in when the connection was made anew, to be handed out first.
    replayed: Vec<Received>,
}

impl Follow {
    /// Subscribes on a link of its own, and gives what is retained, by topic.
    pub(super) async fn start(
        context: &Context<'_>,
        filters: Vec<String>,
    ) -> Result<(Self, BTreeMap<String, Vec<u8>>), Error> {
        let link = Link::connect(context).await?;
        let mut subscription = link.subscribe(&filters).await?;
        let retained = drain(&link, &mut subscription).await?;
        let replayed = retained.iter().filter(|message| !message.retain).cloned().collect();
        let now = retained.into_iter().filter(|message| message.retain).map(|m| (m.topic, m.payload)).collect();
        Ok((Self { link, subscription, filters, replayed }, now))
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The next message; none once `limit` is over. A lost connection is made again, and what is retained then comes
    /// (again) as messages.
    pub(super) async fn next(
        &mut self,
        context: &Context<'_>,
        limit: Duration,
        out: &mut Out,
    ) -> Result<Option<Received>, Error> {
        if !self.replayed.is_empty() {
            return Ok(Some(self.replayed.remove(0)));
        }
        let waited = tokio::time::timeout(limit, async {
            loop {
                match self.subscription.next().await {
                    Ok(message) => return Ok(message),
                    Err(error) => self.again(context, error, out).await?,
                }
            }
        });
        match waited.await {
            Ok(message) => message.map(Some),
            Err(_elapsed) => Ok(None),
        }
    }

    async fn again(&mut self, context: &Context<'_>, error: crate::mqtt::Error, out: &mut Out) -> Result<(), Error> {
        out.note(&format!("the connection to {} was lost ({error}); connecting again", self.link.server()));
        loop {
            tokio::time::sleep(AGAIN).await;
            match Link::connect(context).await {
                Ok(link) => {
                    self.subscription = link.subscribe(&self.filters).await?;
                    self.link = link;
                    return Ok(());
                }
                Err(Error::Unreachable(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn close(self) {
        self.link.close().await;
    }
}

/// Everything until it is quiet: first what is retained, and perhaps a first live message.
async fn drain(link: &Link, subscription: &mut Subscription) -> Result<Vec<Received>, Error> {
    let mut found = Vec::new();
    while let Ok(next) = tokio::time::timeout(QUIET, subscription.next()).await {
        found.push(next.map_err(|source| link.error(source))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str) -> BrokerSettings {
        BrokerSettings {
            url: None,
            listen: listen.parse().unwrap(),
            listen_cert_file: None,
            username: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }

    #[test]
    fn the_daemons_own_broker_is_found() {
        let server = |settings: &BrokerSettings| settings.server().unwrap().to_string();
        assert_eq!(server(&settings("127.0.0.1:1883")), "mqtt://127.0.0.1:1883");
        assert_eq!(server(&settings("0.0.0.0:1884")), "mqtt://127.0.0.1:1884");
        assert_eq!(server(&settings("[::]:1884")), "mqtt://[::1]:1884");
        let tls = BrokerSettings { listen_cert_file: Some("/c.pem".into()), ..settings("192.0.2.1:8883") };
        assert_eq!(server(&tls), "mqtts://192.0.2.1:8883");
        assert_eq!(tls.options().unwrap().tls.unwrap().ca, PathBuf::from("/c.pem"));
        let external = BrokerSettings { url: Some("mqtts://broker".to_owned()), ..tls };
        assert_eq!(server(&external), "mqtts://broker:8883");
        assert!(external.options().unwrap().tls.is_none(), "another broker has another certificate");
    }

    #[test]
    fn the_password_comes_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        let named =
            BrokerSettings { username: Some("anna".to_owned()), password_file: Some(path), ..settings("127.0.0.1:1") };
        assert_eq!(named.options().unwrap().credentials.unwrap().password.expose(), "s3cret");
        let missing = BrokerSettings { password_file: Some("/nonexistent".into()), ..named };
        assert!(matches!(missing.options(), Err(Error::ReadFile { .. })));
    }
}
