//! Metrics on a port of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::metrics::Metrics;
use crate::error::{Error, ErrorKind, Result};

/// A request's head is never longer, in bytes.
const REQUEST_LIMIT_BYTES: usize = 8 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nobody is let in after that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the metrics on `address` until the process ends. Only this machine's own addresses are taken.
pub(super) async fn serve(address: SocketAddr, metrics: Arc<Mutex<Metrics>>) -> Result<SocketAddr> {
    if !address.ip().is_loopback() {
        let what = "metrics are served to this machine only; let a proxy of yours carry them further, or write them with --metrics FILE";
        return Err(Error::new(ErrorKind::Config, what).with("address", address));
    }
    let failed = |e| Error::new(ErrorKind::Io, "metrics cannot be served there").with("address", address).caused_by(e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            // Too many open files, or a caller that went away meanwhile, passes.
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let metrics = metrics.clone();
            tokio::spawn(async move {
                // Whoever goes away, or says nothing, gets nothing.
                let _ = timeout(REQUEST_TIMEOUT, answer(stream, &metrics)).await;
            });
        }
    });
    Ok(bound)
}

async fn answer(mut stream: TcpStream, metrics: &Mutex<Metrics>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await?;
        if read == 0 || request.len() + read > REQUEST_LIMIT_BYTES {
            return Ok(());
        }
        request.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    let (status, body) = match request.split(|byte| *byte == b' ').collect::<Vec<_>>().as_slice() {
        [b"GET", b"/metrics", ..] => ("200 OK", metrics.lock().to_text()),
        [b"GET", ..] => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_are_served_to_this_machine_only() {
        let metrics = Arc::new(Mutex::new(Metrics::default()));
        assert!(serve("0.0.0.0:0".parse().unwrap(), metrics.clone()).await.is_err());
        let address = serve("127.0.0.1:0".parse().unwrap(), metrics).await.unwrap();
        for (path, status) in [("/metrics", "200"), ("/other", "404")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }
}
