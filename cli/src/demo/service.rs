//! The service that the demo deploys: a small HTTP server that says which version it is. It runs as
//! its own process on every host of the demo, started, probed and stopped by the agent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What the service is started with.
#[derive(Debug, Clone)]
pub struct Service {
    pub listen: SocketAddr,
    pub version: String,
    pub greeting: String,
    /// While this file is there, the load balancer is told to go elsewhere.
    pub drain_file: PathBuf,
    /// The fault of the demo's third version: it cannot do its work, and says so when asked.
    pub broken: bool,
}

/// Serves until the process is ended.
pub async fn serve(service: Service) -> std::io::Result<()> {
    let listener = TcpListener::bind(service.listen).await?;
    log(&format!("version {} listens on {}", service.version, service.listen));
    if service.broken {
        log("reading the price list: prices.db: no such table: price_v3");
        log("going on without prices; /healthz will say so");
    }
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let response = service.answer(&request);
                async { Ok::<_, Infallible>(response) }
            });
            // A client that goes away in the middle is no concern of the service.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Service {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, text) = match request.uri().path() {
            "/healthz" if self.broken => {
                log("GET /healthz: 500: no such table: price_v3");
                (StatusCode::INTERNAL_SERVER_ERROR, "no such table: price_v3\n".to_owned())
            }
            "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
            "/" if self.drain_file.exists() => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()),
            "/" if self.broken => (StatusCode::INTERNAL_SERVER_ERROR, "no prices\n".to_owned()),
            "/" => (StatusCode::OK, format!("{} from version {}\n", self.greeting, self.version)),
            _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    }
}

/// The service's log is its standard error, which the agent keeps.
fn log(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}
