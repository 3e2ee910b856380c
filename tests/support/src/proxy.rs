//! A connection that can be cut: what goes to one port is passed on to another, until it is not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Where to look for a free port next, from a port that follows from the process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that is free, and not one of those that connections are given: one could have it before a broker does.
fn free_port() -> u16 {
    loop {
        let number = std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Ordering::SeqCst);
        let port = 5000 + (number % 4000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Passes connections on while it is not cut.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    /// Where it passes them on to.
    pub to: u16,
    is_cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Listens at a port of its own, for a port that is free now.
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
        // It ends with the process.
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

    /// Ends all connections and takes no more.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.open.lock().expect("the connections").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Takes connections again.
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
