//! A TCP proxy whose connections can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Counts the ports tried so far, from a port that follows from the process id.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A free port outside the kernel's range for outgoing connections, which could take it before a
/// broker does.
fn free_port() -> u16 {
    loop {
        let number = std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Ordering::SeqCst);
        let port = 5000 + (number % 4000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Forwards connections until it is cut.
pub struct Proxy {
    /// The port that it listens at.
    pub port: u16,
    /// The port that it forwards to.
    pub to: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Starts a proxy at a free port; it forwards to another port that is free now.
    pub fn start() -> Proxy {
        let to = free_port();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (is_cut, open) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let proxy = Proxy {
            port,
            to,
            is_cut: is_cut.clone(),
            open: Arc::clone(&open),
        };
        // The thread ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                let copy = |stream: &TcpStream| stream.try_clone().expect("a stream");
                let mut all = open.lock().expect("the connections");
                all.extend([copy(&client), copy(&server)]);
                drop(all);
                pass(copy(&client), copy(&server));
                pass(server, client);
            }
        });
        proxy
    }

    /// The broker's setting that makes it listen behind the proxy.
    pub(crate) fn link(&self) -> String {
        format!("--link={}:{}", self.to, self.port)
    }

    /// Closes all connections and refuses new ones.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().expect("the connections").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Accepts connections again.
    pub fn heal(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
