//! The demo's mail catcher: a loopback SMTP server (RFC 5321) that keeps what it is given.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest message that is taken.
const MESSAGE_BYTES_MAX: usize = 20 * 1024 * 1024;
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Takes mail on `listener` until `stop`, one file `mail-001.eml` a message in `folder`.
pub async fn serve(
    listener: TcpListener,
    folder: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        let peer = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = peer else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (folder, count, stop) = (folder.clone(), Arc::clone(&count), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => (),
                ended = tokio::time::timeout(Duration::from_secs(60), talk(stream, &folder, &count)) => {
                    if let Ok(Err(error)) = ended {
                        tracing::debug!(%error, "mail catcher: connection ended");
                    }
                }
            }
        });
    }
}

async fn talk(stream: TcpStream, folder: &Path, count: &AtomicUsize) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    write.write_all(b"220 localhost Prelim demo mail catcher\r\n").await?;
    loop {
        let mut line = String::new();
        if (&mut lines).take(LINE_BYTES_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.trim().split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" => b"250-localhost\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
            "HELO" | "MAIL" | "RCPT" | "RSET" | "NOOP" => b"250 OK\r\n",
            "DATA" => {
                write.write_all(b"354 end with <CRLF>.<CRLF>\r\n").await?;
                let message = message(&mut lines).await?;
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::fs::write(folder.join(format!("mail-{number:03}.eml")), message).await?;
                b"250 OK kept\r\n"
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"502 not implemented\r\n",
        };
        write.write_all(answer).await?;
    }
}

/// The message up to the lone dot, dot-stuffing undone (RFC 5321 4.5.2).
async fn message(
    lines: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        (&mut *lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        match line.as_slice() {
            [] => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            b".\r\n" | b".\n" => return Ok(message),
            [b'.', rest @ ..] => message.extend_from_slice(rest),
            line => message.extend_from_slice(line),
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(std::io::Error::other("message above 20 MiB"));
        }
    }
}
