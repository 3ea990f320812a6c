//! Carries packets between a client and the engine, through the translator,
//! until either side ends, or a newer connection takes the client's place.
//!
//! - A client that does not take its bytes is let go after a while: rumqttd
//!   looks at the keep-alive only between its writes, so a dead client with a
//!   full socket would hold its place for ever.
//! - It returns only when the engine closed its side (or had its time for it):
//!   then the engine knows that this connection is over.
//! - A replaced MQTT 5 client is told so; only whole packets are written, so
//!   that this is always between two.
//! - The engine hears a DISCONNECT only when there is a will to be dropped, and
//!   only when nothing is under way (see [`settle`]); a closed connection says
//!   the same to it, and safely.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::translate::{Broken, Flow, Ledger, Translator};
use crate::wire::{Version, taken_over};

/// How long either side may keep the other waiting.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// One write makes no progress for so long.
    pub(crate) stalled: Duration,
    /// The engine closes its side so long after we closed ours, and answers the
    /// last ping so long after a client's good-bye.
    pub(crate) linger: Duration,
}

/// What the front uses: a minute covers a line that comes and goes, and two
/// seconds the engine's last words.
pub(crate) const PATIENCE: Patience = Patience { stalled: Duration::from_secs(60), linger: Duration::from_secs(2) };

/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// How much larger than a client's largest packet one of the engine's may be:
/// it adds a subscription identifier, and counts its properties anew.
const ENGINE_EXTRA_BYTES: usize = 1024;
const PINGREQ: [u8; 2] = [0xc0, 0];
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// What is known of a client that is through the handshake.
pub(crate) struct Terms<'a> {
    pub(crate) version: Version,
    pub(crate) has_will: bool,
    /// Largest packet that the client may send.
    pub(crate) packet_bytes_max: usize,
    /// When to stop for a newer connection.
    pub(crate) leave: &'a CancellationToken,
}

/// Why the carrying ended.
enum End {
    /// The client said good-bye and wants no will.
    GoodBye,
    /// Anything else.
    Lost,
}

/// Carries both ways until an end; then lets the engine finish.
pub(crate) async fn splice<C, E>(client: C, engine: E, terms: &Terms<'_>, patience: Patience) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    E: AsyncRead + AsyncWrite,
{
    let (mut client_read, mut client_write) = split(client);
    let (mut engine_read, mut engine_write) = split(engine);
    let ledger = Ledger::default();
    let mut upward = Translator::up(terms.version, &ledger, terms.packet_bytes_max);
    let mut downward = Translator::down(terms.version, &ledger, terms.packet_bytes_max + ENGINE_EXTRA_BYTES);
    let mut ended = tokio::select! {
        ended = up(&mut client_read, &mut engine_write, &mut upward, patience.stalled) => ended,
        ended = down(&mut engine_read, &mut client_write, &mut downward, terms, patience.stalled) => {
            ended.map(|()| End::Lost)
        }
    };
    // Whoever ended it: the engine hears the end, and what it still had to say
    // has nobody left to go to.
    let finished = timeout(patience.linger, async {
        if terms.has_will && matches!(ended, Ok(End::GoodBye)) {
            ended = settle(&mut engine_read, &mut engine_write, &mut downward, &ledger).await.map(|()| End::GoodBye);
        }
        engine_write.shutdown().await?;
        tokio::io::copy(&mut engine_read, &mut tokio::io::sink()).await
    });
    if !matches!(finished.await, Ok(Ok(_))) {
        tracing::debug!("the broker engine did not close a connection in time");
    }
    ended.map(|_| ())
}

/// Client to engine, to the client's end.
async fn up<R, W>(from: &mut R, to: &mut W, packets: &mut Translator<'_>, stalled: Duration) -> io::Result<End>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = from.read(&mut chunk).await?;
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return Ok(End::Lost);
        };
        let mut out = Vec::with_capacity(n + 64);
        let flow = packets.push(bytes, &mut out);
        // What came before a packet that ends the connection was right.
        timeout(stalled, to.write_all(&out)).await??;
        match flow.map_err(broken)? {
            Flow::Open => {}
            Flow::Ended { with_will: true } => return Ok(End::Lost),
            Flow::Ended { with_will: false } => return Ok(End::GoodBye),
        }
    }
}

/// Engine to client, to the engine's end or the farewell.
async fn down<R, W>(
    from: &mut R,
    to: &mut W,
    packets: &mut Translator<'_>,
    terms: &Terms<'_>,
    stalled: Duration,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = tokio::select! {
            biased;
            () = terms.leave.cancelled() => {
                timeout(stalled, to.write_all(taken_over(terms.version))).await??;
                return timeout(stalled, to.shutdown()).await?;
            }
            n = from.read(&mut chunk) => n?,
        };
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return timeout(stalled, to.shutdown()).await?;
        };
        let mut out = Vec::with_capacity(n + 64);
        let flow = packets.push(bytes, &mut out);
        timeout(stalled, async {
            to.write_all(&out).await?;
            to.flush().await
        })
        .await??;
        if flow.map_err(broken)? != Flow::Open {
            return timeout(stalled, to.shutdown()).await?;
        }
    }
}

/// Drops the will of a client that said good-bye. The engine's router dies when
/// a connection that it has just let go reports that it is ready for more, which
/// one does in the middle of a flood: so a ping goes round first, and its answer
/// comes after what was under way.
async fn settle<R, W>(from: &mut R, to: &mut W, packets: &mut Translator<'_>, ledger: &Ledger) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    ledger.ping();
    to.write_all(&PINGREQ).await?;
    let mut chunk = vec![0; CHUNK_BYTES];
    while !ledger.all_pings_answered() {
        let n = from.read(&mut chunk).await?;
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        packets.push(bytes, &mut Vec::new()).map_err(broken)?;
    }
    to.write_all(&DISCONNECT).await
}

fn broken(_: Broken) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet that is malformed, too large or not allowed now")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const SHORT: Patience = Patience { stalled: Duration::from_millis(100), linger: Duration::from_millis(100) };

    async fn run(client: tokio::io::DuplexStream, engine: tokio::io::DuplexStream) -> io::Result<()> {
        let leave = CancellationToken::new();
        splice(client, engine, &terms(&leave, false), SHORT).await
    }

    fn terms(leave: &CancellationToken, has_will: bool) -> Terms<'_> {
        Terms { version: Version::V5, has_will, packet_bytes_max: 1000, leave }
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_too() {
        let (client, mut outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        let both = async {
            outside.write_all(b"\xc0\0").await.unwrap();
            let mut got = [0; 2];
            inside.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"\xc0\0");
            inside.write_all(b"\xd0\0").await.unwrap();
            drop(inside);
            let mut got = Vec::new();
            outside.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"\xd0\0");
        };
        let (spliced, ()) = tokio::join!(run(client, engine), both);
        spliced.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (client, _outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        let feeding = async move { while inside.write_all(b"\xd0\0").await.is_ok() {} };
        let (spliced, ()) = tokio::join!(run(client, engine), feeding);
        assert_eq!(spliced.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn the_engine_hears_the_end_and_is_waited_for() {
        let (client, outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        drop(outside);
        let closing = async move {
            let mut rest = Vec::new();
            inside.read_to_end(&mut rest).await.unwrap();
            // More than the pipe holds: it goes nowhere, and holds nobody up.
            inside.write_all(&[0; 200]).await.unwrap();
        };
        let (spliced, ()) = tokio::join!(run(client, engine), closing);
        spliced.unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_never_ends_is_left_after_the_client() {
        let (client, outside) = duplex(64);
        let (engine, _inside) = duplex(64);
        drop(outside);
        run(client, engine).await.unwrap();
    }

    #[tokio::test]
    async fn the_farewell_comes_between_two_packets() {
        let (client, mut outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        let leave = CancellationToken::new();
        let scene = async {
            inside.write_all(b"\xd0\0\x30\x04\0\x01").await.unwrap();
            let mut got = [0; 2];
            outside.read_exact(&mut got).await.unwrap();
            leave.cancel();
            let mut got = Vec::new();
            outside.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, taken_over(Version::V5), "and nothing of the half packet");
            drop(inside);
        };
        let terms = terms(&leave, false);
        let (spliced, ()) = tokio::join!(splice(client, engine, &terms, SHORT), scene);
        spliced.unwrap();
    }

    #[tokio::test]
    async fn a_good_bye_drops_the_will_once_nothing_is_under_way() {
        let (client, mut outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        let leave = CancellationToken::new();
        let scene = async {
            outside.write_all(b"\xe0\0").await.unwrap();
            let mut got = [0; 2];
            inside.read_exact(&mut got).await.unwrap();
            assert_eq!(got, PINGREQ);
            inside.write_all(b"\x30\x05\0\x01t\0x\xd0\0").await.unwrap();
            let mut got = Vec::new();
            inside.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, DISCONNECT);
            drop(inside);
        };
        let terms = terms(&leave, true);
        let (spliced, ()) = tokio::join!(splice(client, engine, &terms, SHORT), scene);
        spliced.unwrap();
    }

    #[tokio::test]
    async fn without_a_will_or_when_it_is_asked_for_the_engine_hears_only_the_end() {
        for (bye, has_will) in [(&b"\xe0\0"[..], false), (b"\xe0\x01\x04", true), (b"\x20\0", true)] {
            let (client, mut outside) = duplex(64);
            let (engine, mut inside) = duplex(64);
            let leave = CancellationToken::new();
            let scene = async {
                outside.write_all(bye).await.unwrap();
                let mut got = Vec::new();
                inside.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, b"", "{bye:x?}");
                drop(inside);
            };
            let terms = terms(&leave, has_will);
            let (spliced, ()) = tokio::join!(splice(client, engine, &terms, SHORT), scene);
            assert_eq!(spliced.is_err(), bye == b"\x20\0");
        }
    }
}
