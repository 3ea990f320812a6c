//! Copies bytes between a client and the engine until either side ends, or a
//! newer connection takes the client's place.
//!
//! - A client that does not take its bytes is let go after a while: rumqttd
//!   looks at the keep-alive only between its writes, so a dead client with a
//!   full socket would hold its place for ever.
//! - It returns only when the engine closed its side (or had its time for it):
//!   then the engine knows that this connection is over.
//! - A replaced MQTT 5 client is told so, between two packets.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long either side may keep the other waiting.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// One write makes no progress for so long.
    pub(crate) stalled: Duration,
    /// The engine closes its side so long after we closed ours.
    pub(crate) linger: Duration,
}

/// What the front uses: a minute covers a line that comes and goes, and two
/// seconds the engine's last words.
pub(crate) const PATIENCE: Patience = Patience { stalled: Duration::from_secs(60), linger: Duration::from_secs(2) };

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// When to stop for a newer connection, and what to say then (may be nothing).
pub(crate) struct Farewell<'a> {
    pub(crate) leave: &'a CancellationToken,
    pub(crate) packet: &'a [u8],
}

/// Copies both ways until an end; then lets the engine finish.
pub(crate) async fn splice<C, E>(client: C, engine: E, farewell: Farewell<'_>, patience: Patience) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    E: AsyncRead + AsyncWrite,
{
    let (mut client_read, mut client_write) = split(client);
    let (mut engine_read, mut engine_write) = split(engine);
    let ended = tokio::select! {
        ended = up(&mut client_read, &mut engine_write, patience.stalled) => ended,
        ended = down(&mut engine_read, &mut client_write, &farewell, patience.stalled) => ended,
    };
    // Whoever ended it: the engine hears the end, and what it still had to say
    // has nobody left to go to.
    let finished = timeout(patience.linger, async {
        engine_write.shutdown().await?;
        tokio::io::copy(&mut engine_read, &mut tokio::io::sink()).await
    });
    if !matches!(finished.await, Ok(Ok(_))) {
        tracing::debug!("the broker engine did not close a connection in time");
    }
    ended
}

/// Client to engine, to the client's end.
async fn up<R, W>(from: &mut R, to: &mut W, stalled: Duration) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n = from.read(&mut chunk).await?;
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        timeout(stalled, to.write_all(bytes)).await??;
    }
}

/// Engine to client, to the engine's end or the farewell.
async fn down<R, W>(from: &mut R, to: &mut W, farewell: &Farewell<'_>, stalled: Duration) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut packets = Boundaries::default();
    loop {
        let leaving = farewell.leave.is_cancelled();
        let n = if leaving {
            if packets.between() {
                timeout(stalled, to.write_all(farewell.packet)).await??;
                return timeout(stalled, to.shutdown()).await?;
            }
            timeout(stalled, from.read(&mut chunk)).await??
        } else {
            tokio::select! {
                biased;
                () = farewell.leave.cancelled() => continue,
                n = from.read(&mut chunk) => n?,
            }
        };
        let Some(bytes) = chunk.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return timeout(stalled, to.shutdown()).await?;
        };
        packets.pass(bytes);
        timeout(stalled, async {
            to.write_all(bytes).await?;
            to.flush().await
        })
        .await??;
    }
}

/// Knows from the bytes that went by whether a packet is in the middle.
#[derive(Default)]
struct Boundaries {
    at: Position,
}

#[derive(Default)]
enum Position {
    /// Between two packets.
    #[default]
    Between,
    /// In the length, with its bits so far and the place of the next seven.
    Length(usize, u32),
    /// In the body, with so many bytes to come.
    Body(usize),
}

impl Boundaries {
    fn between(&self) -> bool {
        matches!(self.at, Position::Between)
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.at = match self.at {
                Position::Between => Position::Length(0, 0),
                Position::Length(so_far, shift) => {
                    // rumqttd writes lengths of four bytes at most.
                    let length = so_far | usize::from(byte & 0x7f).unbounded_shl(shift);
                    match (byte & 0x80 != 0, length) {
                        (true, _) => Position::Length(length, shift + 7),
                        (false, 0) => Position::Between,
                        (false, _) => Position::Body(length),
                    }
                }
                Position::Body(left) => {
                    let (_, after) = bytes.split_at(left.min(bytes.len()));
                    let left = left - (bytes.len() - after.len());
                    bytes = after;
                    self.at = if left == 0 { Position::Between } else { Position::Body(left) };
                    continue;
                }
            };
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    const SHORT: Patience = Patience { stalled: Duration::from_millis(100), linger: Duration::from_millis(100) };

    async fn run(client: tokio::io::DuplexStream, engine: tokio::io::DuplexStream) -> io::Result<()> {
        let leave = CancellationToken::new();
        splice(client, engine, Farewell { leave: &leave, packet: b"" }, SHORT).await
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_end_too() {
        let (client, mut outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        let both = async {
            outside.write_all(b"to the engine").await.unwrap();
            let mut got = [0; 13];
            inside.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"to the engine");
            inside.write_all(b"answer").await.unwrap();
            drop(inside);
            let mut got = Vec::new();
            outside.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"answer");
        };
        let (spliced, ()) = tokio::join!(run(client, engine), both);
        spliced.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_let_go() {
        let (client, _outside) = duplex(64);
        let (engine, mut inside) = duplex(64);
        let feeding = async move { while inside.write_all(&[0; 64]).await.is_ok() {} };
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
        let farewell = Farewell { leave: &leave, packet: b"bye" };
        let scene = async {
            inside.write_all(b"\x30\x04ab").await.unwrap();
            let mut got = [0; 4];
            outside.read_exact(&mut got).await.unwrap();
            leave.cancel();
            inside.write_all(b"cd").await.unwrap();
            let mut got = Vec::new();
            outside.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"cdbye");
            drop(inside);
        };
        let (spliced, ()) = tokio::join!(splice(client, engine, farewell, SHORT), scene);
        spliced.unwrap();
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_cut() {
        let mut stream = b"\xd0\x00\x30\x03abc\x30\x80\x01".to_vec();
        stream.extend([7; 128]);
        let ends = [0, 2, 7, stream.len()];
        for step in 1..stream.len() {
            let mut boundaries = Boundaries::default();
            let mut seen = 0;
            for cut in stream.chunks(step) {
                assert_eq!(boundaries.between(), ends.contains(&seen), "step {step} at {seen}");
                boundaries.pass(cut);
                seen += cut.len();
            }
            assert!(boundaries.between());
        }
    }
}
