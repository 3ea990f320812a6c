//! A line to a broker that can be cut, or go dead: then it forwards nothing, and neither side is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pgmoor::mqtt::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Up,
    Dead,
    Cut,
}

/// The line; it ends with this.
pub(crate) struct Proxy {
    addr: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// A line to the broker of these options.
    pub(crate) async fn to(options: &Options) -> Self {
        let target = (options.server.host.clone(), options.server.port);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (addr, line) = (listener.local_addr().unwrap(), Arc::new(watch::Sender::new(Line::Up)));
        let (mut task, seen) = (JoinSet::new(), line.subscribe());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (target, seen) = (target.clone(), seen.clone());
                connections.spawn(async move {
                    // A dead line takes connections too: it is somewhere behind the kernel that accepts.
                    if *seen.borrow() == Line::Cut {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = forward(from_client, to_server, seen.clone()) => {}
                        () = forward(from_server, to_client, seen.clone()) => {}
                        () = until_cut(seen.clone()) => {}
                    }
                });
            }
        });
        Self { addr, line, _task: task }
    }

    /// The options to go by this line.
    pub(crate) fn options(&self, options: &Options) -> Options {
        let mut options = options.clone();
        options.server.port = self.addr.port();
        options
    }

    /// Forwards nothing any more; connections stay open.
    pub(crate) fn goes_dead(&self) {
        self.line.send_replace(Line::Dead);
    }

    /// Ends all connections and takes no new ones.
    pub(crate) fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// Works again, for new connections; those that went dead stay so.
    pub(crate) fn mend(&self) {
        self.line.send_replace(Line::Up);
    }
}

async fn until_cut(seen: watch::Receiver<Line>) {
    until(seen, Line::Cut).await;
}

async fn until(mut seen: watch::Receiver<Line>, wanted: Line) {
    let gone = seen.wait_for(|line| *line == wanted).await.is_err();
    if gone {
        std::future::pending::<()>().await;
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    seen: watch::Receiver<Line>,
) {
    let mut dead = std::pin::pin!(until(seen, Line::Dead));
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = &mut dead => {
                // Both ends stay open, and hear nothing.
                std::future::pending::<()>().await;
                return;
            }
            read = from.read(&mut bytes) => read,
        };
        match read {
            Ok(n) if n > 0 && to.write_all(&bytes[..n]).await.is_ok() => {}
            _ => return,
        }
    }
}
